/** Lengths of the rows of a matrix: what the import saw of all rows, and percentiles of some. */
import { loadAddon } from '../ann/addon.js';
import { spread } from '../ann/build-graph.js';
import { readRows } from '../ann/read-rows.js';
import { norm } from '../ann/vectors.js';
import type { VectorSection } from './manifest.js';

/** More rows move a percentile by less than trainings differ. */
const SAMPLE_ROWS = 16_384;

type Norms = VectorSection['norms'];

/** Of a `.npy` of a generation; rows left out are not counted. */
export async function normProfile(
  path: string,
  overall: Pick<Norms, 'min' | 'mean' | 'max'>,
  skipped: readonly number[],
): Promise<Norms> {
  const matrix = await loadAddon().openMatrix(path);
  try {
    const { dims } = matrix;
    const rows = spread(matrix.rows, skipped, Math.min(SAMPLE_ROWS, matrix.rows - skipped.length));
    const values = await readRows(matrix, rows);
    const norms = Float64Array.from(rows, (_, i) => norm(values.subarray(i * dims, (i + 1) * dims))).sort();
    const at = (share: number): number =>
      norms.length === 0 ? 0 : norms[Math.min(norms.length - 1, Math.floor(share * norms.length))]!;
    return { ...overall, p1: at(0.01), p10: at(0.1), p50: at(0.5), p90: at(0.9), p99: at(0.99), sampled: rows.length };
  } finally {
    matrix.close();
  }
}
