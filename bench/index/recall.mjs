// Recall as the harness counts it: a returned row is a hit when its true score, summed here in f64, reaches the true k-th
// score of the query. So ties are no misses, and no engine's own scores are believed.

/** Slack for sums in another order, relative to the k-th score. */
const TOLERANCE = 1e-6;

/** Larger is better: the product (ip; cosine of unit vectors), or minus the squared distance (l2). */
export function score(metric, items, row, queries, q, dims) {
  const a = row * dims;
  const b = q * dims;
  let sum = 0;
  if (metric === 'l2') {
    for (let d = 0; d < dims; d++) sum -= (items[a + d] - queries[b + d]) ** 2;
  } else {
    for (let d = 0; d < dims; d++) sum += items[a + d] * queries[b + d];
  }
  return sum;
}

/**
 * The k-th best true score of each query.
 * @param {Int32Array} truth queries x width rows of the best items, in any order
 */
export function thresholds({ metric, items, queries, dims, truth, width, count, k }) {
  if (k > width) throw new Error(`k: the truth holds ${width} rows a query, ${k} are needed`);
  return Float64Array.from({ length: count }, (_, q) => {
    const scores = Array.from(truth.subarray(q * width, (q + 1) * width), (row) =>
      row < 0 ? -Infinity : score(metric, items, row, queries, q, dims),
    );
    return scores.sort((a, b) => b - a)[k - 1];
  });
}

/**
 * Share of the answers that are there and good enough.
 * @param {Int32Array} rows count x k, -1 where the engine returned nothing
 * @param {Float64Array} kth the k-th best true score of each query
 * @throws Error for a row that is out of range or was returned twice for a query
 */
export function recallOf({ metric, items, queries, dims, rows, kth, count, k, engine }) {
  const itemCount = items.length / dims;
  let hits = 0;
  for (let q = 0; q < count; q++) {
    const seen = new Set();
    const enough = kth[q] - TOLERANCE * Math.abs(kth[q]);
    for (let i = q * k; i < (q + 1) * k; i++) {
      const row = rows[i];
      if (row === -1) continue;
      if (row < 0 || row >= itemCount) throw new Error(`${engine} returned row ${row} of ${itemCount}`);
      if (seen.has(row)) throw new Error(`${engine} returned row ${row} twice for query ${q}`);
      seen.add(row);
      if (score(metric, items, row, queries, q, dims) >= enough) hits++;
    }
  }
  return hits / (count * k);
}
