/**
 * Which way a search goes: a walk over the graph with an effort that was calibrated for the recall asked for, or a scan of
 * all codes, whichever is cheaper by the costs measured on this machine. The caller says what he wants (`recall`, `exact`,
 * or the expert's `ef`), never how; what was chosen and why is in the plan, for `explain`.
 *
 * A target is met by the cheapest calibrated point whose lower confidence bound reaches it (index-wide, on held-out queries),
 * so "0.95" means 0.95 or a little more.
 */
import { BelfryError } from '../errors.js';
import type { NativeSearch } from './addon.js';
import { ANN_BOUNDS, defaultRescore } from './params.js';

/** One effort of a walk and what it gave on the calibration's queries. */
export interface CalibrationPoint {
  readonly k: number;
  /** Rows kept while walking, at least k. */
  readonly ef: number;
  /** Distance-adaptive stop: the walk ends at this ratio of squared distances to the k-th row so far. */
  readonly stop: number;
  readonly recall: number;
  /** Lower end of the 95 % interval of the mean over queries. */
  readonly recallLow: number;
  /** One query on one thread: its work (rows scored, pool kept) at the median price measured. */
  readonly microseconds: number;
}

/** How much more effort a filtered walk needs for the recall of an unfiltered one, by the share of rows allowed. */
export interface FilterEffort {
  readonly share: number;
  readonly factor: number;
}

/** One query, on one thread, median. */
export interface SearchCosts {
  /** A scan for a single query. */
  readonly scanMicroseconds: number;
  /** The same for each query of a large batch. */
  readonly bulkMicroseconds: number;
}

export interface Calibration {
  /** Where the held-out queries came from: real users, or, without any, items standing in for them. */
  readonly source: 'users' | 'items';
  readonly queries: number;
  readonly kernel: string;
  readonly costs: SearchCosts;
  /** By k, then by cost; only points that no other beats in both recall and cost. */
  readonly points: readonly CalibrationPoint[];
  readonly filters: readonly FilterEffort[];
}

/** At most one of recall, exact and ef; none: the default recall. A recall of 1 is exactness. */
export interface Wanted {
  readonly k: number;
  readonly recall?: number | undefined;
  readonly exact?: boolean | undefined;
  readonly ef?: number | undefined;
  /** Queries of the call. */
  readonly batch?: number | undefined;
  /** Share of rows that the filter allows. */
  readonly share?: number | undefined;
}

export type Effort = Pick<NativeSearch, 'mode' | 'ef' | 'stop' | 'stopRank' | 'rescore'>;

export interface Plan {
  readonly effort: Effort;
  /** The recall that was asked for, and the calibrated one of what was chosen (1 for scans; unknown for an explicit ef). */
  readonly target: number;
  readonly expectedRecall?: number;
  readonly expectedMicroseconds?: number;
  /** In a few words. */
  readonly why: string;
}

export class SearchPlanner {
  constructor(
    private readonly rows: number,
    /** Absent: there is no graph, so everything is scanned. */
    private readonly calibration?: Calibration,
    private readonly defaultRecall: number = ANN_BOUNDS.recall.default,
  ) {}

  /** Errors: BELFRY_INVALID_ARGUMENT for more than one of recall, exact and ef. */
  plan(wanted: Wanted): Plan {
    const asked = [wanted.recall !== undefined, wanted.exact === true, wanted.ef !== undefined].filter(Boolean).length;
    if (asked > 1) {
      throw new BelfryError('BELFRY_INVALID_ARGUMENT', 'recall, exact, ef: expected at most one of the three', {
        field: 'recall',
      });
    }
    // However good a walk was measured to be, that is no proof.
    if (wanted.exact === true || wanted.recall === 1)
      return { effort: { mode: 'exact' }, target: 1, expectedRecall: 1, why: 'exact was asked for' };
    const scan: Effort = { mode: 'codes', rescore: defaultRescore(wanted.k) };
    if (this.calibration === undefined)
      return { effort: scan, target: 1, expectedRecall: 1, why: 'there is no graph: all rows are scanned' };
    if (wanted.ef !== undefined) {
      return {
        effort: this.walk(wanted.k, Math.max(wanted.ef, wanted.k), ANN_BOUNDS.stop.default),
        target: 0,
        why: `ef ${wanted.ef} was asked for`,
      };
    }

    const target = wanted.recall ?? this.defaultRecall;
    const scanCost = this.scanCost(wanted.batch ?? 1);
    const point = this.pointFor(wanted.k, target);
    if (point === undefined) {
      return {
        effort: scan,
        target,
        expectedRecall: 1,
        expectedMicroseconds: scanCost,
        why: `no calibrated walk reaches recall ${target} at k ${wanted.k}`,
      };
    }
    const factor = wanted.share === undefined ? 1 : this.filterFactor(wanted.share);
    const cost = point.microseconds * factor;
    if (cost >= scanCost) {
      return {
        effort: scan,
        target,
        expectedRecall: 1,
        expectedMicroseconds: scanCost,
        why: `a scan (${scanCost.toFixed(0)} us) costs less than a walk (${cost.toFixed(0)} us)`,
      };
    }
    return {
      // It stops by the row that it stopped by in the calibration: by an earlier one, a smaller k would be found worse.
      effort: {
        ...this.walk(wanted.k, Math.ceil(point.ef * factor), point.stop),
        stopRank: Math.max(point.k, wanted.k),
      },
      target,
      expectedRecall: point.recall,
      expectedMicroseconds: cost,
      why: `the cheapest walk whose recall is surely at least ${target}; a scan costs ${scanCost.toFixed(0)} us`,
    };
  }

  private walk(k: number, ef: number, stop: number): Effort {
    return { mode: 'walk', ef: Math.min(Math.max(ef, k), ANN_BOUNDS.ef.max), stop, rescore: walkRescore(k) };
  }

  /** Cost of a query in a scan of `batch` queries: the codes are read once for all of them. */
  private scanCost(batch: number): number {
    const { scanMicroseconds, bulkMicroseconds } = this.calibration!.costs;
    return bulkMicroseconds + Math.max(0, scanMicroseconds - bulkMicroseconds) / batch;
  }

  /** Points of the smallest calibrated k that is not below; the best of an answer are never harder to find than its rest. */
  private pointFor(k: number, target: number): CalibrationPoint | undefined {
    const { points } = this.calibration!;
    const table = Math.min(...points.filter((point) => point.k >= Math.min(k, this.rows)).map((point) => point.k));
    let best: CalibrationPoint | undefined;
    for (const point of points) {
      if (point.k !== table || point.recallLow < target) continue;
      if (best === undefined || point.microseconds < best.microseconds) best = point;
    }
    return best;
  }

  /** The factor of the nearest calibrated share that is not above. */
  private filterFactor(share: number): number {
    let found = 1;
    let nearest = -1;
    for (const { share: calibrated, factor } of this.calibration!.filters) {
      if (calibrated <= share && calibrated > nearest) [nearest, found] = [calibrated, factor];
    }
    return nearest < 0 ? Math.max(1, ...this.calibration!.filters.map(({ factor }) => factor)) : found;
  }
}

/**
 * Rows of a walk that are scored again from their vectors. 8-bit keys err by a place or two: on GloVe 12 rows for k = 10 gave
 * the recall of 30, and cost a tenth of the query less.
 */
export function walkRescore(k: number): number {
  return Math.ceil(1.2 * k) + 2;
}
