/** Re-ranking as a step of a request: which reranker, with how much time, and what its scores mean for the order. */
import { asBelfryError, BelfryError, show } from '../errors.js';
import type { Reranker } from '../rerank/reranker.js';
import type { Degradation } from '../types.js';
import type { ItemView, ViewFound } from '../upserts/item-view.js';
import type { Deadline } from './deadline.js';
import { countInvalidOutput, type Pass } from './pass.js';
import type { Query } from './query-vector.js';
import type { RetrieveRequest } from './request.js';

/** Time kept back from the reranker for cutting and writing the answer. */
const RESERVE_MS = 3;

export interface RerankOutcome {
  /** Positions in the retrieval order, best first; undefined where retrieval order stands. */
  readonly order?: Uint32Array;
  /** By position in the retrieval order. */
  readonly scores?: Float32Array;
  readonly invalidScores: number;
  readonly degraded: readonly Degradation[];
  /** Why a reranker failed (being late is no failure), for the log. */
  readonly problem?: BelfryError;
}

/** Hits in the order of the answer. */
export interface Ranked {
  readonly hits: ViewFound;
  /** Places in `hits`, best first; undefined where retrieval order stands. */
  readonly order?: Uint32Array | undefined;
  /** What the order is by, by place in `hits`; undefined: the retrieval scores. */
  readonly scores?: Float32Array | undefined;
  /** `name@version` of what gave the scores. */
  readonly reranker?: string | undefined;
}

/** The reranker that a request asks for. Errors: those of Reranking.choose. */
export function rerankingOf({ rerank }: RetrieveRequest, view: ItemView): Reranking | undefined {
  return rerank === false ? undefined : Reranking.choose(rerank, view);
}

/** Re-ranks where that is asked for; what went wrong is in `degraded`, the metrics and the log. */
export async function rankItems(
  { deadline, timer, degraded, metrics, onProblem }: Pass,
  reranking: Reranking | undefined,
  query: Query,
  hits: ViewFound,
): Promise<Ranked> {
  if (reranking === undefined) return { hits };
  const { label } = reranking;
  const outcome = await reranking.order(query, hits, deadline);
  degraded.push(...outcome.degraded);
  timer.mark('rerank');
  if (outcome.invalidScores > 0) metrics.invalidScores.inc({ reranker: label }, outcome.invalidScores);
  if (outcome.problem !== undefined) {
    countInvalidOutput(metrics, label, outcome.problem);
    onProblem(label, outcome.problem);
  }
  const { order, scores } = outcome;
  return { hits, order, scores, ...(scores === undefined ? {} : { reranker: label }) };
}

export class Reranking {
  readonly label: string;

  private constructor(
    private readonly reranker: Reranker,
    private readonly view: ItemView,
  ) {
    this.label = `${reranker.name}@${reranker.version}`;
  }

  /** `true` takes the first of the registry's order. Errors: BELFRY_NO_RERANKER, BELFRY_UNKNOWN_RERANKER. */
  static choose(wanted: true | string, view: ItemView): Reranking {
    const { generation } = view;
    const { rerankers, rerankerProblems } = generation;
    const [first] = rerankers;
    if (first === undefined) {
      const why = rerankerProblems.length > 0 ? rerankerProblems.join('; ') : 'its registry names none';
      throw new BelfryError('BELFRY_NO_RERANKER', `rerank: generation ${generation.id} has no reranker: ${why}`, {
        field: 'rerank',
      });
    }
    if (wanted === true) return new Reranking(first, view);
    const found = rerankers.find(({ name, version }) => wanted === name || wanted === `${name}@${version}`);
    if (found !== undefined) return new Reranking(found, view);
    const names = rerankers.map(({ name, version }) => `${name}@${version}`).join(', ');
    throw new BelfryError(
      'BELFRY_UNKNOWN_RERANKER',
      `rerank: expected true or one of ${names}, received ${show(wanted)}${rerankerProblems.map((problem) => `; ${problem}`).join('')}`,
      { field: 'rerank' },
    );
  }

  /** A late or failed reranker is no error: retrieval order stands and the reason is in `degraded`. */
  async order(
    query: Query,
    hits: { readonly rows: Uint32Array; readonly scores: Float32Array },
    deadline: Deadline,
  ): Promise<RerankOutcome> {
    const { view, reranker } = this;
    const stop = new AbortController();
    const left = deadline.remainingMs - RESERVE_MS;
    if (left <= 0) return { invalidScores: 0, degraded: ['rerank_timeout'] };
    const timer = setTimeout(() => stop.abort(), left);
    try {
      reranker.checkRequest({ user: query.features });
      const { scores, nonFinite } = await reranker.score(
        {
          user: query.features,
          userEmbedding: query.vector,
          ...(query.userId === undefined ? {} : { userId: query.userId }),
        },
        {
          ...view.tableRows(hits.rows),
          ids: Array.from(hits.rows, (row) => view.idOf(row)),
          scores: hits.scores,
          ...(reranker.needs.itemEmbedding ? { embeddings: await view.readVectors(hits.rows) } : {}),
        },
        stop.signal,
      );
      return {
        order: orderByScore(scores),
        scores,
        invalidScores: nonFinite,
        degraded: nonFinite > 0 ? ['rerank_scores_invalid'] : [],
      };
    } catch (error) {
      const known = asBelfryError(error);
      if (known.statusCode >= 400 && known.statusCode < 500) throw known; // the caller's own mistake
      if (known.code === 'BELFRY_DEADLINE_EXCEEDED') return { invalidScores: 0, degraded: ['rerank_timeout'] };
      // What the breaker keeps away was told when it opened.
      if (known.code === 'BELFRY_CIRCUIT_OPEN') return { invalidScores: 0, degraded: ['rerank_skipped'] };
      return { invalidScores: 0, degraded: ['rerank_skipped'], problem: known };
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Best score first; equal scores, and those that are not finite (all of them last), keep retrieval order. */
export function orderByScore(scores: Float32Array): Uint32Array {
  const keys = scores.map((score) => (Number.isFinite(score) ? score : Number.NEGATIVE_INFINITY));
  return Uint32Array.from(keys.keys()).sort((a, b) => (keys[a] === keys[b] ? a - b : keys[b]! - keys[a]!));
}
