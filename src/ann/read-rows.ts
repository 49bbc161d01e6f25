/** Rows of a matrix past the bound of one native call, which is what may be copied on the JS thread in a millisecond. */
import { setImmediate } from 'node:timers/promises';
import type { NativeMatrix } from './addon.js';

const CALL_ROWS = 16_384;
const CALL_VALUES = 2_097_152;

/** How many rows of these dims one `readRows` may copy. */
export function rowsPerCall(dims: number): number {
  return Math.min(CALL_ROWS, Math.floor(CALL_VALUES / dims));
}

/** Row-major f32 values of any number of rows, in `values`; the event loop turns between the calls. */
export async function readRows(
  matrix: NativeMatrix,
  rows: Uint32Array,
  values: Float32Array = new Float32Array(rows.length * matrix.dims),
): Promise<Float32Array> {
  const { dims } = matrix;
  const step = rowsPerCall(dims);
  if (rows.length <= step) return matrix.readRows(rows, values);
  for (let start = 0; start < rows.length; start += step) {
    const some = rows.subarray(start, start + step);
    matrix.readRows(some, values.subarray(start * dims, (start + some.length) * dims));
    await setImmediate();
  }
  return values;
}
