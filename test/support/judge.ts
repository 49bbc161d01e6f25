/** The naive judge of vector search: plain loops in f64, sharing no code with the engine. Seeded test data. */
import type { Metric } from '../../src/types.js';

export interface Ranked {
  readonly row: number;
  readonly score: number;
}

export function naiveScore(metric: Metric, query: ArrayLike<number>, item: ArrayLike<number>): number {
  let dot = 0;
  let distance = 0;
  let queryNorm = 0;
  let itemNorm = 0;
  for (let i = 0; i < query.length; i++) {
    const q = query[i] as number;
    const x = item[i] as number;
    dot += q * x;
    distance += (q - x) ** 2;
    queryNorm += q * q;
    itemNorm += x * x;
  }
  if (metric === 'ip') return dot;
  if (metric === 'l2') return -distance;
  return queryNorm > 0 && itemNorm > 0 ? dot / (Math.sqrt(queryNorm) * Math.sqrt(itemNorm)) : 0;
}

/** All allowed rows, best first, ties by row. */
export function naiveRank(
  metric: Metric,
  query: Float32Array,
  items: Float32Array,
  allowed: (row: number) => boolean = () => true,
): Ranked[] {
  const dims = query.length;
  const ranked: Ranked[] = [];
  for (let row = 0; row < items.length / dims; row++) {
    if (allowed(row))
      ranked.push({ row, score: naiveScore(metric, query, items.subarray(row * dims, (row + 1) * dims)) });
  }
  return ranked.sort((a, b) => b.score - a.score || a.row - b.row);
}

/** mulberry32: numbers in [0, 1) from a seed. */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

export function randomVectors(
  count: number,
  dims: number,
  seed: number,
  scale: (row: number, random: () => number) => number = () => 1,
): Float32Array {
  const random = seeded(seed);
  const values = new Float32Array(count * dims);
  for (let row = 0; row < count; row++) {
    const size = scale(row, random);
    for (let d = 0; d < dims; d++) values[row * dims + d] = normal(random) * size;
  }
  return values;
}
