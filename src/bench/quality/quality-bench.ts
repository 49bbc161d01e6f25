/** What `belfry bench quality` measures: held-out interactions against exact, approximate and re-ranked lists. */
import type { Generation } from '../../generation/generation.js';
import { storedHistory } from '../../generation/history.js';
import { type Interval, meanInterval } from '../interval.js';
import { popularityColumn } from '../recall/buckets.js';
import type { Interactions } from './interactions.js';
import { catalogueMeasures, popularityRanks, userMeasures } from './list-measures.js';
import { type ListOptions, type Lists, makeLists } from './lists.js';

export interface QualityOptions extends ListOptions {
  /** Column of item popularity; default those of usual names, else how often items stand in the users' histories. */
  readonly popularity?: string | undefined;
}

export const MEASURES = ['hit', 'recall', 'ndcg', 'mrr', 'popularity', 'head'] as const;
/** Of each user; `popularity`: mean popularity rank of what is shown (0 most popular); `head`: share of places of the first 1 %. */
export type MeasureName = (typeof MEASURES)[number];

export interface ListQuality {
  readonly kind: string;
  readonly k: number;
  readonly measures: Readonly<Partial<Record<MeasureName, Interval>>>;
  /** One value a user, of what `measures` are the means. */
  valuesOf(measure: MeasureName): Float64Array;
  /** Paired, by user: this list less the one that it is made from (ANN less exact, re-ranked less ANN). */
  readonly change?: { readonly from: string; readonly measures: Readonly<Partial<Record<MeasureName, Interval>>> };
  readonly coverage: number;
  readonly gini: number;
}

export interface QualityResult {
  readonly lists: readonly ListQuality[];
  readonly users: number;
  readonly interactions: Interactions;
  readonly degraded: Lists['degraded'];
  /** Where popularity is from; undefined where nobody knows it. */
  readonly popularitySource?: string | undefined;
  /** Mean popularity rank of what users took: a list as popular as that is not biased. */
  readonly takenPopularity?: number | undefined;
}

const HEAD = 0.01;

export async function benchQuality(
  generation: Generation,
  interactions: Interactions,
  options: QualityOptions,
): Promise<QualityResult> {
  const popularity = popularityColumn(generation.itemTable, options.popularity) ?? historyCounts(generation);
  const made = await makeLists(generation, interactions, options);
  const ranks = popularity === undefined ? undefined : popularityRanks(popularity.values);
  const catalogue = generation.items.rows - generation.skippedItems.size;
  const values = new Map<string, Float64Array>();
  const valuesOf = (kind: string, k: number, measure: MeasureName): Float64Array =>
    values.get(`${kind} ${k} ${measure}`) ?? new Float64Array(0);
  for (const k of options.ks) {
    for (const kind of made.kinds) {
      const columns = new Map(MEASURES.map((measure) => [measure, new Float64Array(made.users.length)]));
      made.users.forEach(({ user, lists }, at) => {
        const list = lists.get(kind)!.get(k)!;
        const { hit, recall, ndcg, mrr } = userMeasures(list, new Set(user.items), k);
        for (const [measure, value] of Object.entries({ hit, recall, ndcg, mrr, ...shownBy(list, ranks) }))
          columns.get(measure as MeasureName)![at] = value;
      });
      for (const [measure, column] of columns) {
        const isPopularity = measure === 'popularity' || measure === 'head';
        if (!isPopularity || ranks !== undefined) values.set(`${kind} ${k} ${measure}`, column);
      }
    }
  }
  const lists = options.ks.flatMap((k) =>
    made.kinds.map((kind): ListQuality => {
      const from = kind === 'exact' ? undefined : kind === 'ann' ? 'exact' : 'ann';
      const intervals = (of: (measure: MeasureName) => Float64Array) =>
        Object.fromEntries(
          MEASURES.map((measure) => [measure, of(measure)] as const)
            .filter(([, column]) => column.length > 0)
            .map(([measure, column]) => [measure, meanInterval(column)]),
        );
      const shown = made.users.map((one) => one.lists.get(kind)!.get(k)!);
      return {
        kind,
        k,
        measures: intervals((measure) => valuesOf(kind, k, measure)),
        valuesOf: (measure) => valuesOf(kind, k, measure),
        ...(from === undefined
          ? {}
          : {
              change: {
                from,
                measures: intervals((measure) => {
                  const before = valuesOf(from, k, measure);
                  return valuesOf(kind, k, measure).map((value, at) => value - before[at]!);
                }),
              },
            }),
        ...catalogueMeasures(shown, k, catalogue),
      };
    }),
  );
  return {
    lists,
    users: made.users.length,
    interactions,
    degraded: made.degraded,
    popularitySource: popularity?.source,
    takenPopularity:
      ranks === undefined
        ? undefined
        : meanRank(
            made.users.flatMap(({ user }) => [...user.items]),
            ranks,
          ),
  };
}

function shownBy(list: Uint32Array, ranks: Float64Array | undefined): { popularity: number; head: number } {
  if (ranks === undefined || list.length === 0) return { popularity: 0, head: 0 };
  const inHead = list.reduce((sum, row) => sum + (ranks[row]! <= HEAD ? 1 : 0), 0);
  return { popularity: meanRank(list, ranks), head: inHead / list.length };
}

function meanRank(rows: Uint32Array | readonly number[], ranks: Float64Array): number {
  let sum = 0;
  for (const row of rows) sum += ranks[row]!;
  return sum / rows.length;
}

/** How often each item stands in the histories that the users table holds. */
function historyCounts(generation: Generation): { source: string; values: Float64Array } | undefined {
  const values = new Float64Array(generation.items.rows);
  let entries = 0;
  for (const id of generation.userTable.ids) {
    for (const row of storedHistory(id, generation, generation.itemIds)) {
      values[row]!++;
      entries++;
    }
  }
  return entries === 0 ? undefined : { source: 'times in histories of users', values };
}
