/** Arithmetic on single vectors, in f64: for checks and reports, not for searches. */
import type { Metric } from '../types.js';

/** 1 for two zero vectors, 0 when one of them is. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return aa === 0 && bb === 0 ? 1 : dot / (Math.sqrt(aa * bb) || 1);
}

/** Larger is better, as in a search. */
export function scoreOf(metric: Metric, query: ArrayLike<number>, item: ArrayLike<number>): number {
  if (metric === 'cosine') return cosine(query, item);
  let [dot, distance] = [0, 0];
  for (let i = 0; i < query.length; i++) {
    dot += query[i]! * item[i]!;
    distance += (query[i]! - item[i]!) ** 2;
  }
  return metric === 'ip' ? dot : -distance;
}

/** Euclidean. */
export function norm(vector: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) sum += vector[i]! ** 2;
  return Math.sqrt(sum);
}
