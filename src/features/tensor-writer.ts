/** Numbers → tensor data of the dtype that a graph wants. */
import type { TensorDtype, TensorValues } from '../types.js';

/** What a binding can feed. */
export const BINDABLE_DTYPES = [
  'float32',
  'float64',
  'float16',
  'int32',
  'int64',
  'bool',
  'string',
] as const satisfies readonly TensorDtype[];
export type BindableDtype = (typeof BINDABLE_DTYPES)[number];

export function isBindable(dtype: string): dtype is BindableDtype {
  return (BINDABLE_DTYPES as readonly string[]).includes(dtype);
}

/** Largest whole number up to which every one is exact: an index beyond it would reach another row of the embedding. */
export const EXACT_INTEGERS: Readonly<Record<BindableDtype, number>> = {
  float16: 2 ** 11,
  float32: 2 ** 24,
  float64: 2 ** 53,
  int32: 2 ** 31 - 1,
  int64: 2 ** 53,
  bool: 1,
  string: Number.POSITIVE_INFINITY,
};

/** Copies the first `count` numbers; the source may be scratch that is used again. */
export function toTensorValues(
  dtype: Exclude<BindableDtype, 'string'>,
  numbers: Float64Array,
  count: number,
): TensorValues {
  const source = numbers.subarray(0, count);
  switch (dtype) {
    case 'float32':
      return new Float32Array(source);
    case 'float64':
      return new Float64Array(source);
    case 'int32':
      return new Int32Array(source);
    case 'bool':
      return Uint8Array.from(source, (value) => (value !== 0 ? 1 : 0));
    case 'float16':
      return Uint16Array.from(source, float16Bits);
    case 'int64': {
      // As two halves: a BigInt per element costs more than the whole rest of the binding.
      const halves = new Int32Array(count * 2);
      for (let i = 0; i < count; i++) {
        const value = source[i]!;
        halves[2 * i] = value;
        // Indices are small and positive; the division is for the rest.
        halves[2 * i + 1] = value >= 0 && value < 4294967296 ? 0 : Math.floor(value / 4294967296);
      }
      return new BigInt64Array(halves.buffer);
    }
  }
}

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);

/** IEEE 754 binary16, round to nearest even. */
export function float16Bits(value: number): number {
  word[0] = value;
  const x = bits[0]!;
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Below 2^-14 the result is subnormal: a multiple of 2^-24.
    const scaled = Math.abs(word[0]) * 2 ** 24;
    const floor = Math.floor(scaled);
    const rest = scaled - floor;
    const roundsUp = rest > 0.5 || (rest === 0.5 && floor % 2 === 1);
    return sign | (floor + (roundsUp ? 1 : 0));
  }
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}
