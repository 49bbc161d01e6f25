/**
 * Learns, on held-out queries against exact truth, what effort gives what recall at what cost. Recall counts by score: a
 * returned row whose score reaches the k-th true score is a hit, so ties are no misses.
 */
import type { NativeIndex } from './addon.js';
import { ANN_BOUNDS } from './params.js';
import { type Calibration, type CalibrationPoint, type FilterEffort, walkRescore } from './planner.js';

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

const KS = [10, 30, 100, 300, 1000];
const STOPS = [1.04, 1.08, 1.12, 1.2, 1.35];
/** Pool sizes as multiples of k, cut off once recall stops growing. */
const POOLS = [1, 1.5, 2, 3, 4, 6, 9, 13, 20, 30, 45];
const POOL_FLOOR = 16;
/** A k is calibrated when the rows are at least this many times as many; a smaller index is scanned. */
const ROWS_PER_K = 20;
const ENOUGH_RECALL = 0.999;
const FILTER_SHARES = [0.5, 0.2, 0.05, 0.02];
const FILTER_FACTORS = [1, 1.5, 2, 3, 4, 6];
/** Hits of one call and values of one call stay small, so that progress shows and cancelling works. */
const HITS_PER_CALL = 1 << 18;

interface Trial {
  readonly recall: number;
  readonly recallLow: number;
  readonly microseconds: number;
}

export async function calibrate(options: CalibrateOptions): Promise<Calibration> {
  const { index, queries } = options;
  const { rows, dims } = index.info;
  const count = queries.length / dims;
  const ks = KS.filter((k) => k * ROWS_PER_K <= rows);
  const total = ks.length * STOPS.length + FILTER_SHARES.length;
  let done = 0;
  const step = (): void => {
    options.signal?.throwIfAborted();
    options.onProgress?.(++done, total);
  };
  options.onProgress?.(0, total);

  const costs = await scanCosts(options);
  const points: CalibrationPoint[] = [];
  for (const k of ks) {
    // Recall at a large k varies less from query to query, and costs more to measure.
    const sample = queries.subarray(0, Math.min(count, k <= 30 ? 2000 : k <= 100 ? 1000 : 300) * dims);
    const truth = await thresholds(options, sample, k);
    const found: CalibrationPoint[] = [];
    for (const stop of STOPS) {
      let before = -1;
      for (const pool of POOLS) {
        const ef = Math.max(Math.round(pool * k), POOL_FLOOR);
        if (ef > ANN_BOUNDS.ef.max) break;
        const trial = await walk(options, sample, k, ef, stop, truth);
        found.push({ k, ef, stop, ...trial });
        if (trial.recall >= ENOUGH_RECALL || trial.recall - before < 0.0005 || trial.microseconds > costs.scanMicroseconds)
          break;
        before = trial.recall;
      }
      step();
    }
    points.push(...front(found));
  }
  const filters = await filterEfforts(options, points, step);
  return { source: options.source, queries: count, kernel: index.info.kernel, costs, points, filters };
}

/** Points that no other beats in both recall and cost, cheapest first. */
export function front(points: readonly CalibrationPoint[]): CalibrationPoint[] {
  const sorted = [...points].sort((a, b) => a.microseconds - b.microseconds);
  const kept: CalibrationPoint[] = [];
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
async function thresholds(
  { index, exclude, signal }: CalibrateOptions,
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

async function walk(
  { index, exclude, signal }: CalibrateOptions,
  queries: Float32Array,
  k: number,
  ef: number,
  stop: number,
  truth: Float32Array,
  filter?: Uint8Array,
): Promise<Trial> {
  const { dims } = index.info;
  const count = queries.length / dims;
  const scores = new Float32Array(count * k);
  const counts = new Uint32Array(count);
  const times: number[] = [];
  const step = Math.max(1, Math.min(Math.floor(HITS_PER_CALL / k), Math.ceil(count / 5)));
  for (let first = 0; first < count; first += step) {
    signal?.throwIfAborted();
    const end = Math.min(count, first + step);
    const hits = await index.search({
      queries: queries.subarray(first * dims, end * dims),
      k,
      mode: 'walk',
      ef,
      stop,
      rescore: walkRescore(k),
      ...(filter === undefined ? {} : { filter }),
      ...(exclude === undefined ? {} : { exclude }),
    });
    scores.set(hits.scores, first * k);
    counts.set(hits.counts, first);
    times.push((hits.runMs * 1000 * index.info.threads) / (end - first));
  }
  return { ...recallOf({ scores, counts }, k, truth), microseconds: median(times) };
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
      const sample = queries.subarray(0, Math.min(queries.length, 500 * dims));
      const filter = randomBits(rows, share);
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
function randomBits(rows: number, share: number): Uint8Array {
  const bits = new Uint8Array(Math.ceil(rows / 8));
  let state = 12345;
  for (let row = 0; row < rows; row++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    if (state / 2 ** 32 < share) bits[row >> 3]! |= 1 << (row & 7);
  }
  return bits;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}
