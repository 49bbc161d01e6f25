/**
 * How good a list of answers is beside the exact one. All of it by score, never by row: an answered row is a hit when its
 * score (f32, as the core rounds it) reaches the k-th exact score, so that of rows that tie any one will do.
 */

/** The best rows of each query, best first: query q has the first counts[q] entries from q x width on. */
export interface Lists {
  readonly width: number;
  readonly rows: Uint32Array;
  readonly scores: Float32Array;
  readonly counts: Uint32Array;
}

/** One entry a query. */
export interface Hits {
  readonly found: Uint32Array;
  /** k, or less where fewer rows may be returned. */
  readonly wanted: Uint32Array;
  /** Answers that named a row a second time; these count once. */
  readonly repeated: number;
}

/** What recall@k is made of: the sum of `found` over the sum of `wanted`. */
export function countHits(answers: Lists, exact: Lists, k: number): Hits {
  const queries = exact.counts.length;
  const found = new Uint32Array(queries);
  const wanted = new Uint32Array(queries);
  let repeated = 0;
  for (let q = 0; q < queries; q++) {
    const most = Math.min(k, exact.counts[q]!);
    wanted[q] = most;
    if (most === 0) continue;
    const threshold = exact.scores[q * exact.width + most - 1]!;
    const seen = new Set<number>();
    for (let i = 0; i < Math.min(k, answers.counts[q]!); i++) {
      const at = q * answers.width + i;
      if (seen.has(answers.rows[at]!)) repeated++;
      else if (answers.scores[at]! >= threshold) found[q]!++;
      seen.add(answers.rows[at]!);
    }
    found[q] = Math.min(found[q]!, most);
  }
  return { found, wanted, repeated };
}

/** 1 over the exact rank of the first answer of each query, rows that tie sharing the best rank; 0 without an answer. */
export function reciprocalRanks(answers: Lists, exact: Lists): Float64Array {
  return Float64Array.from(exact.counts, (count, q) => {
    if (count === 0 || answers.counts[q] === 0) return 0;
    const rank = exactRank(answers.scores[q * answers.width]!, exact, q);
    return rank > count ? 0 : 1 / rank;
  });
}

/**
 * NDCG@k of each query with the exact list as the ideal: a row of exact rank r <= k gains k + 1 - r, at place p divided by
 * log2(p + 1). 1 says that the answer is the exact one, in its order; ties may stand in any order.
 */
export function ndcg(answers: Lists, exact: Lists, k: number): Float64Array {
  const gains = (lists: Lists, q: number): number => {
    let total = 0;
    const seen = new Set<number>();
    for (let i = 0; i < Math.min(k, lists.counts[q]!); i++) {
      const at = q * lists.width + i;
      const rank = exactRank(lists.scores[at]!, exact, q);
      if (rank <= k && !seen.has(lists.rows[at]!)) total += (k + 1 - rank) / Math.log2(i + 2);
      seen.add(lists.rows[at]!);
    }
    return total;
  };
  return Float64Array.from(exact.counts, (count, q) => (count === 0 ? 1 : gains(answers, q) / gains(exact, q)));
}

/**
 * Goes through the exact top k of every query and says of each row whether the answer holds it. A row that ties with the
 * k-th score may be stood in for by another of that score, but no better row by one: so what is found adds up to `countHits`,
 * or to less where surplus ties make up for better rows there.
 */
export function eachExactRow(
  answers: Lists,
  exact: Lists,
  k: number,
  visit: (row: number, isFound: boolean, q: number) => void,
): void {
  for (let q = 0; q < exact.counts.length; q++) {
    const most = Math.min(k, exact.counts[q]!);
    const first = q * exact.width;
    const threshold = exact.scores[first + most - 1]!;
    const truth = exact.rows.subarray(first, first + most);
    const own = new Set(truth);
    const answered = new Set<number>();
    let standIns = 0;
    for (let i = 0; i < Math.min(k, answers.counts[q]!); i++) {
      const at = q * answers.width + i;
      const row = answers.rows[at]!;
      if (!own.has(row) && !answered.has(row) && answers.scores[at]! >= threshold) standIns++;
      answered.add(row);
    }
    truth.forEach((row, i) => {
      const isThere = answered.has(row);
      const isStoodInFor = !isThere && standIns > 0 && exact.scores[first + i]! === threshold;
      if (isStoodInFor) standIns--;
      visit(row, isThere || isStoodInFor, q);
    });
  }
}

/** 1 and the number of exact rows that score higher. */
function exactRank(score: number, exact: Lists, q: number): number {
  const first = q * exact.width;
  let low = 0;
  let high = exact.counts[q]!;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (exact.scores[first + middle]! > score) low = middle + 1;
    else high = middle;
  }
  return low + 1;
}
