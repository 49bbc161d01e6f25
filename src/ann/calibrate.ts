/**
 * Learns, on held-out queries against exact truth, what effort gives what recall at what cost. Recall counts by score: a
 * returned row whose score reaches the k-th true score is a hit, so ties are no misses.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { NativeIndex, NativeSearch } from './addon.js';
import { ANN_BOUNDS, defaultRescore } from './params.js';
import { type Calibration, type CalibrationPoint, type FilterEffort, type ProbePoint, walkRescore } from './planner.js';

export interface CalibrateOptions {
  readonly index: NativeIndex;
  /** count x dims, row-major, disjoint from what the graph was built with. */
  readonly queries: Float32Array;
  readonly source: Calibration['source'];
  /** Rows that may not be returned, as in serving (rows left out of the export). */
  readonly exclude?: Uint32Array;
  readonly onProgress?: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The grid: for each k the queries to measure on (recall at a large k varies less from one to the next, and costs more), and
 * the stop ratios to try (with many rows wanted, the pool ends a walk before the ratio does).
 */
const GRID = [
  { k: 10, queries: 1000, stops: [1.04, 1.08, 1.12, 1.2, 1.35] },
  { k: 30, queries: 500, stops: [1.04, 1.08, 1.15, 1.35] },
  { k: 100, queries: 250, stops: [1.04, 1.1, 1.35] },
  { k: 300, queries: 120, stops: [1.05, 1.35] },
  { k: 1000, queries: 60, stops: [1.05, 1.35] },
] as const;
/** Pool sizes as multiples of k, cut off once recall stops growing. */
const POOLS = [1, 1.6, 2.5, 4, 6, 9, 14, 22, 35, 55];
/** A k is calibrated when the rows are at least this many times as many; a smaller index is scanned. */
const ROWS_PER_K = 20;
const ENOUGH_RECALL = 0.999;
/** Partitions scanned; beyond half of the rows a scan of all is as good. */
const PROBES = [1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 64, 85, 112, 150, 200, 270, 360, 480, 640, 850];
const PROBED_SHARE = 0.5;
const SINGLE_QUERIES = 24;
/** On either side of the share at which probing takes over from walking, and beyond. */
const FILTER_SHARES = [0.5, 0.2, 0.15, 0.05];
const FILTER_FACTORS = [1, 1.5, 2, 3, 4, 6];
/** Hits of one call and values of one call stay small, so that progress shows and cancelling works. */
const HITS_PER_CALL = 1 << 18;
/** Rows drawn between two turns of the event loop: about half a millisecond. */
const ROWS_PER_TURN = 1 << 15;

/** Keeping one row in the pool costs about as much as scoring this many; measured on GloVe from ef 60 to 240. */
const POOL_COST = 4;

interface Trial {
  readonly recall: number;
  readonly recallLow: number;
  /** Rows scored for a query, and the upkeep of its pool in the same unit: the same on every run, unlike a time. */
  readonly work: number;
  /** As measured, for the price of a unit. */
  readonly microseconds: number;
}

export async function calibrate(options: CalibrateOptions): Promise<Calibration> {
  const { index, queries } = options;
  const { rows, dims } = index.info;
  const count = queries.length / dims;
  const grid = GRID.filter(({ k }) => k * ROWS_PER_K <= rows);
  const total = grid.reduce((sum, { stops }) => sum + stops.length + 1, 0) + FILTER_SHARES.length;
  let done = 0;
  const step = (): void => {
    options.signal?.throwIfAborted();
    options.onProgress?.(++done, total);
  };
  options.onProgress?.(0, total);

  const costs = await scanCosts(options);
  const kept: (Trial & Effort)[] = [];
  const prices: number[] = [];
  const probes: ProbePoint[] = [];
  const single = await singleProbePrice(options);
  for (const { k, queries: wanted, stops } of grid) {
    const sample = spreadQueries(queries, dims, wanted);
    const truth = await thresholds(options, sample, k);
    const found: (Trial & Effort)[] = [];
    for (const stop of stops) {
      let before = -1;
      for (const pool of POOLS) {
        const ef = Math.round(pool * k);
        if (ef > ANN_BOUNDS.ef.max) break;
        const trial = await walk(options, sample, k, ef, stop, truth);
        found.push({ k, ef, stop, ...trial });
        prices.push(trial.microseconds / trial.work);
        const isAsDearAsScan = trial.microseconds > 2 * costs.scanMicroseconds;
        if (trial.recall >= ENOUGH_RECALL || trial.recall - before < 0.0005 || isAsDearAsScan) break;
        before = trial.recall;
      }
      step();
    }
    kept.push(...front(found));
    probes.push(...(await probeSweep(options, sample, k, truth, single)));
    step();
  }
  const price = median(prices);
  const points = kept.map(({ k, ef, stop, recall, recallLow, work }) => ({
    k,
    ef,
    stop,
    recall,
    recallLow,
    microseconds: work * price,
  }));
  const filters = await filterEfforts(options, points, step);
  return { source: options.source, queries: count, kernel: index.info.kernel, costs, points, probes, filters };
}

