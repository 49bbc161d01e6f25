/** Repeatable chance: the same seed draws the same load, the same sample and the same interval. */

/** mulberry32: numbers in [0, 1) from a seed. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Fisher and Yates, in place. */
export function shuffle<T>(list: T[], random: () => number): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1));
    [list[i], list[other]] = [list[other] as T, list[i] as T];
  }
  return list;
}

/** Draws positions by weight: `cumulative` holds the running sum of the weights. */
export function drawFrom(cumulative: Float64Array, random: () => number): number {
  const aim = random() * (cumulative.at(-1) ?? 0);
  let low = 0;
  let high = cumulative.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((cumulative[middle] as number) > aim) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Running sum of the weights 1/rank^s: rank 1 first. `s` 0 is uniform. */
export function zipfCumulative(count: number, s: number): Float64Array {
  const sums = new Float64Array(count);
  let sum = 0;
  for (let rank = 1; rank <= count; rank++) sums[rank - 1] = sum += rank ** -s;
  return sums;
}
