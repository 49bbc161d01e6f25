/** The tensors of one request: features of its user, of each candidate and of the context, as a binding lays them out. */
import type { BoundInputs } from '../features/bound-inputs.js';
import { FeedMemory } from '../features/feed-memory.js';
import type { Features, TensorData } from '../types.js';
import type { RerankCandidates, RerankRequest } from './reranker.js';

/** Candidates from `start` up to `end`, in tensors of `rows` rows; those beyond are of missing values. */
export interface Piece {
  readonly start: number;
  readonly end: number;
  readonly rows: number;
}

/** Row i of every tensor with a row per candidate is candidate `start` + i. */
export function candidateFeeds(
  bound: BoundInputs,
  request: RerankRequest,
  candidates: RerankCandidates,
  piece: Piece,
  memory = new FeedMemory(),
): Record<string, TensorData> {
  const { start, end, rows } = piece;
  const { embeddings, features } = candidates;
  const dims = embeddings === undefined ? 0 : embeddings.length / candidates.rows.length;
  const itemRows = new Int32Array(rows).fill(-1);
  const scores = new Float64Array(rows);
  const ranks = new Float64Array(rows);
  for (let at = start; at < end; at++) {
    itemRows[at - start] = candidates.rows[at]!;
    scores[at - start] = candidates.scores[at]!;
    ranks[at - start] = at + 1;
  }
  // A copy: tensors are handed over to a worker, and the caller keeps its own.
  const vectors = embeddings === undefined ? undefined : memory.take(Float32Array, rows * dims);
  vectors?.set(embeddings!.subarray(start * dims, end * dims));
  vectors?.fill(0, (end - start) * dims);
  const batch = {
    rows,
    user: userFeatures(bound, request),
    context: request.context ?? {},
    itemRows,
    ...(features === undefined ? {} : { itemFeatures: features.slice(start, end) }),
    retrievalScores: scores,
    retrievalRanks: ranks,
    ...(request.userEmbedding === undefined ? {} : { userEmbedding: request.userEmbedding }),
    ...(vectors === undefined ? {} : { itemEmbeddings: vectors }),
  };
  return bound.fill(batch, memory);
}

/** A known user's id is a feature for models that embed it. */
function userFeatures({ needs }: BoundInputs, { user = {}, userId }: RerankRequest): Features {
  if (userId === undefined || user.id !== undefined || !needs.user.includes('id')) return user;
  return { ...user, id: userId };
}
