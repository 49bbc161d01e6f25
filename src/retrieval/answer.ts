/** From rows and scores to what a caller reads: ids, metadata, explanation; and from ids back to rows. */
import type { NativeIndex } from '../ann/addon.js';
import type { Found } from '../ann/searcher.js';
import { BelfryError, show } from '../errors.js';
import { concatRows } from '../generation/exclusion-sets.js';
import type { Generation } from '../generation/generation.js';
import type { Degradation, Id } from '../types.js';
import type { ItemView, ViewFilter, ViewFound } from '../upserts/item-view.js';
import type { RuleFacts } from './arrange/facts.js';
import type { Placement } from './arrange/listing.js';
import type { Pass } from './pass.js';
import type { Query } from './query-vector.js';
import type { Ranked } from './rerank-stage.js';
import type { Explanation, Exposure, RetrievedItem, RetrieveRequest, RetrieveResponse, Timings } from './request.js';

const NO_ROWS = new Uint32Array(0);

export function rowsOf(ids: readonly Id[], view: ItemView): number[] {
  const rows: number[] = [];
  for (const id of ids) {
    const row = view.rowOf(id);
    if (row !== undefined) rows.push(row); // an id that is not there cannot be answered anyway
  }
  return rows;
}

/** Errors: BELFRY_UNKNOWN_EXCLUSION_SET; BELFRY_INVALID_ARGUMENT for a set by user in a request without a user. */
export function excludedRows(
  request: RetrieveRequest,
  query: Pick<Query, 'userId' | 'seen'>,
  view: ItemView,
): Uint32Array {
  const { exclusions } = view.generation;
  if (request.exclude.length === 0 && !request.excludeSeen && (request.excludeSets ?? []).length === 0) return NO_ROWS;
  return concatRows([
    rowsOf(request.exclude, view),
    ...(request.excludeSeen ? [query.seen, view.current(exclusions.seenBy(query.userId))] : []),
    ...exclusions.rowsFor(request.excludeSets ?? [], query.userId).map((rows) => view.current(rows)),
  ]);
}

export function metadataColumns(names: readonly string[], generation: Generation): readonly string[] {
  if (names.length === 0) return names;
  const known = generation.itemTable.columns.map(({ name }) => name);
  for (const [at, name] of names.entries()) {
    if (known.includes(name)) continue;
    throw new BelfryError(
      'BELFRY_UNKNOWN_FIELD',
      `with_metadata.${at}: no column ${show(name)} in ${generation.itemTable.name}; known: ${known.join(', ') || 'none'}`,
      {
        field: `with_metadata.${at}`,
      },
    );
  }
  return names;
}

export function metadataOf(row: number, columns: readonly string[], view: ItemView): Record<string, unknown> {
  return Object.fromEntries(columns.map((name) => [name, view.valueAt(row, name)]));
}

const POWERS_OF_TEN = Array.from({ length: 12 }, (_, exponent) => 10 ** exponent);

/**
 * Nine digits name every 32-bit float; the double behind it would print seventeen. For usual scores by arithmetic, a fifth of
 * the time: a 32-bit float times a power of ten up to 10^11 is exact in 64 bits, and so the quotient is the nearest double.
 */
export function shortScore(score: number): number {
  const size = Math.abs(score);
  if (!(size >= 1e-3 && size < 1e6)) return Number(score.toPrecision(9));
  const power = POWERS_OF_TEN[8 - Math.floor(Math.log10(size))]!;
  return (Math.sign(score) * Math.round(size * power)) / power;
}

/** A list that rules have arranged. */
function arrangedItems(list: readonly Placement[], columns: readonly string[], view: ItemView): RetrievedItem[] {
  return list.map(({ row, score, retrievalScore, rank, isPinned }) => ({
    id: view.idOf(row),
    score: shortScore(score),
    retrieval_score: shortScore(retrievalScore),
    ...(rank === undefined ? {} : { retrieval_rank: rank }),
    ...(isPinned === true ? { pinned: true } : {}),
    ...(columns.length === 0 ? {} : { metadata: metadataOf(row, columns, view) }),
  }));
}

/** The first k by the reranker's order, or by retrieval order where there is none. */
function answerItems(
  { hits, order, scores }: Ranked,
  k: number,
  columns: readonly string[],
  view: ItemView,
): RetrievedItem[] {
  const items: RetrievedItem[] = [];
  const count = Math.min(k, hits.rows.length);
  for (let place = 0; place < count; place++) {
    const at = order === undefined ? place : order[place]!;
    const row = hits.rows[at]!;
    const found = shortScore(hits.scores[at]!);
    const score = scores === undefined || !Number.isFinite(scores[at]) ? found : shortScore(scores[at]!);
    const item = { id: view.idOf(row), score, retrieval_score: found, retrieval_rank: at + 1 };
    items.push(columns.length === 0 ? item : { ...item, metadata: metadataOf(row, columns, view) });
  }
  return items;
}