/** At most `wanted` of the queries, evenly spaced: those that come first in a file are often unlike the others. */
export function spreadQueries(queries: Float32Array, dims: number, wanted: number): Float32Array {
  const count = queries.length / dims;
  if (count <= wanted) return queries;
  const taken = new Float32Array(wanted * dims);
  for (let i = 0; i < wanted; i++) {
    const q = Math.floor(((i + 0.5) * count) / wanted);
    taken.set(queries.subarray(q * dims, (q + 1) * dims), i * dims);
  }
  return taken;
}

/** Recall by the number of partitions scanned. Rows passed are the same on every run; their price is measured. */
async function probeSweep(
  options: CalibrateOptions,
  queries: Float32Array,
  k: number,
  truth: Float32Array,
  single: number,
): Promise<ProbePoint[]> {
  const { rows, graph } = options.index.info;
  const found: (Trial & { readonly probes: number })[] = [];
  for (const probes of PROBES.filter((count) => count <= graph!.partitions)) {
    const effort = { mode: 'probe', probes, rescore: defaultRescore(k) } as const;
    const trial = await measure(options, queries, k, effort, truth);
    found.push({ probes, ...trial });
    if (trial.recall >= ENOUGH_RECALL || trial.work > PROBED_SHARE * rows) break;
  }
  const bulk = median(found.map(({ microseconds, work }) => microseconds / work));
  return front(found).map(({ probes, recall, recallLow, work }) => ({
    k,
    probes,
    recall,
    recallLow,
    microseconds: work * Math.max(single, bulk),
    bulkMicroseconds: work * bulk,
  }));
}

/** Microseconds for each row that a query alone passes. */
async function singleProbePrice({ index, queries }: CalibrateOptions): Promise<number> {
  const { dims, graph } = index.info;
  const probes = Math.max(1, Math.floor(graph!.partitions / 16));
  const prices: number[] = [];
  for (let q = 0; q < Math.min(SINGLE_QUERIES, queries.length / dims); q++) {
    const { runMs, scored } = await index.search({
      queries: queries.subarray(q * dims, (q + 1) * dims),
      k: 10,
      mode: 'probe',
      probes,
    });
    prices.push((runMs * 1000) / Math.max(1, scored));
  }
  return median(prices);
}

interface Effort {
  readonly k: number;
  readonly ef: number;
  readonly stop: number;
}

/** Points that no other beats in both recall and work, cheapest first. */
export function front<Point extends { recallLow: number; work: number }>(points: readonly Point[]): Point[] {
  const sorted = [...points].sort((a, b) => a.work - b.work);
  const kept: Point[] = [];
  for (const point of sorted) {
    if (point.recallLow > (kept.at(-1)?.recallLow ?? -1)) kept.push(point);
  }
  return kept;
}

/** Mean recall@k by score threshold, and the lower end of its 95 % interval (normal approximation over queries). */
export function recallOf(
  hits: { readonly scores: Float32Array; readonly counts: Uint32Array },
  k: number,
  truth: Float32Array,
): { recall: number; recallLow: number } {
  const count = truth.length;
  let sum = 0;
  let squares = 0;
  for (let q = 0; q < count; q++) {
    let found = 0;
    for (let i = 0; i < hits.counts[q]!; i++) if (hits.scores[q * k + i]! >= truth[q]!) found++;
    const recall = Math.min(1, found / k);
    sum += recall;
    squares += recall * recall;
  }
  const recall = sum / count;
  const variance = Math.max(0, squares / count - recall * recall);
  return { recall, recallLow: recall - 1.96 * Math.sqrt(variance / count) };
}

/** The k-th true score of each query. */
export async function thresholds(
  { index, exclude, signal }: Pick<CalibrateOptions, 'index' | 'exclude' | 'signal'>,
  queries: Float32Array,
  k: number,
  filter?: Uint8Array,
): Promise<Float32Array> {
  const { dims } = index.info;
  const count = queries.length / dims;
  const truth = new Float32Array(count);
  const step = Math.max(1, Math.floor(HITS_PER_CALL / k));
  for (let first = 0; first < count; first += step) {
    signal?.throwIfAborted();
    const end = Math.min(count, first + step);
    const { scores, counts } = await index.search({
      queries: queries.subarray(first * dims, end * dims),
      k,
      mode: 'exact',
      ...(filter === undefined ? {} : { filter }),
      ...(exclude === undefined ? {} : { exclude }),
    });
    for (let q = first; q < end; q++) {
      const found = counts[q - first]!;
      truth[q] = found === 0 ? Infinity : scores[(q - first) * k + found - 1]!;
    }
  }
  return truth;
}

