/** The element types of the KServe v2 protocol and the dtypes that they are here. BF16 has no typed array and is not read. */
import type { TensorData, TensorDtype, TensorValues } from '../../types.js';

export interface Datatype {
  /** As the protocol names it: `FP32`. */
  readonly name: string;
  readonly dtype: TensorDtype;
  /** Of one element; null where each has its own length (BYTES). */
  readonly bytes: number | null;
  /** Values over a copy of raw little-endian bytes. */
  readonly view: ((raw: ArrayBuffer) => TensorValues) | null;
}

const DATATYPES: readonly Datatype[] = [
  { name: 'FP16', dtype: 'float16', bytes: 2, view: (raw) => new Uint16Array(raw) },
  { name: 'FP32', dtype: 'float32', bytes: 4, view: (raw) => new Float32Array(raw) },
  { name: 'FP64', dtype: 'float64', bytes: 8, view: (raw) => new Float64Array(raw) },
  { name: 'INT8', dtype: 'int8', bytes: 1, view: (raw) => new Int8Array(raw) },
  { name: 'INT16', dtype: 'int16', bytes: 2, view: (raw) => new Int16Array(raw) },
  { name: 'INT32', dtype: 'int32', bytes: 4, view: (raw) => new Int32Array(raw) },
  { name: 'INT64', dtype: 'int64', bytes: 8, view: (raw) => new BigInt64Array(raw) },
  { name: 'UINT8', dtype: 'uint8', bytes: 1, view: (raw) => new Uint8Array(raw) },
  { name: 'UINT16', dtype: 'uint16', bytes: 2, view: (raw) => new Uint16Array(raw) },
  { name: 'UINT32', dtype: 'uint32', bytes: 4, view: (raw) => new Uint32Array(raw) },
  { name: 'UINT64', dtype: 'uint64', bytes: 8, view: (raw) => new BigUint64Array(raw) },
  { name: 'BOOL', dtype: 'bool', bytes: 1, view: (raw) => new Uint8Array(raw) },
  { name: 'BYTES', dtype: 'string', bytes: null, view: null },
];
const BY_NAME = new Map(DATATYPES.map((type) => [type.name, type]));
const BY_DTYPE = new Map(DATATYPES.map((type) => [type.dtype, type]));

/** Undefined for names that the protocol, or this client, does not know. */
export function datatypeNamed(name: string): Datatype | undefined {
  return BY_NAME.get(name);
}

export function datatypeOf(dtype: TensorDtype): Datatype {
  return BY_DTYPE.get(dtype)!;
}

/** Elements of a dense tensor. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((count, dim) => count * dim, 1);
}

/** The raw bytes of a tensor, without a copy where its values are numbers. Typed arrays are little-endian on all platforms that Belfry runs on. */
export function rawBytes({ data }: Pick<TensorData, 'data'>): Uint8Array {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const texts = data.map((text) => Buffer.from(text, 'utf8'));
  const out = Buffer.allocUnsafe(texts.reduce((sum, text) => sum + 4 + text.length, 0));
  let at = 0;
  for (const text of texts) {
    at = out.writeUInt32LE(text.length, at);
    at += text.copy(out, at);
  }
  return out;
}