/** An answer whose items are JSON already, which is all that most callers want; who looks at them has them read from it. */
export class WrittenAnswer implements RetrieveResponse {
  readonly generation: string;
  readonly models: RetrieveResponse['models'];
  readonly exposure: Exposure | undefined;
  readonly degraded: readonly Degradation[];
  readonly returned: number;
  readonly timings: Timings;
  readonly explain: Explanation | undefined;
  private made: readonly RetrievedItem[] | undefined;

  constructor(
    readonly itemsJson: string,
    rest: Omit<RetrieveResponse, 'items' | 'itemsJson'>,
  ) {
    this.generation = rest.generation;
    this.models = rest.models;
    this.exposure = rest.exposure;
    this.degraded = rest.degraded;
    this.returned = rest.returned;
    this.timings = rest.timings;
    this.explain = rest.explain;
  }

  get items(): readonly RetrievedItem[] {
    this.made ??= JSON.parse(this.itemsJson) as RetrievedItem[];
    return this.made;
  }
}

/** Plain objects all the way, without a property that is undefined. */
export function asObjects(answer: RetrieveResponse): RetrieveResponse {
  const { items, generation, models, degraded, returned, timings, exposure, explain } = answer;
  const { tower, reranker } = models;
  return {
    items,
    generation,
    models: { ...(tower === undefined ? {} : { tower }), ...(reranker === undefined ? {} : { reranker }) },
    ...(exposure === undefined ? {} : { exposure }),
    degraded,
    returned,
    timings,
    ...(explain === undefined ? {} : { explain }),
  };
}

/** The same items for another reason. */
export function answeredAgain(answer: RetrieveResponse, degraded: readonly Degradation[]): RetrieveResponse {
  return answer instanceof WrittenAnswer
    ? new WrittenAnswer(answer.itemsJson, { ...answer, degraded })
    : { ...answer, degraded };
}

/** What the stages found, ready to be written. */
export interface Outcome {
  readonly query: Query;
  readonly selected: { readonly filter: ViewFilter | undefined };
  /** Why this reranker, or none; absent where none was asked for. */
  readonly exposure?: Exposure | undefined;
  /** Hits that were asked for. */
  readonly depth: number;
  readonly ranked: Ranked;
  /** Undefined where there are no rules. */
  readonly arranged?: { readonly list: readonly Placement[]; readonly facts: RuleFacts } | undefined;
  /** Of the item table, for `with_metadata`. */
  readonly columns: readonly string[];
}

export function answerOf(pass: Pass, outcome: Outcome): RetrieveResponse {
  const { request, view, timer, degraded } = pass;
  const { query, selected, depth, ranked, arranged, columns, exposure } = outcome;
  const { generation } = view;
  const { hits, order, scores, reranker } = ranked;
  const isPlain = arranged === undefined && columns.length === 0;
  const itemsJson = isPlain ? generation.itemIds.itemsJson(hits, request.k, order, scores) : undefined;
  const tower = query.how === 'user tower' || query.how === 'stored user' ? generation.tower?.name : undefined;
  const rest = {
    generation: generation.id,
    models: { tower, reranker },
    exposure,
    degraded,
    returned: arranged?.list.length ?? Math.min(request.k, hits.rows.length),
    timings: timer.finish(),
    explain: !request.explain
      ? undefined
      : explanation(generation.index, hits, {
          query: query.how,
          filter: selected.filter,
          depth,
          reranked: scores === undefined ? 0 : hits.rows.length,
          rules: arranged?.facts,
        }),
  };
  if (itemsJson !== undefined) return new WrittenAnswer(itemsJson, rest);
  const items =
    arranged === undefined
      ? answerItems(ranked, request.k, columns, view)
      : arrangedItems(arranged.list, columns, view);
  return { items, ...rest };
}

export function explanation(
  index: NativeIndex,
  hits: Found & Partial<Pick<ViewFound, 'deltaRows'>>,
  found: {
    query: string;
    filter?: ViewFilter | undefined;
    depth: number;
    reranked: number;
    rules?: RuleFacts | undefined;
  },
): Explanation {
  const { effort, expectedRecall, why } = hits.plan;
  const isWalk = ['walk', 'filtered walk', 'filtered probe'].includes(hits.path);
  const readsAll = hits.path === 'scan' || hits.path === 'list';
  return {
    path: hits.path,
    plan: why,
    ...(isWalk ? { ef: effort.ef!, stop: effort.stop! } : {}),
    ...(hits.path === 'probe' ? { probes: effort.probes! } : {}),
    ...(readsAll ? {} : { scored: hits.scored }),
    ...(expectedRecall === undefined ? {} : { expected_recall: readsAll ? 1 : expectedRecall }),
    kernel: index.info.kernel,
    query: found.query,
    rows: index.info.rows,
    ...(hits.deltaRows === undefined ? {} : { delta_rows: hits.deltaRows }),
    ...(found.filter === undefined ? {} : { admitted: found.filter.count }),
    depth: found.depth,
    reranked: found.reranked,
    ...(found.rules === undefined ? {} : { rules: found.rules }),
  };
}
