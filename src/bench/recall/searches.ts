/** Many queries through the native index: the exact answers, and those of an effort; and one by one as a server is asked. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { NativeFilter, NativeIndex, NativeSearch } from '../../ann/addon.js';
import { ANN_BOUNDS } from '../../ann/params.js';
import type { Effort } from '../../ann/planner.js';
import type { Search, Searcher } from '../../ann/searcher.js';
import { BelfryError } from '../../errors.js';
import type { Lists } from '../measures.js';

/** Queries of one call: enough that a scan shares its reading, few enough that progress shows and a stop is heard. */
const BATCH = 1024;
/** Queries of which the exact answer is checked by a scan of the vectors themselves. */
const CHECKED = 8;
/** Queries between two turns of the event loop. */
const TURN = 64;

export interface Asked {
  readonly index: NativeIndex;
  /** count x dims, row-major. */
  readonly queries: Float32Array;
  readonly k: number;
  readonly filter?: NativeFilter | Uint8Array | undefined;
  readonly exclude: Uint32Array;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Lists of width k, by one effort; in batches, which answer as single queries do. */
export async function searchAll(asked: Asked, effort: Effort): Promise<Lists> {
  const { index, queries, filter, exclude, onProgress, signal } = asked;
  const { dims, rows: items } = index.info;
  const k = Math.min(asked.k, items);
  const count = queries.length / dims;
  const lists = {
    width: k,
    rows: new Uint32Array(count * k),
    scores: new Float32Array(count * k),
    counts: new Uint32Array(count),
  };
  const step = Math.max(
    1,
    Math.min(
      BATCH,
      Math.floor(ANN_BOUNDS.queryValuesPerCall.max / dims),
      Math.floor(ANN_BOUNDS.hitsPerCall.default / k),
    ),
  );
  onProgress?.(0, count);
  for (let first = 0; first < count; first += step) {
    signal?.throwIfAborted();
    const end = Math.min(count, first + step);
    const call: NativeSearch = {
      queries: queries.subarray(first * dims, end * dims),
      k,
      ...effort,
      ...(filter === undefined ? {} : { filter }),
      ...(exclude.length === 0 ? {} : { exclude }),
    };
    const found = await index.search(call);
    lists.rows.set(found.rows, first * k);
    lists.scores.set(found.scores, first * k);
    lists.counts.set(found.counts, first);
    onProgress?.(end, count);
  }
  return lists;
}

/**
 * The true best, proven. Some queries are scanned a second time over the vectors themselves, whose scores must be the same
 * to the last bit. Error: BELFRY_INTERNAL where they are not, since every figure would rest on it.
 */
export async function exactLists(asked: Asked): Promise<Lists> {
  const exact = await searchAll(asked, { mode: 'exact' });
  const { dims } = asked.index.info;
  const count = exact.counts.length;
  for (let i = 0; i < Math.min(CHECKED, count); i++) {
    const q = Math.floor((i * count) / Math.min(CHECKED, count));
    const own = asked.queries.subarray(q * dims, (q + 1) * dims);
    const judge = await searchAll({ ...asked, queries: own, onProgress: undefined }, { mode: 'f32' });
    const scores = exact.scores.subarray(q * exact.width, q * exact.width + judge.counts[0]!);
    if (exact.counts[q] === judge.counts[0] && scores.every((score, at) => score === judge.scores[at])) continue;
    throw new BelfryError(
      'BELFRY_INTERNAL',
      `the exact answer to query ${q} is not that of a scan of the vectors; please report this with the CPU model`,
    );
  }
  return exact;
}

/** Milliseconds of each of the queries, asked one after the other on the way that a request takes. */
export async function timeEach(
  searcher: Searcher,
  queries: Float32Array,
  search: Omit<Search, 'query'>,
): Promise<Float64Array> {
  const { dims } = searcher.index.info;
  const times = new Float64Array(queries.length / dims);
  for (let q = 0; q < times.length; q++) {
    if (q % TURN === 0) await nextTurn();
    const query = queries.subarray(q * dims, (q + 1) * dims);
    const started = performance.now();
    await searcher.search({ ...search, query });
    times[q] = performance.now() - started;
  }
  return times;
}
