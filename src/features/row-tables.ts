/**
 * Item columns of a scorer encoded once, as rows of the tensor that they go to: what is left for each request is to copy a row
 * for each candidate. An eighth of the time of encoding 500 candidates of the sample's DLRM from their columns.
 */
import { loadAddon } from '../ann/addon.js';
import type { CandidateWriter } from './candidate-rows.js';
import type { ColumnEncoder } from './feature-slot.js';
import { Slices } from './slices.js';
import type { BindableDtype } from './tensor-writer.js';

/** Of one scorer. What is beyond is encoded from its columns for each request (candidate-rows.ts). */
export const ROW_TABLE_BYTES = 64 * 2 ** 20;
/** Rows encoded between two looks at the clock. */
const STEP = 128;

interface ItemSlot {
  readonly slot: { readonly width: number };
  readonly side: string;
  readonly column: number;
  readonly encoder: ColumnEncoder | null;
  readonly writer: CandidateWriter | null;
}

export class RowTables {
  #bytesLeft: number;

  constructor(
    private readonly items: number,
    bytes = ROW_TABLE_BYTES,
    private readonly slices = () => new Slices(),
  ) {
    this.#bytesLeft = bytes;
  }

  /** Slots of one tensor, in order: item columns that lie side by side get one writer, the first one's. */
  async joined<T extends ItemSlot>(slots: readonly T[], dtype: BindableDtype): Promise<T[]> {
    const joined: T[] = [];
    for (let first = 0; first < slots.length;) {
      let end = first;
      while (end < slots.length && slots[end]!.writer !== null) end++;
      const run = slots.slice(first, Math.max(end, first + 1));
      const writer = end === first ? null : await this.#writerOf(run, dtype);
      joined.push(
        ...(writer === null ? run : run.map((slot, at) => ({ ...slot, writer: at === 0 ? writer : nothing }))),
      );
      first += run.length;
    }
    return joined;
  }

  async #writerOf(run: readonly ItemSlot[], dtype: BindableDtype): Promise<CandidateWriter | null> {
    const width = run.reduce((sum, { slot }) => sum + slot.width, 0);
    const isDouble = dtype === 'float64';
    const bytes = this.items * width * (isDouble ? 8 : 4);
    if (bytes > this.#bytesLeft) return null;
    this.#bytesLeft -= bytes;
    const numbers = isDouble
      ? new Float64Array(bytes / 8)
      : dtype === 'float32'
        ? new Float32Array(bytes / 4)
        : new Int32Array(bytes / 4);
    const scratch = new Float64Array(STEP * width);
    const slices = this.slices();
    for (let start = 0; start < this.items; start += STEP) {
      if (slices.isOver) await slices.next();
      const rows = Int32Array.from({ length: Math.min(STEP, this.items - start) }, (_, at) => start + at);
      for (const { encoder, column } of run) encoder!(rows, scratch, width, column - run[0]!.column);
      numbers.set(scratch.subarray(0, rows.length * width), start * width);
    }
    return rowCopier(new Int32Array(numbers.buffer), isDouble ? 2 * width : width, isDouble ? 2 : 1);
  }
}

/**
 * `width` words of each item, a number being `wordsEach`: all dtypes are copied as words, by the core, for the rows lie anywhere in memory
 * and JavaScript cannot ask for the next ones before it needs them.
 */
function rowCopier(table: Int32Array, width: number, wordsEach: number): CandidateWriter {
  const { copyRows } = loadAddon();
  return (rows, out, stride, at, step) => {
    const words = new Int32Array(out.buffer, out.byteOffset, out.byteLength / 4);
    copyRows(table, width, signed(rows), words, stride * wordsEach, at * wordsEach, step);
  };
}

function signed(rows: ArrayLike<number>): Int32Array {
  if (rows instanceof Int32Array) return rows;
  return rows instanceof Uint32Array
    ? new Int32Array(rows.buffer, rows.byteOffset, rows.length)
    : Int32Array.from(rows);
}

const nothing: CandidateWriter = () => undefined;
