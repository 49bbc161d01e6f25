/**
 * One query, the cheapest way: planned, then walked on the calling thread when that takes a moment, scanned together with
 * other queries when all rows must be read, handed to the pool otherwise.
 */
import { tellWait } from '../telemetry/batches.js';
import type { NativeFilter, NativeHits, NativeIndex } from './addon.js';
import { GatheredScans } from './gathered-scans.js';
import { type Calibration, type Plan, SearchPlanner, type Wanted } from './planner.js';

export interface Search extends Pick<Wanted, 'k' | 'recall' | 'exact' | 'ef'> {
  /** dims finite values. */
  readonly query: Float32Array;
  readonly filter?: NativeFilter | undefined;
  /** Rows that are not answered. */
  readonly exclude: Uint32Array;
  /** Rows outside of it are not answered either. */
  readonly visible?: NativeFilter | undefined;
  /** Performance time after which nobody waits for the answer. */
  readonly until?: number | undefined;
}

/** Rows in the order of their scores, best first, and how they were found. */
export interface Found {
  readonly rows: Uint32Array;
  readonly scores: Float32Array;
  readonly plan: Plan;
  readonly path: NativeHits['path'];
  /** Rows that a walk scored, or that a probe passed. */
  readonly scored: number;
}

/** Walks predicted to be shorter run on the calling thread, far below the millisecond that it may be held. */
const SHORT_WALK_US = 100;
/** The bound of `NativeIndex.walk`. */
const SHORT_WALK_EF = 1024;

export class Searcher {
  readonly planner: SearchPlanner;
  private readonly scans: GatheredScans;

  constructor(
    readonly index: NativeIndex,
    /** Absent for an index without a graph. */
    calibration?: Calibration,
    /** Of searches that ask for no recall. */
    defaultRecall?: number,
  ) {
    this.planner = new SearchPlanner(index.info.rows, calibration, defaultRecall);
    this.scans = new GatheredScans(index);
  }

  /**
   * The answer itself where it is there at once, so that short walks cost no promise. Errors: those of SearchPlanner.plan and
   * of NativeIndex.search; from here or by the promise.
   */
  search(search: Search): Found | Promise<Found> {
    const { filter, k, recall, exact, ef } = search;
    const share = filter === undefined ? undefined : filter.count / this.index.info.rows;
    const plan = this.planner.plan({ k, recall, exact, ef, share });
    const hits = this.run(plan, search);
    return hits instanceof Promise ? hits.then((late) => foundLate(late, plan)) : foundOf(hits, plan);
  }

  private run(
    { effort, expectedMicroseconds = Infinity }: Plan,
    { query, k, filter, exclude, visible, until }: Search,
  ): Promise<NativeHits> | NativeHits {
    const { mode, rescore } = effort;
    if (filter === undefined && (mode === 'codes' || mode === 'exact'))
      return this.scans.search({ query, k, mode, rescore, exclude, visible, until });
    if (
      filter === undefined &&
      mode === 'walk' &&
      effort.ef! <= SHORT_WALK_EF &&
      expectedMicroseconds <= SHORT_WALK_US
    ) {
      const { ef, stop, stopRank } = effort;
      const excluded = exclude.length === 0 ? undefined : exclude;
      const hits = this.index.walk(query, k, ef, stop, stopRank, rescore, excluded, visible);
      if (hits !== undefined) return hits;
    }
    return this.index.search({
      queries: query,
      k,
      ...effort,
      ...(exclude.length === 0 ? {} : { exclude }),
      ...(visible === undefined ? {} : { visible }),
      ...(filter === undefined ? {} : { filter }),
    });
  }
}

/** Of a search on the pool, which may have waited for a thread. */
function foundLate(hits: NativeHits, plan: Plan): Found {
  tellWait('pool', hits.queueMs);
  return foundOf(hits, plan);
}

function foundOf({ rows, scores, counts, path, scored }: NativeHits, plan: Plan): Found {
  const count = counts[0]!;
  if (count === rows.length) return { rows, scores, plan, path, scored };
  return { rows: rows.subarray(0, count), scores: scores.subarray(0, count), plan, path, scored };
}
