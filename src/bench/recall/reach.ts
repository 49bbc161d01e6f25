/**
 * Items that the graph has lost: no path of edges leads to them. And items that are hard to come by: an ordinary walk does not
 * return them for the query that is made for them. Under inner product nobody asks such a query, so that these are no fault;
 * many more of them than before are the sign of a graph that has lost edges.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { NativeIndex } from '../../ann/addon.js';
import { spread } from '../../ann/build-graph.js';
import { walkRescore } from '../../ann/planner.js';
import type { Generation } from '../../generation/generation.js';
import { ownQueries } from './own-queries.js';
import { searchAll } from './searches.js';

export interface Reach {
  /** Rows that were looked for, spread over the catalogue. */
  readonly rows: number;
  /** Of these, rows that stand in the exact top 10 of their own query and were looked for by a walk: only they can be missed. */
  readonly judged: number;
  /** Judged rows that a walk of ef 64 does not return. */
  readonly hard: number;
  /** Of all rows, those that no path of edges from an entry of the graph leads to. */
  readonly unreachable: number;
  /** Of these, the first. */
  readonly examples: readonly number[];
}

const K = 10;
/** More effort than a request for ten items gets. */
const EFFORT = { ef: 64, stop: 1.35, rescore: walkRescore(K) };
/** Missed rows that an exact search judges; of more, as many spread over them, and the counts are scaled up. */
const JUDGED_MAX = 2000;
/** Rows between two turns of the event loop. */
const STEP = 64;

/** Undefined without a graph: a scan reaches everything. */
export async function reachOf(
  generation: Generation,
  wanted: number,
  onProgress: (done: number, total: number) => void,
  signal: AbortSignal | undefined,
): Promise<Reach | undefined> {
  const { index, items, skippedItems } = generation;
  if (index.info.graph === undefined || wanted === 0) return undefined;
  const { dims } = items;
  const skipped = [...skippedItems];
  const rows = spread(items.rows, skipped, Math.min(wanted, items.rows - skipped.length));
  const queriesOf = await ownQueries(generation);
  const missed: number[] = [];
  let scanned = 0;
  for (let start = 0; start < rows.length; start += STEP) {
    signal?.throwIfAborted();
    onProgress(start, rows.length);
    const some = rows.subarray(start, start + STEP);
    const queries = await queriesOf(some);
    for (const [q, row] of some.entries()) {
      const returned = isReturned(index, queries.subarray(q * dims, (q + 1) * dims), row);
      if (returned === undefined) scanned++;
      else if (!returned) missed.push(row);
    }
    await nextTurn();
  }
  onProgress(rows.length, rows.length);
  const sample = spread(missed.length, [], Math.min(JUDGED_MAX, missed.length)).map((at) => missed[at]!);
  const own = await queriesOf(sample);
  const exact = await searchAll({ index, queries: own, k: K, exclude: new Uint32Array(0), signal }, { mode: 'exact' });
  // With ten copies of a vector one of them is as good as another: only a row above the last score must be there.
  const hard = [...sample.keys()].filter((q) => {
    const row = sample[q]!;
    const first = q * exact.width;
    const count = exact.counts[q]!;
    const place = exact.rows.subarray(first, first + count).indexOf(row);
    return place >= 0 && (count < K || exact.scores[first + place]! > exact.scores[first + count - 1]!);
  });
  const lost = (await index.unreachable()).filter((row) => !skippedItems.has(row));
  const scaled = (count: number): number =>
    sample.length === 0 ? 0 : Math.round((count * missed.length) / sample.length);
  return {
    rows: rows.length,
    judged: rows.length - scanned - missed.length + scaled(hard.length),
    hard: scaled(hard.length),
    unreachable: lost.length,
    examples: [...lost.subarray(0, 5)],
  };
}

/** Undefined where the walk got dearer than a scan and was given up, which says nothing of the row. */
function isReturned(index: NativeIndex, query: Float32Array, row: number): boolean | undefined {
  const hits = index.walk(query, K, EFFORT.ef, EFFORT.stop, K, EFFORT.rescore);
  return hits?.rows.subarray(0, hits.counts[0]).includes(row);
}
