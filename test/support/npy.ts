/** Writes `.npy` files of every kind, good and bad, for the tests of the reader. */
import { writeFileSync } from 'node:fs';

export interface NpyParts {
  readonly version?: number;
  readonly descr?: string;
  readonly fortran?: boolean;
  readonly shape?: readonly number[];
  /** Instead of the dict made from the above. */
  readonly text?: string;
  readonly data?: Uint8Array;
  /** Pads the header so that data starts on a multiple of this. */
  readonly align?: number;
}

export function npyBytes(parts: NpyParts): Buffer {
  const version = parts.version ?? 1;
  const shape = parts.shape ?? [0, 1];
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
  const order = parts.fortran === true ? 'True' : 'False';
  let text = parts.text ?? `{'descr': '${parts.descr ?? '<f4'}', 'fortran_order': ${order}, 'shape': ${tuple}, }`;
  const before = version === 1 ? 10 : 12;
  if (parts.text === undefined) {
    const align = parts.align ?? 64;
    text = `${text.padEnd(Math.ceil((before + text.length + 1) / align) * align - before - 1)}\n`;
  }
  const header = Buffer.from(text, 'latin1');
  const start = Buffer.alloc(before);
  start.write('\x93NUMPY', 'latin1');
  start[6] = version;
  if (version === 1) start.writeUInt16LE(header.length, 8);
  else start.writeUInt32LE(header.length, 8);
  return Buffer.concat([start, header, parts.data ?? new Uint8Array()]);
}

export function writeNpy(path: string, parts: NpyParts): string {
  writeFileSync(path, npyBytes(parts));
  return path;
}

/** The bytes of values in a dtype and byte order; `values` in file order. */
export function encode(values: readonly number[] | Float32Array | Float64Array, descr: string): Buffer {
  const kind = descr.slice(1);
  const size = Number(descr.slice(2));
  const little = descr[0] !== '>';
  const bytes = Buffer.alloc(values.length * size);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const put: Record<string, (at: number, value: number) => void> = {
    f8: (at, value) => view.setFloat64(at, value, little),
    f4: (at, value) => view.setFloat32(at, value, little),
    f2: (at, value) => view.setUint16(at, toHalf(value), little),
    i8: (at, value) => view.setBigInt64(at, BigInt(value), little),
    u8: (at, value) => view.setBigUint64(at, BigInt(value), little),
    i4: (at, value) => view.setInt32(at, value, little),
    u4: (at, value) => view.setUint32(at, value, little),
    i2: (at, value) => view.setInt16(at, value, little),
    u2: (at, value) => view.setUint16(at, value, little),
    i1: (at, value) => view.setInt8(at, value),
    u1: (at, value) => view.setUint8(at, value),
  };
  values.forEach((value: number, i: number) => {
    put[kind]!(i * size, value);
  });
  return bytes;
}

/** f64 to f16 bits for values that f16 holds exactly, and infinities and NaN. */
export function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size > 65504) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | Math.round(size * 2 ** 24);
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | Math.round((size / 2 ** exponent - 1) * 1024);
}

/** The values of a row-major matrix in Fortran order. */
export function transposed(values: readonly number[] | Float32Array, rows: number, dims: number): number[] {
  const out: number[] = [];
  for (let d = 0; d < dims; d++) for (let r = 0; r < rows; r++) out.push(values[r * dims + d] as number);
  return out;
}
