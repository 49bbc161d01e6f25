/** Items that the graph has lost: the index holds them, and no walk comes by, not even for their own vector. */
import { spread } from '../../ann/build-graph.js';
import { readRows } from '../../ann/read-rows.js';
import { walkRescore } from '../../ann/planner.js';
import type { Generation } from '../../generation/generation.js';
import { searchAll } from './searches.js';

export interface Reach {
  /** Rows that were looked for, spread over the catalogue. */
  readonly rows: number;
  /** Of these, rows that stand in the exact top 10 of their own vector: only they can be missed. */
  readonly judged: number;
  /** Judged rows that a long walk does not return. */
  readonly unreachable: number;
  readonly examples: readonly number[];
  /** Rows that are not among the best 10 of their own vector: under inner product, longer ones are. */
  readonly hidden: number;
}

const K = 10;
/** Far more effort than a request for ten items gets. */
const EFFORT = { mode: 'walk', ef: 256, stop: 1.35, rescore: walkRescore(K) } as const;
/** Missed rows that an exact search judges; of more, as many spread over them, and the counts are scaled up. */
const JUDGED_MAX = 2000;

/** Undefined without a graph: a scan reaches everything. */
export async function reachOf(
  generation: Generation,
  wanted: number,
  onProgress: (done: number, total: number) => void,
  signal: AbortSignal | undefined,
): Promise<Reach | undefined> {
  const { index, items, skippedItems } = generation;
  if (index.info.graph === undefined) return undefined;
  const skipped = [...skippedItems];
  const exclude = Uint32Array.from(skipped);
  const rows = spread(items.rows, skipped, Math.min(wanted, items.rows - skipped.length));
  const queries = await readRows(items, rows);
  const walked = await searchAll({ index, queries, k: K, exclude, onProgress, signal }, EFFORT);
  const missed = rows.filter((row, q) => !holds(walked.rows, walked.width, walked.counts[q]!, q, row));
  const sample = missed.length <= JUDGED_MAX ? missed : spread(missed.length, [], JUDGED_MAX).map((at) => missed[at]!);
  const own = await readRows(items, sample);
  const exact = await searchAll({ index, queries: own, k: K, exclude, signal }, { mode: 'exact' });
  // With ten copies of a vector one of them is as good as another: only a row above the last score must be there.
  const lost = sample.filter((row, q) => {
    const first = q * exact.width;
    const last = exact.scores[first + exact.counts[q]! - 1]!;
    const place = exact.rows.subarray(first, first + exact.counts[q]!).indexOf(row);
    return place >= 0 && (exact.counts[q]! < K || exact.scores[first + place]! > last);
  });
  const scale = sample.length === 0 ? 0 : missed.length / sample.length;
  const unreachable = Math.round(lost.length * scale);
  return {
    rows: rows.length,
    judged: rows.length - missed.length + unreachable,
    unreachable,
    examples: [...lost.subarray(0, 5)],
    hidden: missed.length - unreachable,
  };
}

function holds(all: Uint32Array, width: number, count: number, q: number, row: number): boolean {
  return all.subarray(q * width, q * width + count).includes(row);
}
