/** One pass over all item vectors: their norms, and which of them are the same. */
import type { NativeMatrix } from '../../ann/addon.js';
import { readRows, rowsPerCall } from '../../ann/read-rows.js';
import { quantile } from '../interval.js';

export interface ItemFacts {
  readonly norms: { readonly min: number; readonly p50: number; readonly p99: number; readonly max: number };
  readonly zeroRows: number;
  /** Rows whose vector an earlier row has, bit by bit; and rows of the largest such group. */
  readonly duplicateRows: number;
  readonly largestGroup: number;
}

export async function itemFacts(
  items: NativeMatrix,
  skipped: ReadonlySet<number>,
  onProgress: (done: number, total: number) => void,
  signal: AbortSignal | undefined,
): Promise<ItemFacts> {
  const { rows, dims } = items;
  const norms = new Float64Array(rows - skipped.size);
  // First row of each hash; rows of one hash are compared value by value.
  const firstOf = new Map<number, number[]>();
  const groups = new Map<number, number>();
  let duplicateRows = 0;
  let at = 0;
  const step = rowsPerCall(dims);
  for (let start = 0; start < rows; start += step) {
    signal?.throwIfAborted();
    onProgress(start, rows);
    const taken = Uint32Array.from({ length: Math.min(step, rows - start) }, (_, i) => start + i);
    const values = await readRows(items, taken);
    const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (const row of taken) {
      if (skipped.has(row)) continue;
      const first = (row - start) * dims;
      norms[at++] = Math.sqrt(dot(values, first, dims));
      const hash = hashOf(words, first, dims);
      const alike = firstOf.get(hash);
      const same = alike?.find((other) => isSame(items, other, values.subarray(first, first + dims)));
      if (same !== undefined) {
        duplicateRows++;
        groups.set(same, (groups.get(same) ?? 1) + 1);
      } else if (alike === undefined) firstOf.set(hash, [row]);
      else alike.push(row);
    }
  }
  onProgress(rows, rows);
  norms.sort();
  return {
    norms: { min: norms[0] ?? 0, p50: quantile(norms, 0.5), p99: quantile(norms, 0.99), max: norms.at(-1) ?? 0 },
    zeroRows: norms.findIndex((norm) => norm > 0) === -1 ? norms.length : norms.findIndex((norm) => norm > 0),
    duplicateRows,
    largestGroup: Math.max(1, ...groups.values()),
  };
}

function dot(values: Float32Array, first: number, dims: number): number {
  let sum = 0;
  for (let d = first; d < first + dims; d++) sum += values[d]! * values[d]!;
  return sum;
}

/** FNV-1a over the words of a row. */
function hashOf(words: Uint32Array, first: number, dims: number): number {
  let hash = 0x811c9dc5;
  for (let d = first; d < first + dims; d++) hash = Math.imul(hash ^ words[d]!, 0x01000193);
  return hash >>> 0;
}

function isSame(items: NativeMatrix, row: number, values: Float32Array): boolean {
  const other = items.readRows(Uint32Array.of(row));
  return other.every((value, d) => value === values[d]);
}
