/** Where recall is lost: by the norm of the query, by how popular the item is, by how much a filter leaves. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { NativeFilter } from '../../ann/addon.js';
import type { Searcher } from '../../ann/searcher.js';
import { BelfryError, show } from '../../errors.js';
import type { FeatureTable } from '../../features/feature-table.js';
import { type Interval, quantile, ratioInterval } from '../interval.js';
import { countHits, eachExactRow, type Hits, type Lists } from '../measures.js';
import { seeded } from '../random.js';
import { exactLists, searchAll } from './searches.js';

export interface Bucket {
  readonly name: string;
  /** Queries, or exact rows, that are in it. */
  readonly size: number;
  readonly recall: Interval;
}

const NORM_BUCKETS = 5;
/** Names that exports give to how often an item was taken. */
const POPULARITY_COLUMNS = [
  'popularity',
  'interactions',
  'interaction_count',
  'num_interactions',
  'count',
  'clicks',
  'views',
];
/** Upper ends of the popularity ranks, as shares of the items that anybody took. */
const POPULARITY_ENDS = [
  [0.01, 'head: first 1 %'],
  [0.1, '1 to 10 %'],
  [0.5, '10 to 50 %'],
  [1, 'tail: last 50 %'],
] as const;
/** Rows drawn between two turns of the event loop. */
const ROWS_PER_TURN = 1 << 15;

/** Fifths of the queries by Euclidean norm; one bucket where all are of one length. */
export function byQueryNorm(norms: Float64Array, { found, wanted }: Hits): Bucket[] {
  const sorted = norms.slice().sort();
  const ends = Array.from({ length: NORM_BUCKETS }, (_, i) => quantile(sorted, (i + 1) / NORM_BUCKETS));
  if (sorted.at(-1)! - sorted[0]! <= 1e-3 * sorted.at(-1)!)
    return [bucket(`all norms ${sorted[0]?.toPrecision(3)}`, [...norms.keys()], found, wanted)];
  return ends.flatMap((end, i) => {
    const start = i === 0 ? -Infinity : ends[i - 1]!;
    const inside = [...norms.keys()].filter((q) => norms[q]! > start && norms[q]! <= end);
    const from = i === 0 ? sorted[0]! : start;
    return inside.length === 0
      ? []
      : [bucket(`${from.toPrecision(3)} to ${end.toPrecision(3)}`, inside, found, wanted)];
  });
}

function bucket(name: string, queries: readonly number[], found: ArrayLike<number>, wanted: ArrayLike<number>): Bucket {
  const recall = ratioInterval(
    queries.map((q) => found[q]!),
    queries.map((q) => wanted[q]!),
  );
  return { name, size: queries.length, recall };
}

export interface Popularity {
  /** `column popularity`, or `times in an exact list`. */
  readonly source: string;
  readonly values: Float64Array;
}

/**
 * A number column of the item table: the one asked for, else one whose name says so. Undefined where none does.
 * Error: BELFRY_UNKNOWN_FIELD for one asked for that is not there.
 */
export function popularityColumn(table: FeatureTable, wanted: string | undefined): Popularity | undefined {
  for (const name of wanted === undefined ? POPULARITY_COLUMNS : [wanted]) {
    const column = table.column(name);
    if (column?.kind === 'number')
      return { source: `column ${name}`, values: column.values.map((value) => (Number.isNaN(value) ? 0 : value)) };
  }
  if (wanted === undefined) return undefined;
  const known = table.columns.filter(({ kind }) => kind === 'number').map(({ name }) => name);
  throw new BelfryError(
    'BELFRY_UNKNOWN_FIELD',
    `popularity: no number column ${show(wanted)} in ${table.name}; known: ${known.join(', ') || 'none'}`,
    { field: 'popularity' },
  );
}

/** How often each row stands in the exact lists: popularity by the model's own word. */
export function hubness(exact: Lists, k: number, items: number): Float64Array {
  const times = new Float64Array(items);
  exact.counts.forEach((count, q) => {
    for (let i = 0; i < Math.min(k, count); i++) times[exact.rows[q * exact.width + i]!]!++;
  });
  return times;
}

/** Of the exact rows in each band of popularity ranks, the share that the answers hold. */
export function byPopularity(popularity: Float64Array, answers: Lists, exact: Lists, k: number): Bucket[] {
  const order = Uint32Array.from(popularity.keys()).sort((a, b) => popularity[b]! - popularity[a]! || a - b);
  const taken = popularity.reduce((sum, one) => sum + (one > 0 ? 1 : 0), 0);
  const band = new Uint8Array(popularity.length).fill(POPULARITY_ENDS.length - 1);
  order.subarray(0, taken).forEach((row, rank) => {
    band[row] = POPULARITY_ENDS.findIndex(([end]) => rank < Math.ceil(end * taken));
  });
  const queries = exact.counts.length;
  const found = POPULARITY_ENDS.map(() => new Uint32Array(queries));
  const wanted = POPULARITY_ENDS.map(() => new Uint32Array(queries));
  eachExactRow(answers, exact, k, (row, isFound, q) => {
    const at = band[row]!;
    wanted[at]![q]!++;
    if (isFound) found[at]![q]!++;
  });
  return POPULARITY_ENDS.flatMap(([, name], at) => {
    const size = wanted[at]!.reduce((sum, one) => sum + one, 0);
    return size === 0 ? [] : [{ name, size, recall: ratioInterval(found[at]!, wanted[at]!) }];
  });
}

export interface FilterBucket extends Bucket {
  /** Share of the rows that may be returned. */
  readonly share: number;
  /** What answered, and milliseconds of a batched query. */
  readonly effort: string;
  /** Queries that came back with fewer than k though k were there. */
  readonly short: number;
}

export interface FilterCase {
  readonly name: string;
  readonly share: number;
  readonly filter: NativeFilter | Uint8Array;
}

/** Random rows: the same every time. */
export async function randomFilters(items: number, shares: readonly number[]): Promise<FilterCase[]> {
  const cases: FilterCase[] = [];
  for (const share of shares) {
    const random = seeded(Math.round(share * 1e6));
    const bits = new Uint8Array(Math.ceil(items / 8));
    let count = 0;
    for (let row = 0; row < items; row++) {
      if (row % ROWS_PER_TURN === ROWS_PER_TURN - 1) await nextTurn();
      if (random() >= share) continue;
      bits[row >> 3]! |= 1 << (row & 7);
      count++;
    }
    if (count > 0) cases.push({ name: `random ${share * 100} %`, share: count / items, filter: bits });
  }
  return cases;
}

export interface FilterOptions {
  readonly searcher: Searcher;
  readonly queries: Float32Array;
  readonly exclude: Uint32Array;
  readonly k: number;
  readonly recall: number;
  readonly signal?: AbortSignal | undefined;
}

/** Recall at the effort that a request with this filter gets. */
export async function byFilter(one: FilterCase, options: FilterOptions): Promise<FilterBucket> {
  const { searcher, queries, exclude, k, recall, signal } = options;
  const { effort } = searcher.planner.plan({ k, recall, share: one.share });
  const asked = { index: searcher.index, queries, k, exclude, filter: one.filter, signal };
  const exact = await exactLists(asked);
  const answers = await searchAll(asked, effort);
  const { found, wanted } = countHits(answers, exact, k);
  return {
    name: one.name,
    share: one.share,
    size: exact.counts.length,
    recall: ratioInterval(found, wanted),
    effort: effort.mode,
    short: exact.counts.reduce((sum, count, q) => sum + (answers.counts[q]! < count ? 1 : 0), 0),
  };
}
