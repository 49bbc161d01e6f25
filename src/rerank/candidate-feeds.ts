/** The tensors of one request: features of its user, of each candidate and of the context, as a binding lays them out. */
import type { BoundInputs } from '../features/bound-inputs.js';
import type { Features, TensorData } from '../types.js';
import type { RerankCandidates, RerankRequest } from './reranker.js';

/** Row i of every tensor is candidate i. */
export function candidateFeeds(
  bound: BoundInputs,
  request: RerankRequest,
  candidates: RerankCandidates,
): Record<string, TensorData> {
  const rows = candidates.rows.length;
  return bound.fill({
    rows,
    user: userFeatures(bound, request),
    context: request.context ?? {},
    itemRows: candidates.rows,
    ...(candidates.features === undefined ? {} : { itemFeatures: candidates.features }),
    retrievalScores: candidates.scores,
    retrievalRanks: Float64Array.from({ length: rows }, (_, i) => i + 1),
    ...(request.userEmbedding === undefined ? {} : { userEmbedding: request.userEmbedding }),
    ...(candidates.embeddings === undefined ? {} : { itemEmbeddings: candidates.embeddings }),
  });
}

/** A known user's id is a feature for models that embed it. */
function userFeatures({ needs }: BoundInputs, { user = {}, userId }: RerankRequest): Features {
  if (userId === undefined || user.id !== undefined || !needs.user.includes('id')) return user;
  return { ...user, id: userId };
}
