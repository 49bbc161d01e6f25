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

/** Some partitions scanned instead of all rows, and what that gave. */
export interface ProbePoint {
  readonly k: number;
  /** Partitions scanned for a query. */
  readonly probes: number;
  readonly recall: number;
  readonly recallLow: number;
  /** One query on one thread: rows passed at the median price measured, alone and in a large batch. */
  readonly microseconds: number;
  readonly bulkMicroseconds: number;
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
  readonly probes: readonly ProbePoint[];
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

export type Effort = Pick<NativeSearch, 'mode' | 'ef' | 'stop' | 'stopRank' | 'probes' | 'rescore'>;

export interface Plan {
  readonly effort: Effort;
  /**
   * The recall that was asked for, and what the calibration surely found for what was chosen: the lower end of its interval,
   * since the cheapest of many points is one that chance was kind to (1 for scans; unknown for an explicit ef).
   */
  readonly target: number;
  readonly expectedRecall?: number;
  readonly expectedMicroseconds?: number;
  /** In a few words. */
  readonly why: string;
}

/**
 * With a filter a search costs so many times a plain walk of the same pool: docs/decisions/0003-graph-walk.md. Up to
 * PROBED_SHARE of the rows the native core probes partitions, beyond it walks.
 */
const FILTERED_PRICE = { probe: 1.25, walk: 2.5 };
const PROBED_SHARE = 0.15;

/** Plans remembered for one k; a caller who varies the recall without end makes them anew. */
const PLANS_MAX = 64;

export class SearchPlanner {
  private readonly plans = new Map<number, Map<number, Plan>>();

  constructor(
    private readonly rows: number,
    /** Absent: there is no graph, so everything is scanned. */
    private readonly calibration?: Calibration,
    readonly defaultRecall: number = ANN_BOUNDS.recall.default,
  ) {}

  /** Otherwise there is one way to search, whatever recall is asked for. */
  get isCalibrated(): boolean {
    return this.calibration !== undefined;
  }

  /**
   * Requests ask for few different things, so that plans are remembered: most of a plan's cost is looking through the points.
   * Errors: BELFRY_INVALID_ARGUMENT for more than one of recall, exact and ef.
   */
  plan(wanted: Wanted): Plan {
    const { k, recall, exact, ef, batch, share } = wanted;
    if (exact === true || batch !== undefined || share !== undefined || (ef !== undefined && recall !== undefined))
      return this.make(wanted);
    const key = ef === undefined ? (recall ?? this.defaultRecall) : -ef; // no recall is negative
    let byRecall = this.plans.get(k);
    if (byRecall === undefined || byRecall.size >= PLANS_MAX) this.plans.set(k, (byRecall = new Map<number, Plan>()));
    let plan = byRecall.get(key);
    if (plan === undefined) byRecall.set(key, (plan = this.make(wanted)));
    return plan;
  }

  private make(wanted: Wanted): Plan {
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
      const effort = this.walk(wanted.k, wanted.ef, ANN_BOUNDS.stop.default);
      return {
        effort: { ...effort, stopRank: effort.ef! }, // by the last row of the pool, the stop rule leaves the effort to ef
        target: 0,
        expectedMicroseconds: this.walkCost(wanted, effort.ef!),
        why: `ef ${wanted.ef} was asked for`,
      };
    }

    const target = wanted.recall ?? this.defaultRecall;
    const scanCost = this.scanCost(wanted.batch ?? 1);
    const choices = [this.walkPlan(wanted, target), this.probePlan(wanted, target)].filter(
      (plan) => plan !== undefined,
    );
    const cheapest = choices.sort((a, b) => a.expectedMicroseconds - b.expectedMicroseconds)[0];
    const scanned = { effort: scan, target, expectedRecall: 1, expectedMicroseconds: scanCost };
    if (cheapest === undefined)
      return { ...scanned, why: `nothing calibrated reaches recall ${target} at k ${wanted.k}` };
    const { mode } = cheapest.effort;
    if (cheapest.expectedMicroseconds >= scanCost) {
      const cost = cheapest.expectedMicroseconds.toFixed(0);
      return { ...scanned, why: `a scan (${scanCost.toFixed(0)} us) costs less than a ${mode} (${cost} us)` };
    }
    const least = `the cheapest ${mode} whose recall is surely at least ${target}`;
    return { ...cheapest, target, why: `${least}; a scan costs ${scanCost.toFixed(0)} us` };
  }

