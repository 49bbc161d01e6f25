/**
 * What most users like, of one generation: an answer that needs no search. By a number column of the items that says how
 * popular they are, else by the score of the mean user.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { LIMITS } from '../config/schema.js';
import type { Generation } from '../generation/generation.js';
import { historyOf } from '../generation/history.js';
import type { Row } from '../types.js';
import type { ItemView } from '../upserts/item-view.js';
import { excludedRows, metadataColumns, metadataOf, rowsOf, shortScore } from './answer.js';
import type { Query } from './query-vector.js';
import type { QuerySource, RetrieveRequest, RetrieveResponse } from './request.js';

const POPULARITY =
  /^(item_)?(popularity|interactions?|interaction_count|views?|view_count|plays?|play_count|sales|purchases?)$/i;
/** Room for what a request leaves out. */
const LENGTH = LIMITS.k.max + 1000;
const ROWS_PER_TURN = 16_384;

interface PopularList {
  /** Best first. */
  readonly rows: ArrayLike<Row>;
  readonly scores: ArrayLike<number>;
}

export class PopularLists {
  private readonly lists = new WeakMap<Generation, PopularList>();

  async prepare(generation: Generation): Promise<void> {
    this.lists.set(generation, (await byColumn(generation)) ?? (await byMeanUser(generation)));
  }

  /** Undefined before the list is made, and for a request with a filter or rules, which would have to be evaluated. */
  answer(request: RetrieveRequest, view: ItemView): RetrieveResponse | undefined {
    const { generation } = view;
    const list = this.lists.get(generation);
    if (list === undefined || request.filter !== undefined || request.rules !== undefined) return undefined;
    const columns = metadataColumns(request.withMetadata, generation);
    const left = new Set(excludedRows(request, whoAsks(request.source, view), view));
    const items: RetrieveResponse['items'][number][] = [];
    for (let at = 0; at < list.rows.length && items.length < request.k; at++) {
      const id = generation.itemIds.idOf(list.rows[at]!);
      const row = view.rowOf(id); // where the item is now, if it is anywhere
      if (row === undefined || left.has(row)) continue;
      const score = shortScore(list.scores[at]!);
      items.push({
        id,
        score,
        retrieval_score: score,
        retrieval_rank: items.length + 1,
        ...(columns.length === 0 ? {} : { metadata: metadataOf(row, columns, view) }),
      });
    }
    return {
      items,
      generation: generation.id,
      models: {},
      degraded: ['popular_list'],
      returned: items.length,
      timings: { total: 0 },
    };
  }
}

/** Whose list it is, for what it leaves out. */
function whoAsks(source: QuerySource, view: ItemView): Pick<Query, 'userId' | 'seen'> {
  switch (source.kind) {
    case 'user':
      return {
        userId: source.id,
        seen: historyOf({ ...view.generation.userTable.featuresOf(source.id), id: source.id }, view).seen,
      };
    case 'features':
      return { seen: historyOf(source.features, view).seen };
    case 'items':
      return { seen: Uint32Array.from(rowsOf(source.ids, view)) };
    case 'embedding':
      return { seen: new Uint32Array(0) };
  }
}

async function byColumn({ itemTable, itemIds, skippedItems }: Generation): Promise<PopularList | undefined> {
  const column = itemTable.columns.find(({ name, kind }) => kind === 'number' && POPULARITY.test(name));
  if (column === undefined) return undefined;
  const values = new Float64Array(itemIds.size).fill(Number.NEGATIVE_INFINITY);
  for (let row = 0; row < values.length; row++) {
    if (row % ROWS_PER_TURN === ROWS_PER_TURN - 1) await nextTurn();
    const value = itemTable.valueAt(row, column.name);
    if (typeof value === 'number' && Number.isFinite(value) && !skippedItems.has(row)) values[row] = value;
  }
  const threshold = values.slice().sort().at(-Math.min(LENGTH, values.length)) ?? 0;
  const rows: Row[] = [];
  for (let row = 0; row < values.length; row++)
    if (values[row]! >= threshold && values[row] !== Number.NEGATIVE_INFINITY) rows.push(row);
  rows.sort((a, b) => values[b]! - values[a]! || a - b);
  return { rows: rows.slice(0, LENGTH), scores: rows.slice(0, LENGTH).map((row) => values[row]!) };
}

async function byMeanUser({ searcher, defaultQuery, itemIds }: Generation): Promise<PopularList> {
  const k = Math.min(LENGTH, itemIds.size);
  return k === 0
    ? { rows: [], scores: [] }
    : searcher.search({ query: defaultQuery, k, exact: true, exclude: new Uint32Array(0) });
}
