import { loadAddon, type NativeMatrix } from '../../src/ann/addon.js';

/** A NativeMatrix of small test data. */
export async function matrixOf(values: Float32Array, dims: number): Promise<NativeMatrix> {
  const builder = await loadAddon().createMatrix({ rows: values.length / dims, dims });
  for (let at = 0; at < values.length; at += 1 << 20) builder.append(values.subarray(at, at + (1 << 20)));
  return builder.finish();
}
