/** How good lists are for users (by what they took), and what they do to the catalogue (by what they show). */

/** Of one user and one list, cut at k. `list` holds rows, best first. */
export interface UserMeasures {
  /** 1 when any held-out item is among the first k. */
  readonly hit: number;
  /** Share of the held-out items among the first k. */
  readonly recall: number;
  /** Binary gains, 1 / log2(place + 1); the ideal list has all held-out items first. */
  readonly ndcg: number;
  /** 1 over the place of the first held-out item; 0 without one. */
  readonly mrr: number;
}

export function userMeasures(list: ArrayLike<number>, heldOut: ReadonlySet<number>, k: number): UserMeasures {
  let found = 0;
  let gain = 0;
  let first = 0;
  for (let i = 0; i < Math.min(k, list.length); i++) {
    if (!heldOut.has(list[i]!)) continue;
    found++;
    gain += 1 / Math.log2(i + 2);
    if (first === 0) first = i + 1;
  }
  let ideal = 0;
  for (let i = 0; i < Math.min(k, heldOut.size); i++) ideal += 1 / Math.log2(i + 2);
  return {
    hit: found > 0 ? 1 : 0,
    recall: found / heldOut.size,
    ndcg: gain / ideal,
    mrr: first === 0 ? 0 : 1 / first,
  };
}

/** Of all lists together, cut at k. */
export interface CatalogueMeasures {
  /** Share of the catalogue that stands in a list at all. */
  readonly coverage: number;
  /** Gini coefficient of how often each item of the catalogue is shown: 0 all alike, near 1 a few take all. */
  readonly gini: number;
}

/** `catalogue`: items that could be shown. */
export function catalogueMeasures(
  lists: readonly ArrayLike<number>[],
  k: number,
  catalogue: number,
): CatalogueMeasures {
  const shown = new Map<number, number>();
  for (const list of lists) {
    for (let i = 0; i < Math.min(k, list.length); i++) shown.set(list[i]!, (shown.get(list[i]!) ?? 0) + 1);
  }
  // Items never shown come first in ascending order and add nothing but their number.
  const counts = Float64Array.from(shown.values()).sort();
  const before = catalogue - counts.length;
  let sum = 0;
  let weighted = 0;
  counts.forEach((count, i) => {
    sum += count;
    weighted += (before + i + 1) * count;
  });
  return {
    coverage: counts.length / catalogue,
    gini: sum === 0 ? 0 : (2 * weighted) / (catalogue * sum) - (catalogue + 1) / catalogue,
  };
}

/** Popularity rank of each item as a share: near 0 the most popular, 1 the least; ties by row. */
export function popularityRanks(popularity: Float64Array): Float64Array {
  const order = Uint32Array.from(popularity.keys()).sort((a, b) => popularity[b]! - popularity[a]! || a - b);
  const ranks = new Float64Array(popularity.length);
  order.forEach((row, at) => {
    ranks[row] = (at + 1) / popularity.length;
  });
  return ranks;
}
