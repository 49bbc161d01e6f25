// Reading and writing of f32 `.npy` matrices (format version 1.0, little-endian, C order): whole, or row by row for files
// that do not fit into one Buffer.
import { closeSync, fstatSync, openSync, readSync, renameSync, writeSync } from 'node:fs';

const MAGIC = '\x93NUMPY\x01\x00';
/** What is read as f32, or as it is for integers. */
const DTYPES = { '<f2': Uint16Array, '<f4': Float32Array, '<f8': Float64Array, '<i4': Int32Array };
const CHUNK_BYTES = 1 << 26;

function header(dtype, rows, dims) {
  let text = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${rows}, ${dims}), }`;
  text = `${text.padEnd(118 - 1)}\n`;
  const bytes = Buffer.alloc(10);
  bytes.write(MAGIC, 'latin1');
  bytes.writeUInt16LE(text.length, 8);
  return Buffer.concat([bytes, Buffer.from(text)]);
}

function writeAll(file, bytes) {
  for (let at = 0; at < bytes.byteLength;)
    at += writeSync(file, bytes, at, Math.min(CHUNK_BYTES, bytes.byteLength - at));
}

/**
 * Writes a rows x dims f32 matrix that `fill(row, target)` makes row by row. The file appears under its name only when
 * it is whole.
 * @param {(row: number, target: Float32Array) => void} fill writes dims values into `target`
 */
export function writeRows(path, rows, dims, fill) {
  const file = openSync(`${path}.tmp`, 'w');
  try {
    writeAll(file, header('<f4', rows, dims));
    const perChunk = Math.max(1, Math.floor(CHUNK_BYTES / 4 / dims));
    const chunk = new Float32Array(Math.min(rows, perChunk) * dims);
    for (let first = 0; first < rows; first += perChunk) {
      const count = Math.min(perChunk, rows - first);
      for (let i = 0; i < count; i++) fill(first + i, chunk.subarray(i * dims, (i + 1) * dims));
      writeAll(file, new Uint8Array(chunk.buffer, 0, count * dims * 4));
    }
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.tmp`, path);
}

/** @param {Float32Array | Int32Array} values row-major, whole rows of `dims` */
export function writeNpy(path, values, dims) {
  const file = openSync(`${path}.tmp`, 'w');
  try {
    writeAll(file, header(values instanceof Float32Array ? '<f4' : '<i4', values.length / dims, dims));
    writeAll(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.tmp`, path);
}

/**
 * Shape, dtype and place of the values of a 2-D f2, f4, f8 or i4 `.npy`, little-endian, C order.
 * @throws Error that names the file and what is not supported
 */
export function npyHeader(path) {
  const file = openSync(path, 'r');
  try {
    const start = Buffer.alloc(4096);
    const got = readSync(file, start, 0, start.length, 0);
    if (got < 12 || start.toString('latin1', 0, 6) !== MAGIC.slice(0, 6))
      throw new Error(`${path} is not an .npy file`);
    const wide = start[6] > 1;
    const length = wide ? start.readUInt32LE(8) : start.readUInt16LE(8);
    const offset = (wide ? 12 : 10) + length;
    const text = start.toString('latin1', wide ? 12 : 10, Math.min(offset, got));
    const dtype = /'descr':\s*'([^']+)'/.exec(text)?.[1];
    const shape = /'shape':\s*\((\d+),\s*(\d+)\)/.exec(text);
    if (!(dtype in DTYPES) || shape === null || !/'fortran_order':\s*False/.test(text)) {
      throw new Error(`${path}: the bench reads 2-D f2, f4, f8 or i4 matrices in C order, not ${text.trim()}`);
    }
    const rows = Number(shape[1]);
    const dims = Number(shape[2]);
    if (fstatSync(file).size < offset + rows * dims * DTYPES[dtype].BYTES_PER_ELEMENT)
      throw new Error(`${path} is cut off before ${rows} x ${dims}`);
    return { rows, dims, dtype, offset };
  } finally {
    closeSync(file);
  }
}

/** Values of rows [first, first + count) of an `.npy`, row-major; all rows by default. f2 and f8 become f32. */
export function readNpy(path, first = 0, count = undefined) {
  const { rows, dims, dtype, offset } = npyHeader(path);
  const wanted = Math.min(rows - first, count ?? rows);
  const values = new DTYPES[dtype](wanted * dims);
  const bytes = new Uint8Array(values.buffer);
  const file = openSync(path, 'r');
  try {
    const start = offset + first * dims * values.BYTES_PER_ELEMENT;
    for (let at = 0; at < bytes.length;) {
      const got = readSync(file, bytes, at, Math.min(CHUNK_BYTES, bytes.length - at), start + at);
      if (got === 0) throw new Error(`${path} ended while it was read`);
      at += got;
    }
  } finally {
    closeSync(file);
  }
  if (values instanceof Uint16Array) return Float32Array.from(values, halfToFloat);
  return values instanceof Float64Array ? Float32Array.from(values) : values;
}

function halfToFloat(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
