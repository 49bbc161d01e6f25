/** What `belfry bench recall` measures, in which order; `recall-report.ts` makes the report of it. */
import { ANN_BOUNDS } from '../../ann/params.js';
import { LIMITS } from '../../config/schema.js';
import type { FilterGroup } from '../../features/filter.js';
import type { Generation } from '../../generation/generation.js';
import type { PublishedGeneration } from '../../generation/data-folder.js';
import { type Interval, meanInterval } from '../interval.js';
import { countHits, type Hits, ndcg, reciprocalRanks } from '../measures.js';
import {
  type Bucket,
  byFilter,
  byPopularity,
  byQueryNorm,
  type FilterBucket,
  type FilterCase,
  hubness,
  popularityColumn,
  randomFilters,
} from './buckets.js';
import { columnFilters } from './column-filters.js';
import { diagnose, type Diagnosis } from './diagnosis.js';
import { type Drift, driftBetween } from './drift.js';
import { chooseQueries, type Queries } from './queries.js';
import { exactLists } from './searches.js';
import { type EffortPoint, sweep, sweepOf } from './sweep.js';
import { spreadQueries } from '../../ann/calibrate.js';

export interface RecallOptions {
  /** Ascending; none above the number of items. */
  readonly ks: readonly number[];
  /** Of these ks every effort is measured; the first is the one that buckets are made of. */
  readonly sweepKs: readonly number[];
  /** What requests ask for. */
  readonly recall: number;
  readonly queries: number;
  /** `.npy` of query vectors instead of the generation's users. */
  readonly queryFile?: string | undefined;
  readonly rounds: number;
  /** Queries of a round. */
  readonly timed: number;
  readonly filterShares: readonly number[];
  readonly filter?: FilterGroup | undefined;
  readonly popularity?: string | undefined;
  /** Items that are looked for by a walk, each by a query that singles it out; 0 for none. */
  readonly reachRows: number;
  readonly previous?: PublishedGeneration | undefined;
  readonly temporary: string;
  readonly onProgress: (stage: string, done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** What a request for k items gets that asks for the recall of the run. */
export interface Served extends EffortPoint {
  readonly hits: Hits;
  readonly mrr: Interval;
  readonly ndcg: Interval;
  /** Queries that came back with fewer than k. */
  readonly short: number;
}

export interface RecallResult {
  readonly queries: Queries;
  /** Exact queries per second in batches, all threads. */
  readonly exactPerSecond: number;
  readonly served: readonly Served[];
  /** Of the sweep, by k. */
  readonly points: readonly EffortPoint[];
  readonly buckets: {
    readonly k: number;
    readonly norms: readonly Bucket[];
    readonly popularity: readonly Bucket[];
    readonly popularitySource: string;
    readonly filters: readonly FilterBucket[];
  };
  readonly diagnosis: Diagnosis;
  readonly drift?: Drift | undefined;
}

/** Errors: those of chooseQueries and of native searches; BELFRY_STOPPED by the signal. */
export async function benchRecall(generation: Generation, options: RecallOptions): Promise<RecallResult> {
  const { ks, sweepKs, recall, onProgress, signal } = options;
  const { searcher, index, items, itemTable } = generation;
  const exclude = Uint32Array.from(generation.skippedItems);
  const known = popularityColumn(itemTable, options.popularity);
  const queries = await chooseQueries(generation, {
    count: options.queries,
    file: options.queryFile,
    temporary: options.temporary,
    signal,
  });
  const asked = { index, queries: queries.vectors, exclude, signal };

  const started = performance.now();
  const exact = await exactLists({
    ...asked,
    k: Math.max(...ks, ...sweepKs),
    onProgress: (done, total) => onProgress('exact truth', done, total),
  });
  const exactPerSecond = (queries.count / (performance.now() - started)) * 1000;

  const hasGraph = index.info.graph !== undefined;
  const efMax = Math.min(LIMITS.ef.max, ANN_BOUNDS.ef.max);
  const askings = [
    ...[...new Set([...ks, ...sweepKs])].map((k) => ({ k, asking: { recall } })),
    ...sweepKs.flatMap((k) => sweepOf(k, hasGraph, efMax)).filter(({ asking }) => !isTarget(asking, recall)),
  ];
  const points = await sweep({
    searcher,
    queries: queries.vectors,
    exact,
    exclude,
    askings,
    rounds: options.rounds,
    timed: spreadQueries(queries.vectors, items.dims, options.timed),
    onProgress: (done, total) => onProgress('recall and latency', done, total),
    signal,
  });
  const served = points.slice(0, ks.length).map((point): Served => ({
    ...point,
    hits: countHits(point.lists, exact, point.k),
    mrr: meanInterval(reciprocalRanks(point.lists, exact)),
    ndcg: meanInterval(ndcg(point.lists, exact, point.k)),
    short: point.lists.counts.reduce((sum, count) => sum + (count < point.k ? 1 : 0), 0),
  }));

  const k = sweepKs[0]!;
  const first = points.find((one) => one.k === k)!; // what requests ask for comes first
  const hubs = hubness(exact, k, items.rows);
  const cases: FilterCase[] = [
    ...(await randomFilters(items.rows, options.filterShares)),
    ...(await columnFilters(generation, options.filterShares, options.filter)),
  ];
  const filters: FilterBucket[] = [];
  for (const [at, one] of cases.entries()) {
    onProgress('filters', at, cases.length);
    filters.push(await byFilter(one, { searcher, queries: queries.vectors, exclude, k, recall, signal }));
  }
  onProgress('filters', cases.length, cases.length);

  const diagnosis = await diagnose(generation, { queries, hubs, k, reachRows: options.reachRows, onProgress, signal });
  const drift =
    options.previous === undefined
      ? undefined
      : await driftBetween(options.previous, generation, { k, onProgress, signal });
  return {
    queries,
    exactPerSecond,
    served,
    points: points.filter((point) => sweepKs.includes(point.k)),
    buckets: {
      k,
      norms: byQueryNorm(normsOf(queries.vectors, items.dims), countHits(first.lists, exact, k)),
      popularity: byPopularity(known?.values ?? hubs, first.lists, exact, k),
      popularitySource: known?.source ?? 'times in an exact list',
      filters,
    },
    diagnosis,
    drift,
  };
}

function isTarget(asking: object, recall: number): boolean {
  return 'recall' in asking && asking.recall === recall;
}

/** Euclidean norms of the rows. */
export function normsOf(vectors: Float32Array, dims: number): Float64Array {
  return Float64Array.from({ length: vectors.length / dims }, (_, row) => {
    let sum = 0;
    for (let d = row * dims; d < (row + 1) * dims; d++) sum += vectors[d]! ** 2;
    return Math.sqrt(sum);
  });
}
