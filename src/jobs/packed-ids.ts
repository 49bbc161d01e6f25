/** Item ids as bytes, for writing: a fraction of the memory of strings, and copied without decoding. */
import { readFile } from 'node:fs/promises';
import { loadAddon } from '../ann/addon.js';
import type { Id } from '../types.js';

const NEWLINE = 10;
const RETURN = 13;

/** Parquet writes `integer` as INT64 and `string` as UTF-8. */
export type WrittenKind = 'integer' | 'string';

export interface PackedIds {
  readonly kind: WrittenKind;
  /** Ids of rows in Parquet's PLAIN encoding. */
  plain(rows: Uint32Array): Uint8Array;
  /** Ids by row, where the export has integer ids. */
  readonly integers?: BigInt64Array;
}

/**
 * Ids of a generation's file, which the build has checked; without one, ids are the row numbers of its `rows` items. After
 * them those of `changed` items.
 */
export async function packIds(path: string | undefined, rows = 0, changed: readonly Id[] = []): Promise<PackedIds> {
  if (path === undefined && changed.length === 0) return { kind: 'integer', plain: plainRows };
  if (path?.endsWith('.txt') === true) {
    const bytes = await readFile(path);
    if (changed.length === 0) return packText(bytes);
    const end = bytes.at(-1) === NEWLINE || bytes.length === 0 ? '' : '\n';
    return packText(Buffer.concat([bytes, Buffer.from(`${end}${changed.join('\n')}`)]));
  }
  const stored =
    path === undefined
      ? BigInt64Array.from({ length: rows }, (_, row) => BigInt(row))
      : await loadAddon().readIds(path);
  const integers = new BigInt64Array(stored.length + changed.length);
  integers.set(stored);
  for (const [at, id] of changed.entries()) integers[stored.length + at] = BigInt(id);
  return { kind: 'integer', integers, plain: (wanted) => plainIntegers(integers, wanted) };
}

function plainRows(rows: Uint32Array): Uint8Array {
  const words = new Uint32Array(rows.length * 2); // little endian: the low word first, the high one is 0
  for (let i = 0; i < rows.length; i++) words[2 * i] = rows[i]!;
  return new Uint8Array(words.buffer);
}

function plainIntegers(integers: BigInt64Array, rows: Uint32Array): Uint8Array {
  const out = new BigInt64Array(rows.length);
  for (let i = 0; i < rows.length; i++) out[i] = integers[rows[i]!]!;
  return new Uint8Array(out.buffer);
}

/** One id a line, read as IdMap.fromText reads it: a byte order mark and a carriage return are no part of an id. */
function packText(bytes: Uint8Array): PackedIds {
  let lines = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) lines++;
  // Start and end of each line; doubles, because a file may be larger than 4 GiB.
  const bounds = new Float64Array(2 * (lines + 1));
  let row = 0;
  for (let at = bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0; at < bytes.length; row++) {
    const newline = bytes.indexOf(NEWLINE, at);
    const end = newline < 0 ? bytes.length : newline;
    bounds[2 * row] = at;
    bounds[2 * row + 1] = end > at && bytes[end - 1] === RETURN ? end - 1 : end;
    at = end + 1;
  }
  const plain = (rows: Uint32Array): Uint8Array => {
    let size = 0;
    for (const one of rows) size += 4 + bounds[2 * one + 1]! - bounds[2 * one]!;
    const out = new Uint8Array(size);
    const view = new DataView(out.buffer);
    let to = 0;
    for (const one of rows) {
      const [start, end] = [bounds[2 * one]!, bounds[2 * one + 1]!];
      view.setUint32(to, end - start, true);
      out.set(bytes.subarray(start, end), to + 4);
      to += 4 + end - start;
    }
    return out;
  };
  return { kind: 'string', plain };
}
