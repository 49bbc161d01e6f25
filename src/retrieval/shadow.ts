/**
 * Shadow rerankers: scored after the answer is made, on its candidates, one request at a time each, from a bounded queue.
 * What does not fit is dropped and counted. Nothing here can hold up, change or fail an answer.
 */
import { TRAFFIC_DEFAULTS, type TrafficSettings } from '../config/traffic.js';
import { asBelfryError, type BelfryError } from '../errors.js';
import type { GenerationStore } from '../generation/store.js';
import type { Reranker } from '../rerank/reranker.js';
import type { TrafficMetrics } from '../telemetry/traffic-metrics.js';
import { shortScore } from './answer.js';
import { orderByScore, type Ranked, type Scored, scoreHits } from './rerank-stage.js';
import type { ShadowLog } from './shadow-log.js';

/** An answer, as far as a shadow reads it. */
export interface Served extends Scored {
  readonly ranked: Ranked;
  readonly variant: string;
  readonly k: number;
}

interface Job extends Served {
  readonly reranker: Reranker;
  readonly done: () => void;
}

export interface ShadowOptions {
  readonly store: GenerationStore;
  readonly metrics: TrafficMetrics;
  readonly settings?: TrafficSettings;
  readonly log?: ShadowLog | undefined;
  readonly onProblem: (model: string, error: BelfryError) => void;
}

export class ShadowLane {
  readonly #options: ShadowOptions;
  readonly #settings: TrafficSettings;
  readonly #queues = new Map<string, Job[]>();
  readonly #running = new Map<string, Promise<void>>();
  #isClosed = false;

  constructor(options: ShadowOptions) {
    this.#options = options;
    this.#settings = options.settings ?? TRAFFIC_DEFAULTS;
  }

  /** Returns at once and never throws. */
  offer(shadows: readonly Reranker[], served: Served): void {
    if (this.#isClosed || served.ranked.hits.rows.length === 0) return;
    for (const reranker of shadows) {
      if (this.#settings.shadow_share < 1 && Math.random() >= this.#settings.shadow_share) continue;
      this.#enqueue(reranker, served);
    }
  }

  /** Gives up what waits; resolves when what runs is done. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const queue of this.#queues.values()) for (const job of queue.splice(0)) job.done();
    await Promise.all(this.#running.values());
    await this.#options.log?.close();
  }

  #enqueue(reranker: Reranker, served: Served): void {
    const label = labelOf(reranker);
    const { store, metrics } = this.#options;
    const queue = this.#queues.get(label) ?? [];
    this.#queues.set(label, queue);
    if (queue.length >= this.#settings.shadow_queue || store.peek() !== served.view.generation) {
      metrics.shadows.inc({ reranker: label, result: 'dropped' });
      return;
    }
    // The generation and its items stay open until the job is done: a lease and a hold of its own.
    const view = served.view.retain();
    const finished = new Promise<void>((resolve) => queue.push({ ...served, view, reranker, done: resolve }));
    void store.use(() => finished).finally(() => view.release());
    if (!this.#running.has(label))
      this.#running.set(
        label,
        this.#drain(label, queue).finally(() => this.#running.delete(label)),
      );
  }

  async #drain(label: string, queue: Job[]): Promise<void> {
    for (let job = queue.shift(); job !== undefined; job = queue.shift()) {
      const { metrics, onProblem } = this.#options;
      try {
        await this.#run(label, job);
        metrics.shadows.inc({ reranker: label, result: 'scored' });
      } catch (thrown) {
        const error = asBelfryError(thrown);
        const isLate = error.code === 'BELFRY_DEADLINE_EXCEEDED';
        metrics.shadows.inc({ reranker: label, result: isLate ? 'late' : 'failed' });
        // What the breaker keeps away was told when it opened.
        if (!isLate && error.code !== 'BELFRY_CIRCUIT_OPEN') onProblem(label, error);
      } finally {
        job.done();
      }
    }
  }

  async #run(label: string, job: Job): Promise<void> {
    const { metrics, log } = this.#options;
    const started = performance.now();
    const signal = AbortSignal.timeout(this.#settings.shadow_timeout_ms);
    const { scores } = await scoreHits(job.reranker, job, signal);
    const seconds = (performance.now() - started) / 1000;
    const shadow = compareOrders(job.ranked, orderByScore(scores), job.k);
    metrics.shadowSeconds.observe({ reranker: label }, seconds);
    metrics.shadowOverlap.observe({ reranker: label }, shadow.overlap);
    metrics.shadowRankChange.observe({ reranker: label }, shadow.rankChange);
    log?.add(this.#record(label, job, scores, shadow, seconds));
  }

  #record(label: string, job: Job, scores: Float32Array, shadow: Comparison, seconds: number): Record<string, unknown> {
    const { view, query, ranked, variant, k } = job;
    const places = Array.from(shadow.served.subarray(0, this.#settings.shadow_log_items));
    return {
      time: new Date().toISOString(),
      ...(query.userId === undefined ? {} : { user_id: query.userId }),
      generation: view.generation.id,
      variant,
      shadow: label,
      k,
      candidates: ranked.hits.rows.length,
      overlap: shadow.overlap,
      rank_change: shadow.rankChange,
      ms: Math.round(seconds * 1e6) / 1e3,
      items: places.map((place) => view.idOf(ranked.hits.rows[place]!)),
      retrieval_ranks: places.map((place) => place + 1),
      ...(ranked.scores === undefined ? {} : { served_scores: places.map((place) => shown(ranked.scores![place]!)) }),
      shadow_ranks: places.map((place) => shadow.ranks[place]),
      shadow_scores: places.map((place) => shown(scores[place]!)),
    };
  }
}

export interface Comparison {
  /** Places in the retrieval order, in the order that was served. */
  readonly served: Uint32Array;
  /** Rank that the shadow gives to each place of the retrieval order; 1 is the best. */
  readonly ranks: Uint32Array;
  readonly overlap: number;
  readonly rankChange: number;
}

/** How the shadow's order differs from the served one, over the first k of the latter. */
export function compareOrders(
  { hits, order }: Pick<Ranked, 'hits' | 'order'>,
  shadow: Uint32Array,
  k: number,
): Comparison {
  const served = order ?? Uint32Array.from(hits.rows.keys());
  const ranks = new Uint32Array(served.length);
  shadow.forEach((place, at) => {
    ranks[place] = at + 1;
  });
  const count = Math.min(k, served.length);
  let [both, moved] = [0, 0];
  for (let at = 0; at < count; at++) {
    const rank = ranks[served[at]!]!;
    if (rank <= count) both++;
    moved += Math.abs(rank - (at + 1));
  }
  return { served, ranks, overlap: both / count, rankChange: moved / count };
}

/** JSON has no word for what is not finite. */
function shown(score: number): number | null {
  return Number.isFinite(score) ? shortScore(score) : null;
}

function labelOf({ name, version }: Pick<Reranker, 'name' | 'version'>): string {
  return `${name}@${version}`;
}
