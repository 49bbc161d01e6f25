/** Neighbours inside one tower: items like an item, users like a user. */
import type { Found, Searcher } from '../ann/searcher.js';
import { BelfryError, show } from '../errors.js';
import { concatRows } from '../generation/exclusion-sets.js';
import type { Generation } from '../generation/generation.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Id } from '../types.js';
import type { ItemView, ViewFilter } from '../upserts/item-view.js';
import { explanation, metadataColumns, metadataOf, rowsOf, shortScore } from './answer.js';
import { type Deadline, StageTimer } from './deadline.js';
import { observeAnswer } from './pass.js';
import { checkVector } from './query-vector.js';
import type { SimilarRequest, SimilarResponse } from './request.js';
import { filterOf, shapeOf } from './search-stage.js';

/** What differs between similar items and similar users. */
interface Similarity {
  readonly opening: Promise<Searcher>;
  readonly search: (searcher: Searcher) => Found | Promise<Found>;
  readonly filter?: ViewFilter | undefined;
  readonly describe: (row: number) => { id: Id; metadata?: Record<string, unknown> };
}

/** Error: BELFRY_UNKNOWN_ITEM. */
export async function similarItems(
  request: SimilarRequest,
  view: ItemView,
  metrics: Metrics,
  deadline: Deadline,
): Promise<SimilarResponse> {
  const { generation } = view;
  const columns = metadataColumns(request.withMetadata, generation);
  const { source } = request;
  const row = source.kind === 'id' ? view.rowOf(source.id) : undefined;
  if (source.kind === 'id' && row === undefined) {
    throw new BelfryError('BELFRY_UNKNOWN_ITEM', `item_id: ${show(source.id)} is not in generation ${generation.id}`, {
      field: 'item_id',
    });
  }
  const vector =
    source.kind === 'id' ? await view.readVectors(Uint32Array.of(row!)) : checkVector(source.vector, generation);
  const filter = await filterOf(request, view, deadline);
  const exclude = concatRows([
    rowsOf(request.exclude, view),
    row === undefined ? [] : [row],
    ...generation.exclusions.rowsFor(request.excludeSets ?? [], undefined).map((rows) => view.current(rows)),
  ]);
  return answerSimilar(request, deadline, generation, metrics, {
    opening: generation.itemSimilarity(),
    search: (searcher) =>
      view.search(searcher, { ...shapeOf(request), query: vector, filter, exclude, until: deadline.end }),
    filter,
    describe: (hit) => ({
      id: view.idOf(hit),
      ...(columns.length === 0 ? {} : { metadata: metadataOf(hit, columns, view) }),
    }),
  });
}

/** Errors: BELFRY_NO_USERS, BELFRY_UNKNOWN_USER. */
export async function similarUsers(
  request: SimilarRequest,
  generation: Generation,
  metrics: Metrics,
  deadline: Deadline,
): Promise<SimilarResponse> {
  const { users, userIds } = generation;
  if (users === undefined || userIds === undefined) {
    throw new BelfryError(
      'BELFRY_NO_USERS',
      'this generation holds no user embeddings; export embeddings/user_embeddings.npy',
    );
  }
  const { source } = request;
  const row = source.kind === 'id' ? userIds.rowOf(source.id) : undefined;
  if (source.kind === 'id' && (row === undefined || generation.skippedUsers.has(row))) {
    throw new BelfryError('BELFRY_UNKNOWN_USER', `user_id: ${show(source.id)} is not in generation ${generation.id}`, {
      field: 'user_id',
    });
  }
  const vector = source.kind === 'id' ? users.readRows(Uint32Array.of(row!)) : checkVector(source.vector, generation);
  const exclude = Uint32Array.from([...(row === undefined ? [] : [row]), ...generation.skippedUsers]);
  return answerSimilar(request, deadline, generation, metrics, {
    opening: generation.userSimilarity(),
    search: (searcher) => searcher.search({ ...shapeOf(request), query: vector, exclude, until: deadline.end }),
    describe: (hit) => ({ id: userIds.idOf(hit) }),
  });
}

async function answerSimilar(
  request: SimilarRequest,
  deadline: Deadline,
  generation: Generation,
  metrics: Metrics,
  { opening, search, filter, describe }: Similarity,
): Promise<SimilarResponse> {
  const timer = new StageTimer();
  // Made at the first call: over many rows that takes longer than a request may.
  const searcher = await deadline.orThrow(opening, 'making the index');
  const hits = await deadline.orThrow(search(searcher), 'searching');
  timer.mark('search');
  const items = Array.from(hits.rows, (row, at) => ({ ...describe(row), score: shortScore(hits.scores[at]!) }));
  observeAnswer(metrics, timer);
  return {
    items,
    generation: generation.id,
    returned: items.length,
    timings: timer.finish(),
    ...(request.explain
      ? {
          explain: explanation(searcher.index, hits, {
            query: request.source.kind === 'id' ? 'stored' : 'given',
            filter,
            depth: request.k,
            reranked: 0,
          }),
        }
      : {}),
  };
}
