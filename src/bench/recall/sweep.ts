/**
 * Effort against recall and latency, as serving would choose it: recall targets and explicit ef. The recall of an effort does
 * not change from run to run and is counted once, on all queries; its time does, so the efforts take turns, round by round,
 * in another order each time.
 */
import type { Effort, Plan } from '../../ann/planner.js';
import type { Searcher } from '../../ann/searcher.js';
import { type Interval, quantile, ratioInterval } from '../interval.js';
import { countHits, type Lists } from '../measures.js';
import { seeded, shuffle } from '../random.js';
import { median } from '../statistics.js';
import { searchAll, timeEach } from './searches.js';

/** What a request may say of effort. */
export type Asking = { readonly recall: number } | { readonly ef: number } | { readonly exact: true };

export interface EffortPoint {
  readonly k: number;
  readonly asking: Asking;
  readonly plan: Plan;
  readonly recall: Interval;
  /** Answers of these queries: width k. */
  readonly lists: Lists;
  /** Milliseconds of one query on its own, over all rounds. */
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  /** Median of each round. */
  readonly rounds: readonly number[];
  /** Queries per second, one after the other: 1 over the mean time. */
  readonly perSecond: number;
}

export interface SweepOptions {
  readonly searcher: Searcher;
  /** count x dims, row-major. */
  readonly queries: Float32Array;
  readonly exact: Lists;
  readonly exclude: Uint32Array;
  readonly askings: readonly { readonly k: number; readonly asking: Asking }[];
  readonly rounds: number;
  /** Queries of a round, evenly taken. */
  readonly timed: Float32Array;
  readonly onProgress: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** Recall targets of a sweep; 1 is the proof. */
const TARGETS = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
/** ef of a sweep, as multiples of k (of 10 where k is less). */
const POOLS = [1, 1.5, 2, 3, 5, 8, 13, 20];

/** Everything worth asking at one k: targets, efforts where there is a graph, and exactness. */
export function sweepOf(k: number, hasGraph: boolean, efMax: number): { k: number; asking: Asking }[] {
  if (!hasGraph) return [{ recall: 0.98 }, { exact: true as const }].map((asking) => ({ k, asking }));
  const efs = POOLS.map((pool) => Math.round(pool * Math.max(10, k))).filter((ef) => ef <= efMax);
  return [...TARGETS.map((recall) => ({ recall })), ...efs.map((ef) => ({ ef })), { exact: true as const }].map(
    (asking) => ({ k, asking }),
  );
}

export async function sweep(options: SweepOptions): Promise<EffortPoint[]> {
  const { searcher, queries, exact, exclude, askings, rounds, timed, onProgress, signal } = options;
  const total = askings.length * (1 + rounds);
  let done = 0;
  const step = (): void => {
    signal?.throwIfAborted();
    onProgress(++done, total);
  };
  onProgress(0, total);
  // Targets that the planner meets in the same way are searched once.
  const searched = new Map<string, Promise<Lists>>();
  const counted: { k: number; asking: Asking; plan: Plan; recall: Interval; lists: Lists }[] = [];
  for (const { k, asking } of askings) {
    const plan = searcher.planner.plan({ k, ...asking });
    const key = `${k} ${JSON.stringify(plan.effort)}`;
    const known = searched.get(key) ?? searchAll({ index: searcher.index, queries, k, exclude, signal }, plan.effort);
    searched.set(key, known);
    const lists = await known;
    const { found, wanted } = countHits(lists, exact, k);
    counted.push({ k, asking, plan, recall: ratioInterval(found, wanted), lists });
    step();
  }
  const times = counted.map(() => [] as Float64Array[]);
  const random = seeded(1);
  for (let round = 0; round < rounds; round++) {
    for (const at of shuffle([...counted.keys()], random)) {
      const { k, asking } = counted[at]!;
      times[at]!.push(await timeEach(searcher, timed, { k, ...asking, exclude }));
      step();
    }
  }
  return counted.map((point, at) => ({ ...point, ...summaryOf(times[at]!) }));
}

function summaryOf(rounds: readonly Float64Array[]) {
  const all = Float64Array.from(rounds.flatMap((round) => [...round])).sort();
  const mean = all.reduce((sum, ms) => sum + ms, 0) / all.length;
  return {
    p50: quantile(all, 0.5),
    p95: quantile(all, 0.95),
    p99: quantile(all, 0.99),
    rounds: rounds.map((round) => median([...round])),
    perSecond: 1000 / mean,
  };
}

/** The points that no other beats in both recall and median time, fastest first. */
export function paretoFront(points: readonly EffortPoint[]): EffortPoint[] {
  const front: EffortPoint[] = [];
  for (const point of [...points].sort((a, b) => a.p50 - b.p50))
    if (point.recall.value > (front.at(-1)?.recall.value ?? -1)) front.push(point);
  return front;
}

export function describeAsking(asking: Asking): string {
  if ('exact' in asking) return 'exact';
  return 'ef' in asking ? `ef ${asking.ef}` : `recall ${asking.recall}`;
}

export function describeEffort({ mode, ef, stop, probes }: Effort): string {
  switch (mode) {
    case 'walk':
      return `walk, ef ${ef}, stop ${stop}`;
    case 'probe':
      return `${probes} partitions`;
    case 'codes':
      return 'scan';
    default:
      return 'exact scan';
  }
}
