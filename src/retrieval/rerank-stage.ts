/** Re-ranking as a step of a request: which reranker, with how much time, and what its scores mean for the order. */
import { asBelfryError, BelfryError } from '../errors.js';
import { FeedBuffers } from '../features/feed-memory.js';
import { checkContext } from '../rerank/bound-scorer.js';
import type { Reranker, RerankScores } from '../rerank/reranker.js';
import type { Degradation, Features } from '../types.js';
import type { ItemView, ViewFound } from '../upserts/item-view.js';
import type { Deadline } from './deadline.js';
import { countInvalidOutput, type Pass } from './pass.js';
import type { Query } from './query-vector.js';
import type { RetrieveRequest } from './request.js';
import { type Choice, findReranker } from './traffic.js';

export interface RerankOutcome {
  /** Positions in the retrieval order, best first; undefined where retrieval order stands. */
  readonly order?: Uint32Array;
  /** By position in the retrieval order. */
  readonly scores?: Float32Array;
  readonly invalidScores: number;
  /** What gathering and scoring took. */
  readonly workMs?: number;
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

/** Re-ranking as the traffic policy chose it. Errors: BELFRY_INVALID_FEATURES for context that no reranker reads. */
export function rerankingOf({ reranker }: Choice, { context }: RetrieveRequest, view: ItemView): Reranking | undefined {
  checkContext(context, view.generation.rerankers);
  return reranker === undefined ? undefined : new Reranking(reranker, view, context);
}

/**
 * Re-ranks where that is asked for; what went wrong is in `degraded`, the metrics and the log. Error, where the request
 * is strict: BELFRY_RERANK_MISSING.
 */
export async function rankItems(
  { request, deadline, timer, degraded, metrics, onScored, onProblem }: Pass,
  reranking: Reranking | undefined,
  query: Query,
  hits: ViewFound,
): Promise<Ranked> {
  if (reranking === undefined) return { hits };
  const { label } = reranking;
  const outcome = await reranking.order(query, hits, deadline);
  degraded.push(...outcome.degraded);
  timer.mark('rerank');
  if (outcome.workMs !== undefined) onScored(hits.rows.length, outcome.workMs);
  if (outcome.invalidScores > 0) metrics.invalidScores.inc({ reranker: label }, outcome.invalidScores);
  if (outcome.problem !== undefined) {
    countInvalidOutput(metrics, label, outcome.problem);
    // A full queue is counted; a line for each request of an overload would be part of it.
    if (outcome.problem.code !== 'BELFRY_OVERLOADED') onProblem(label, outcome.problem);
  }
  const { order, scores } = outcome;
  if (scores === undefined && request.strict) {
    throw new BelfryError(
      'BELFRY_RERANK_MISSING',
      `rerank: ${label} gave no scores in time (${outcome.degraded.join(', ')}), and strict takes nothing less`,
      { field: 'strict' },
    );
  }
  return { hits, order, scores, ...(scores === undefined ? {} : { reranker: label }) };
}

/** What scoring reads of a request. */
export interface Scored {
  readonly view: ItemView;
  readonly query: Query;
  readonly context: Features | undefined;
  readonly ranked: { readonly hits: Pick<ViewFound, 'rows' | 'scores'> };
}

export class Reranking {
  readonly label: string;

  constructor(
    private readonly reranker: Reranker,
    private readonly view: ItemView,
    private readonly context: Features | undefined = undefined,
  ) {
    this.label = `${reranker.name}@${reranker.version}`;
  }

  /** By name, or name@version, whatever its stage. Error: BELFRY_UNKNOWN_RERANKER. */
  static named(wanted: string, view: ItemView): Reranking {
    return new Reranking(findReranker(wanted, 'rerank', 'true', view.generation), view);
  }

  /** A late or failed reranker is no error: retrieval order stands and the reason is in `degraded`. */
  async order(query: Query, hits: Pick<ViewFound, 'rows' | 'scores'>, deadline: Deadline): Promise<RerankOutcome> {
    const { view, reranker, context } = this;
    const stop = new AbortController();
    const left = deadline.budgetMs(Infinity, deadline.waitingReserveMs);
    if (left <= 0) return { invalidScores: 0, degraded: ['rerank_timeout'] };
    const timer = setTimeout(() => stop.abort(), left);
    try {
      const { scores, nonFinite, gatherMs, runMs } = await scoreHits(
        reranker,
        { view, query, context, ranked: { hits } },
        stop.signal,
      );
      return {
        order: orderByScore(scores),
        scores,
        invalidScores: nonFinite,
        workMs: gatherMs + runMs,
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

/** Vectors of candidates are needed until they are scored. */
const vectorBuffers = new FeedBuffers();

/** The scores of hits, in their order. Errors: those of the reranker. */
export async function scoreHits(
  reranker: Reranker,
  { view, query, context, ranked: { hits } }: Scored,
  signal: AbortSignal,
): Promise<RerankScores> {
  const asked = {
    user: query.features,
    ...(context === undefined ? {} : { context }),
    ...(query.userId === undefined ? {} : { userId: query.userId }),
  };
  reranker.checkRequest(asked);
  const memory = reranker.needs.itemEmbedding ? vectorBuffers.take() : undefined;
  const vectors = memory?.take(Float32Array, hits.rows.length * view.generation.items.dims);
  const scored = await reranker.score(
    { ...asked, userEmbedding: query.vector },
    {
      ...view.tableRows(hits.rows),
      // Only code of the operator reads them, and 500 look-ups take longer than many a search.
      get ids() {
        return Array.from(hits.rows, (row) => view.idOf(row));
      },
      scores: hits.scores,
      ...(vectors === undefined ? {} : { embeddings: await view.readVectors(hits.rows, vectors) }),
    },
    signal,
  );
  // Not of one that failed: whoever abandoned it may still read them.
  if (memory !== undefined) vectorBuffers.done(memory);
  return scored;
}

/** Numbers that hold a position beside the 32 bits of a score. */
const POSITIONS = 2 ** 21;

/**
 * Best score first; equal scores, and those that are not finite (all of them last), keep retrieval order. A score and its position are
 * one number, which the engine sorts without a call for each pair: less than half of the time for 500.
 */
export function orderByScore(scores: Float32Array): Uint32Array {
  const bits = new Uint32Array(scores.buffer, scores.byteOffset, scores.length);
  const keys = new Float64Array(scores.length);
  for (let at = 0; at < keys.length; at++) keys[at] = rankOf(scores[at]!, bits[at]!) * POSITIONS + at;
  keys.sort();
  const order = new Uint32Array(keys.length);
  for (let place = 0; place < order.length; place++) {
    const key = keys[place]!;
    order[place] = key - Math.floor(key / POSITIONS) * POSITIONS;
  }
  return order;
}

/** From 0 for the largest float: its bits count up with its size, above those of the sign. */
function rankOf(score: number, bits: number): number {
  if (!Number.isFinite(score)) return 0xffff_ffff;
  if (score === 0) return 0x7fff_ffff;
  return score > 0 ? 0x7fff_ffff - bits : bits;
}
