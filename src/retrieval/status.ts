/** What a server says of itself: ready or not, and what keeps it from serving the newest. */
import type { BelfryError } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import type { RerankerStatus } from '../rerank/guarded-reranker.js';

export interface RetrieverStatus {
  readonly ready: boolean;
  readonly generation?: string;
  readonly items?: number;
  readonly users?: number;
  readonly tower?: string;
  readonly tower_problem?: string;
  readonly rerankers?: readonly string[];
  /** Whether each reranker is asked now; the server is ready whatever they say. */
  readonly scorers?: readonly RerankerStatus[];
  /** The newest export was refused; what serves is older. */
  readonly build_problem?: { readonly code: string; readonly message: string };
  /** What CURRENT names does not serve: it was passed over, or refused. */
  readonly generation_problem?: { readonly code: string; readonly message: string };
  /** The generation that is being loaded. */
  readonly loading?: string;
  readonly reason?: string;
}

/** What a retriever says of the generation that is to come; GenerationFollower knows. */
export interface ComingGeneration {
  readonly loading: string | undefined;
  readonly problem: BelfryError | undefined;
}

export interface StatusFacts {
  readonly generation: Generation | undefined;
  readonly coming: ComingGeneration;
  readonly buildProblem: BelfryError | undefined;
  readonly isDraining: boolean;
}

export function statusOf({ generation, coming, buildProblem, isDraining }: StatusFacts): RetrieverStatus {
  const { loading, problem } = coming;
  const common = {
    ...(loading === undefined ? {} : { loading }),
    ...(problem === undefined ? {} : { generation_problem: { code: problem.code, message: problem.message } }),
    ...(buildProblem === undefined
      ? {}
      : { build_problem: { code: buildProblem.code, message: buildProblem.message } }),
  };
  if (generation === undefined) {
    const reason = loading === undefined ? (problem?.message ?? 'no generation is loaded') : `loading ${loading}`;
    return { ready: false, reason, ...common };
  }
  if (isDraining) return { ready: false, reason: 'the process is stopping', generation: generation.id };
  return {
    ready: true,
    generation: generation.id,
    items: generation.itemIds.size,
    users: generation.userIds?.size ?? 0,
    ...(generation.tower === undefined ? {} : { tower: generation.tower.name }),
    ...(generation.towerProblem === undefined ? {} : { tower_problem: generation.towerProblem }),
    rerankers: generation.rerankers.map(({ name, version }) => `${name}@${version}`),
    scorers: generation.rerankers.map(({ status }) => status),
    ...common,
  };
}
