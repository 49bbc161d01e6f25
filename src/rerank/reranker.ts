/** What retrieval asks of a second-stage scorer, whatever runs it. */
import { BelfryError } from '../errors.js';
import type { Features, Id } from '../types.js';

export interface RerankRequest {
  readonly userId?: Id;
  /** Stored or sent features of the user. */
  readonly user?: Features;
  readonly context?: Features;
  /** The query vector; needed when `needs.userEmbedding`. */
  readonly userEmbedding?: Float32Array;
}

/** Candidates in retrieval order: position i has rank i + 1. */
export interface RerankCandidates {
  /** Rows of the item embeddings and of the aligned item table. */
  readonly rows: ArrayLike<number>;
  /** Features of items that changed since the generation was built, by position; their row is -1. */
  readonly features?: readonly (Features | undefined)[];
  readonly ids: readonly Id[];
  readonly scores: ArrayLike<number>;
  /** Row-major, needed when `needs.itemEmbedding`. */
  readonly embeddings?: Float32Array;
}

export interface RerankScores {
  /** Larger is better, one per candidate, in their order. Non-finite ones come last, in retrieval order. */
  readonly scores: Float32Array;
  readonly nonFinite: number;
  readonly queueMs: number;
  readonly runMs: number;
  readonly gatherMs: number;
}

export interface RerankerNeeds {
  readonly user: readonly string[];
  readonly context: readonly string[];
  readonly userEmbedding: boolean;
  readonly itemEmbedding: boolean;
}

export interface Reranker {
  /** Slug of the registry: `dlrm`. */
  readonly name: string;
  readonly version: string;
  readonly needs: RerankerNeeds;
  /** Throws BELFRY_INVALID_FEATURES for values that the scorer cannot take. */
  checkRequest(request: Pick<RerankRequest, 'user' | 'context'>): void;
  /** When `signal` aborts, rejects with BELFRY_DEADLINE_EXCEEDED; the work is abandoned, never killed. */
  score(request: RerankRequest, candidates: RerankCandidates, signal?: AbortSignal): Promise<RerankScores>;
  close(): Promise<void>;
}

export function countNonFinite(scores: Float32Array): number {
  let count = 0;
  for (const score of scores) if (!Number.isFinite(score)) count++;
  return count;
}

/** Rejects when `signal` aborts before `work` settles. */
export async function abandonable<T>(work: Promise<T>, name: string, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  const late = (): BelfryError =>
    new BelfryError('BELFRY_DEADLINE_EXCEEDED', `reranker ${name}: the deadline passed before it answered`);
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(late());
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  // Whichever loses the race may still reject; it has been answered for.
  work.catch(() => {});
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
