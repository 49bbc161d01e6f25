/** Model outputs as float32, whatever floating type the graph ends in. */
import { BelfryError } from '../errors.js';
import type { TensorData } from '../types.js';

/** `what` names the output in messages: `model two-tower@1.0, output user_embedding`. */
export function float32Of(tensor: TensorData | undefined, what: string): Float32Array {
  if (tensor === undefined)
    throw new BelfryError('BELFRY_MODEL_OUTPUT_INVALID', `${what}: the model returned no such output`);
  const { data, dtype } = tensor;
  if (data instanceof Float32Array) return data;
  if (data instanceof Float64Array) return Float32Array.from(data);
  if (dtype === 'float16' && data instanceof Uint16Array) return Float32Array.from(data, float16Value);
  throw new BelfryError(
    'BELFRY_MODEL_OUTPUT_INVALID',
    `${what}: expected float32, float64 or float16, received ${dtype}`,
  );
}

/** IEEE 754 binary16 to a number. */
function float16Value(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
