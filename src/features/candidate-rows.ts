/**
 * Dense tensors of the candidates of one user, written where they stay: what is alike in all rows is encoded once and
 * copied as a block, padding comes with it, and of each candidate only what it has is written. Half the CPU time of one
 * number after the other, for the 217 numbers that the sample's DLRM takes of each of 500 candidates.
 */
import type { TensorValues } from '../types.js';
import type { FeatureColumn } from './feature-column.js';
import type { FeedMemory } from './feed-memory.js';
import type { Slot } from './feature-slot.js';
import type { BindableDtype } from './tensor-writer.js';

/** int64 as pairs of int32, low half first: a BigInt per element costs more than all else. */
type Cells = Float32Array | Float64Array | Int32Array;

/**
 * Writes what the items in `rows` have over the template: item i from cell `at + i * stride` on. `step` is the distance
 * of two numbers in cells.
 */
export type CandidateWriter = (rows: ArrayLike<number>, out: Cells, stride: number, at: number, step: number) => void;

const INT32_MAX = 2 ** 31 - 1;

/** `encoded` is by stored entry or by word of the dictionary; NaN is skipped. Null where the low half of an int64 does not hold them all. */
export function candidateWriter(
  slot: Slot,
  column: FeatureColumn,
  encoded: Float64Array,
  dtype: BindableDtype,
): CandidateWriter | null {
  if (!isWritable(dtype)) return null;
  const isLow = (value: number): boolean => Number.isNaN(value) || (value >= 0 && value <= INT32_MAX);
  if (dtype === 'int64' && !(encoded.every(isLow) && isLow(slot.pad) && isLow(slot.missing))) return null;
  if (column.kind === 'string_list' || column.kind === 'number_list')
    return listWriter(slot, column.offsets, encoded, column.kind === 'string_list' ? column.codes : null);
  const codes = column.kind === 'string' ? column.codes : null;
  return (rows, out, stride, at) => {
    for (let i = 0, to = at; i < rows.length; i++, to += stride) {
      const row = rows[i]!;
      if (row < 0) continue;
      const entry = codes === null ? row : codes[row]!;
      if (entry >= 0) out[to] = encoded[entry]!;
    }
  };
}

function listWriter(
  slot: Slot,
  offsets: Uint32Array,
  encoded: Float64Array,
  codes: Int32Array | null,
): CandidateWriter {
  const { width, keepsLast } = slot;
  return (rows, out, stride, at, step) => {
    for (let i = 0, to = at; i < rows.length; i++, to += stride) {
      const row = rows[i]!;
      if (row < 0) continue;
      let start = offsets[row]!;
      const end = offsets[row + 1]!;
      // Where the list has no entry the template stands; where all are skipped, padding does.
      if (start < end && slot.hasMissing) out[to] = slot.pad;
      if (keepsLast) {
        // Back to where the last entries begin that fill the width.
        let count = 0;
        let from = end;
        while (from > start && count < width)
          if (!Number.isNaN(encoded[codes === null ? --from : codes[--from]!]!)) count++;
        start = from;
      }
      for (let entry = start, cell = to, last = to + width * step; entry < end && cell < last; entry++) {
        const number = encoded[codes === null ? entry : codes[entry]!]!;
        if (Number.isNaN(number)) continue;
        out[cell] = number;
        cell += step;
      }
    }
  };
}

/** What every row begins with for an item without entries: its missing value, then padding. */
export function writeAbsent(slot: Slot, out: Float64Array, at: number): void {
  out.fill(slot.pad, at, at + slot.width);
  if (!slot.isList || slot.hasMissing) out[at] = slot.missing;
}

export function isWritable(dtype: BindableDtype): boolean {
  return dtype === 'float32' || dtype === 'float64' || dtype === 'int32' || dtype === 'int64';
}

/** `rows` copies of the row, by doubling: few large moves. */
export function repeatedRow(
  row: TensorValues,
  rows: number,
  memory: FeedMemory,
): { cells: Cells; values: TensorValues; step: number } {
  const isLong = row instanceof BigInt64Array;
  const template = (isLong ? new Int32Array(row.buffer) : row) as Cells;
  const cells = memory.take(template.constructor as Float32ArrayConstructor, template.length * rows) as Cells;
  cells.set(template as never, 0);
  for (let filled = template.length; filled > 0 && filled < cells.length; filled *= 2)
    cells.copyWithin(filled, 0, Math.min(filled, cells.length - filled));
  return { cells, values: isLong ? longs(cells) : cells, step: isLong ? 2 : 1 };
}

function longs({ buffer, byteOffset, byteLength }: Cells): BigInt64Array {
  return new BigInt64Array(buffer, byteOffset, byteLength / 8);
}