  private walkPlan({ k, share }: Wanted, target: number): Choice | undefined {
    const point = cheapestPoint(this.pointsOf(this.calibration!.points, k), target, ({ microseconds }) => microseconds);
    if (point === undefined) return undefined;
    const factor = share === undefined ? 1 : this.filterFactor(share);
    return {
      // It stops by the row that it stopped by in the calibration: by an earlier one, a smaller k would be found worse.
      effort: { ...this.walk(k, Math.ceil(point.ef * factor), point.stop), stopRank: Math.max(point.k, k) },
      expectedRecall: point.recallLow,
      expectedMicroseconds: point.microseconds * factor * priceOf(share),
    };
  }

  /** Under a filter the best rows lie further away, and nobody has measured how many partitions that takes. */
  private probePlan({ k, share, batch = 1 }: Wanted, target: number): Choice | undefined {
    if (share !== undefined) return undefined;
    const cost = ({ microseconds, bulkMicroseconds }: ProbePoint): number =>
      shared(microseconds, bulkMicroseconds, batch);
    const point = cheapestPoint(this.pointsOf(this.calibration!.probes, k), target, cost);
    if (point === undefined) return undefined;
    return {
      effort: { mode: 'probe', probes: point.probes, rescore: defaultRescore(k) },
      expectedRecall: point.recallLow,
      expectedMicroseconds: cost(point),
    };
  }

  private walk(k: number, ef: number, stop: number): Effort {
    return { mode: 'walk', ef: Math.min(Math.max(ef, k), ANN_BOUNDS.ef.max), stop, rescore: walkRescore(k) };
  }

  /** Of an effort that nobody calibrated: at the highest price of a row of the pool that the calibration paid. */
  private walkCost({ k, share }: Wanted, ef: number): number {
    const prices = this.pointsOf(this.calibration!.points, k).map((point) => point.microseconds / point.ef);
    return prices.length === 0 ? Number.POSITIVE_INFINITY : Math.max(...prices) * ef * priceOf(share);
  }

  private scanCost(batch: number): number {
    const { scanMicroseconds, bulkMicroseconds } = this.calibration!.costs;
    return shared(scanMicroseconds, bulkMicroseconds, batch);
  }

  /** Points of the smallest calibrated k that is not below; the best of an answer are never harder to find than its rest. */
  private pointsOf<Point extends { readonly k: number }>(points: readonly Point[], k: number): Point[] {
    const table = Math.min(...points.filter((point) => point.k >= Math.min(k, this.rows)).map((point) => point.k));
    return points.filter((point) => point.k === table);
  }

  /** The larger factor of the two calibrated shares around this one, of the nearest outside of them. */
  private filterFactor(share: number): number {
    const { filters } = this.calibration!;
    const above = filters.filter((one) => one.share >= share).sort((a, b) => a.share - b.share)[0];
    const below = filters.filter((one) => one.share <= share).sort((a, b) => b.share - a.share)[0];
    return Math.max(above?.factor ?? 1, below?.factor ?? 1);
  }
}

type Choice = Pick<Plan, 'effort'> & Required<Pick<Plan, 'expectedRecall' | 'expectedMicroseconds'>>;

function priceOf(share: number | undefined): number {
  if (share === undefined) return 1;
  return share <= PROBED_SHARE ? FILTERED_PRICE.probe : FILTERED_PRICE.walk;
}

/** Cost of a query when `batch` of them share what is read. */
function shared(alone: number, inBulk: number, batch: number): number {
  return inBulk + Math.max(0, alone - inBulk) / batch;
}

function cheapestPoint<Point extends { readonly recallLow: number }>(
  points: readonly Point[],
  target: number,
  cost: (point: Point) => number,
): Point | undefined {
  let best: Point | undefined;
  for (const point of points) {
    if (point.recallLow >= target && (best === undefined || cost(point) < cost(best))) best = point;
  }
  return best;
}

/**
 * Rows of a walk that are scored again from their vectors. 8-bit keys err by a place or two: on GloVe 12 rows for k = 10 gave
 * the recall of 30, and cost a tenth of the query less.
 */
export function walkRescore(k: number): number {
  return Math.ceil(1.2 * k) + 2;
}