function walk(
  options: CalibrateOptions,
  queries: Float32Array,
  k: number,
  ef: number,
  stop: number,
  truth: Float32Array,
  filter?: Uint8Array,
): Promise<Trial> {
  const effort = { mode: 'walk', ef, stop, rescore: walkRescore(k) } as const;
  return measure(options, queries, k, effort, truth, filter);
}

async function measure(
  { index, exclude, signal }: CalibrateOptions,
  queries: Float32Array,
  k: number,
  effort: Pick<NativeSearch, 'mode' | 'ef' | 'stop' | 'probes' | 'rescore'>,
  truth: Float32Array,
  filter?: Uint8Array,
): Promise<Trial> {
  const { dims } = index.info;
  const count = queries.length / dims;
  const scores = new Float32Array(count * k);
  const counts = new Uint32Array(count);
  const times: number[] = [];
  let scored = 0;
  const step = Math.max(
    1,
    Math.min(Math.floor(HITS_PER_CALL / k), effort.mode === 'walk' ? Math.ceil(count / 5) : count),
  );
  for (let first = 0; first < count; first += step) {
    signal?.throwIfAborted();
    const end = Math.min(count, first + step);
    const hits = await index.search({
      queries: queries.subarray(first * dims, end * dims),
      k,
      ...effort,
      ...(filter === undefined ? {} : { filter }),
      ...(exclude === undefined ? {} : { exclude }),
    });
    scores.set(hits.scores, first * k);
    counts.set(hits.counts, first);
    scored += hits.scored;
    times.push((hits.runMs * 1000 * index.info.threads) / (end - first));
  }
  const upkeep = effort.mode === 'walk' ? POOL_COST * effort.ef! : 0;
  return { ...recallOf({ scores, counts }, k, truth), work: scored / count + upkeep, microseconds: median(times) };
}

async function scanCosts({ index, queries, exclude }: CalibrateOptions): Promise<Calibration['costs']> {
  const { dims, threads } = index.info;
  const timed = async (count: number): Promise<number> => {
    const { runMs } = await index.search({
      queries: queries.subarray(0, count * dims),
      k: 10,
      mode: 'codes',
      ...(exclude === undefined ? {} : { exclude }),
    });
    return (runMs * 1000) / count;
  };
  const available = queries.length / dims;
  const single: number[] = [];
  const bulk: number[] = [];
  for (let repeat = 0; repeat < 5; repeat++) {
    single.push((await timed(1)) * threads); // a large index is scanned by all threads
    bulk.push((await timed(Math.min(256, available))) * threads);
  }
  return { scanMicroseconds: median(single), bulkMicroseconds: median(bulk) };
}

/** For random filters: by what the pool must grow for a filtered walk to keep the recall of the unfiltered one. */
async function filterEfforts(
  options: CalibrateOptions,
  points: readonly CalibrationPoint[],
  step: () => void,
): Promise<FilterEffort[]> {
  const { index, queries } = options;
  const { rows, dims } = index.info;
  const base = points.find((point) => point.k === 10 && point.recall >= 0.95);
  const efforts: FilterEffort[] = [];
  for (const share of FILTER_SHARES) {
    if (base !== undefined) {
      const sample = spreadQueries(queries, dims, 300);
      const filter = await randomBits(rows, share);
      const truth = await thresholds(options, sample, 10, filter);
      let chosen = FILTER_FACTORS.at(-1)!;
      for (const factor of FILTER_FACTORS) {
        const { recall } = await walk(options, sample, 10, Math.ceil(base.ef * factor), base.stop, truth, filter);
        if (recall >= base.recall - 0.003) {
          chosen = factor;
          break;
        }
      }
      efforts.push({ share, factor: chosen });
    }
    step();
  }
  return efforts;
}

/** The same rows every time: a small linear congruential generator (Numerical Recipes). */
async function randomBits(rows: number, share: number): Promise<Uint8Array> {
  const bits = new Uint8Array(Math.ceil(rows / 8));
  let state = 12345;
  for (let row = 0; row < rows; row++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    if (state / 2 ** 32 < share) bits[row >> 3]! |= 1 << (row & 7);
    if (row % ROWS_PER_TURN === ROWS_PER_TURN - 1) await nextTurn();
  }
  return bits;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
