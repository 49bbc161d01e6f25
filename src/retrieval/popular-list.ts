/**
 * What most users like, of one generation: an answer that needs no search. By a number column of the items that says how
 * popular they are, else by the score of the mean user.
 */
import { LIMITS } from '../config/schema.js';
import { Slices } from '../features/slices.js';
import type { Generation } from '../generation/generation.js';
import { historyOf, storedHistory } from '../generation/history.js';
import type { Row } from '../types.js';
import type { ItemView } from '../upserts/item-view.js';
import { excludedRows, metadataColumns, metadataOf, rowsOf, shortScore, WrittenAnswer } from './answer.js';
import type { Query } from './query-vector.js';
import type { QuerySource, RetrievedItem, RetrieveRequest, RetrieveResponse } from './request.js';

const POPULARITY =
  /^(item_)?(popularity|interactions?|interaction_count|views?|view_count|plays?|play_count|sales|purchases?)$/i;
/** Room for what a request leaves out. */
const LENGTH = LIMITS.k.max + 1000;
/** Rows between two looks at the clock. */
const STEP = 256;
/** So many times what is wanted is collected before the best of it are picked: few sorts, each of them short. */
const TRIM_RATIO = 2;

interface PopularList {
  /** Best first. */
  readonly rows: ArrayLike<Row>;
  readonly scores: ArrayLike<number>;
  /** What was written last for a request that leaves nothing out, and for which of them it is right. */
  head?: { readonly of: string; readonly answer: WrittenAnswer };
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
    const left = excludedRows(request, whoAsks(request.source, view), view);
    const of = `${request.k} ${view.state}`;
    const isHead = left.length === 0 && columns.length === 0;
    if (isHead && list.head?.of === of) return list.head.answer;
    const items = popularItems(list, request.k, new Set(left), columns, view);
    const answer = new WrittenAnswer(JSON.stringify(items), {
      generation: generation.id,
      models: {},
      degraded: ['popular_list'],
      returned: items.length,
      timings: { total: 0 },
    });
    if (isHead) list.head = { of, answer };
    return answer;
  }
}

function popularItems(
  { rows, scores }: PopularList,
  k: number,
  left: ReadonlySet<Row>,
  columns: readonly string[],
  view: ItemView,
): RetrievedItem[] {
  const items: RetrievedItem[] = [];
  for (let at = 0; at < rows.length && items.length < k; at++) {
    const row = view.rowNow(rows[at]!);
    if (row === undefined || left.has(row)) continue;
    const score = shortScore(scores[at]!);
    items.push({
      id: view.idOf(row),
      score,
      retrieval_score: score,
      retrieval_rank: items.length + 1,
      ...(columns.length === 0 ? {} : { metadata: metadataOf(row, columns, view) }),
    });
  }
  return items;
}

/** Whose list it is, for what it leaves out. */
function whoAsks(source: QuerySource, view: ItemView): Pick<Query, 'userId' | 'seen'> {
  switch (source.kind) {
    case 'user':
      return {
        userId: source.id,
        get seen() {
          return storedHistory(source.id, view.generation, view);
        },
      };
    case 'features':
      return {
        get seen() {
          return historyOf(source.features, view).seen;
        },
      };
    case 'items':
      return { seen: Uint32Array.from(rowsOf(source.ids, view)) };
    case 'embedding':
      return { seen: new Uint32Array(0) };
  }
}

async function byColumn({ itemTable, itemIds, skippedItems }: Generation): Promise<PopularList | undefined> {
  const column = itemTable.columns.find(({ name, kind }) => kind === 'number' && POPULARITY.test(name));
  if (column === undefined) return undefined;
  return bestRows(itemIds.size, LENGTH, (row) =>
    skippedItems.has(row) ? undefined : itemTable.valueAt(row, column.name),
  );
}

/** The `length` rows of the largest finite values, of equal ones the first rows; others wait for a millisecond or two. */
export async function bestRows(
  count: number,
  length: number,
  valueOf: (row: Row) => unknown,
): Promise<{ rows: Row[]; scores: number[] }> {
  let best: { readonly row: Row; readonly value: number }[] = [];
  let threshold = Number.NEGATIVE_INFINITY;
  const trim = (): void => {
    best = best.sort((a, b) => b.value - a.value || a.row - b.row).slice(0, length);
    if (best.length === length) threshold = best.at(-1)!.value;
  };
  const slices = Slices.withRests();
  for (let row = 0; row < count; row++) {
    if (row % STEP === STEP - 1 && slices.isOver) await slices.next();
    const value = valueOf(row);
    if (typeof value !== 'number' || !Number.isFinite(value) || value <= threshold) continue;
    if (best.push({ row, value }) === TRIM_RATIO * length) trim();
  }
  await slices.next();
  trim();
  return { rows: best.map(({ row }) => row), scores: best.map(({ value }) => value) };
}

async function byMeanUser({ searcher, defaultQuery, itemIds }: Generation): Promise<PopularList> {
  const k = Math.min(LENGTH, itemIds.size);
  return k === 0
    ? { rows: [], scores: [] }
    : searcher.search({ query: defaultQuery, k, exact: true, exclude: new Uint32Array(0) });
}
