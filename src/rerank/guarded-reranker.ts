/** A reranker behind a circuit breaker: one that fails again and again costs requests no time until it is back. */
import { BelfryError } from '../errors.js';
import { Breaker, type BreakerState } from '../resilience/breaker.js';
import { RecentLatency } from '../telemetry/recent-latency.js';
import type { RerankCandidates, Reranker, RerankerNeeds, RerankRequest, RerankScores } from './reranker.js';

export interface RerankerStatus {
  readonly name: string;
  readonly version: string;
  readonly state: BreakerState;
  /** Name of its model server in the settings; absent where it runs in process. */
  readonly server?: string;
  readonly problem?: { readonly code: string; readonly message: string };
}

export type OnRerankerState = (label: string, state: BreakerState, cause: Error | undefined) => void;

export interface GuardOptions {
  readonly onState?: OnRerankerState | undefined;
  /** See BreakerOptions.probe. */
  readonly probe?: (() => Promise<void>) | undefined;
  readonly server?: string | undefined;
}

export class GuardedReranker implements Reranker {
  readonly name: string;
  readonly version: string;
  readonly latency = new RecentLatency();
  readonly #inner: Reranker;
  readonly #breaker: Breaker;
  readonly #server: string | undefined;

  constructor(inner: Reranker, { onState, probe, server }: GuardOptions = {}) {
    const label = `${inner.name}@${inner.version}`;
    this.name = inner.name;
    this.version = inner.version;
    this.#inner = inner;
    this.#server = server;
    this.#breaker = new Breaker({ name: label, probe, onChange: (state, cause) => onState?.(label, state, cause) });
    onState?.(label, 'closed', undefined);
  }

  get needs(): RerankerNeeds {
    return this.#inner.needs;
  }

  get status(): RerankerStatus {
    const { cause, state } = this.#breaker;
    return {
      name: this.name,
      version: this.version,
      state,
      ...(this.#server === undefined ? {} : { server: this.#server }),
      ...(cause === undefined
        ? {}
        : { problem: { code: cause instanceof BelfryError ? cause.code : 'BELFRY_INTERNAL', message: cause.message } }),
    };
  }

  checkRequest(request: Pick<RerankRequest, 'user' | 'context'>): void {
    this.#inner.checkRequest(request);
  }

  /** Error, besides those of the reranker: BELFRY_CIRCUIT_OPEN. */
  score(request: RerankRequest, candidates: RerankCandidates, signal?: AbortSignal): Promise<RerankScores> {
    return this.#breaker.run(
      () => this.#measured(request, candidates, signal),
      ({ scores, nonFinite }) =>
        nonFinite > 0 && nonFinite === scores.length
          ? new BelfryError('BELFRY_MODEL_OUTPUT_INVALID', `all ${nonFinite} scores are not finite`)
          : undefined,
    );
  }

  async #measured(request: RerankRequest, candidates: RerankCandidates, signal?: AbortSignal): Promise<RerankScores> {
    const scores = await this.#inner.score(request, candidates, signal);
    this.latency.record(scores.gatherMs + scores.queueMs + scores.runMs);
    return scores;
  }

  /** For a reranker that is known to be down. */
  trip(cause: Error): void {
    this.#breaker.trip(cause);
  }

  async close(): Promise<void> {
    this.#breaker.close();
    await this.#inner.close();
  }
}
