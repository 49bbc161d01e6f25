/**
 * For each item a query that it should be the answer to. By distance and by direction that is its own vector. By inner
 * product the own vector mostly finds longer items; there it is the direction in which the item stands out most from the
 * others, taken as a normal distribution: the inverse covariance of the items times (item − mean), Fisher's discriminant.
 */
import { spread } from '../../ann/build-graph.js';
import { readRows } from '../../ann/read-rows.js';
import type { Generation } from '../../generation/generation.js';

/** More dims than this have too dear a covariance: item − mean must do. */
const DIMS_MAX = 512;
/** Rows that the covariance is taken from, at least; four times the dims where that is more. */
const ROWS = 4000;
/** Added to the variances, as a share of their mean, so that a dimension which never varies does no harm. */
const RIDGE = 1e-3;

export type OwnQueries = (rows: Uint32Array) => Promise<Float32Array>;

/** Rows in, queries out: row-major, one for each. */
export async function ownQueries({ items, skippedItems, manifest }: Generation): Promise<OwnQueries> {
  if (manifest.metric !== 'ip') return (rows) => readRows(items, rows);
  const { dims } = items;
  const skipped = [...skippedItems];
  const sample = spread(items.rows, skipped, Math.min(Math.max(ROWS, 4 * dims), items.rows - skipped.length));
  const values = await readRows(items, sample);
  const mean = new Float64Array(dims);
  for (let i = 0; i < values.length; i++) mean[i % dims]! += values[i]! / sample.length;
  const factor = dims > DIMS_MAX ? undefined : choleskyFactor(covariance(values, mean), dims);
  return async (rows) => {
    const queries = await readRows(items, rows);
    const query = new Float64Array(dims);
    for (let first = 0; first < queries.length; first += dims) {
      for (let d = 0; d < dims; d++) query[d] = queries[first + d]! - mean[d]!;
      queries.set(factor === undefined ? query : solve(factor, query), first);
    }
    return queries;
  };
}

/** dims x dims, lower triangle, with the ridge. */
function covariance(values: Float32Array, mean: Float64Array): Float64Array {
  const dims = mean.length;
  const sums = new Float64Array(dims * dims);
  const row = new Float64Array(dims);
  for (let first = 0; first < values.length; first += dims) {
    for (let d = 0; d < dims; d++) row[d] = values[first + d]! - mean[d]!;
    for (let a = 0; a < dims; a++) {
      for (let b = 0; b <= a; b++) sums[a * dims + b]! += row[a]! * row[b]!;
    }
  }
  let trace = 0;
  for (let d = 0; d < dims; d++) trace += sums[d * dims + d]!;
  for (let d = 0; d < dims; d++) sums[d * dims + d]! += (RIDGE * trace) / dims + Number.MIN_VALUE;
  return sums;
}

/** Lower triangle L of matrix = L Lᵀ, in place. */
function choleskyFactor(matrix: Float64Array, dims: number): Float64Array {
  for (let a = 0; a < dims; a++) {
    for (let b = 0; b <= a; b++) {
      let sum = matrix[a * dims + b]!;
      for (let c = 0; c < b; c++) sum -= matrix[a * dims + c]! * matrix[b * dims + c]!;
      matrix[a * dims + b] = a === b ? Math.sqrt(sum) : sum / matrix[b * dims + b]!;
    }
  }
  return matrix;
}

/** x of L Lᵀ x = right, scaled to the norm of `right`, in place: a query of an ordinary length. */
function solve(factor: Float64Array, right: Float64Array): Float64Array {
  const dims = right.length;
  const norm = Math.hypot(...right);
  for (let a = 0; a < dims; a++) {
    let sum = right[a]!;
    for (let b = 0; b < a; b++) sum -= factor[a * dims + b]! * right[b]!;
    right[a] = sum / factor[a * dims + a]!;
  }
  for (let a = dims - 1; a >= 0; a--) {
    let sum = right[a]!;
    for (let b = a + 1; b < dims; b++) sum -= factor[b * dims + a]! * right[b]!;
    right[a] = sum / factor[a * dims + a]!;
  }
  const scale = norm / (Math.hypot(...right) || 1);
  for (let d = 0; d < dims; d++) right[d]! *= scale;
  return right;
}
