/**
 * What happens to a request, in which order: deadline, lease, admission, reranker, query vector, filter and exclusions, search,
 * re-rank, rules, cut, answer. The only flow control of a request; the parts do not know of each other.
 */
import { OVERLOAD_DEFAULTS, type OverloadSettings } from '../config/overload.js';
import { asBelfryError, type BelfryError } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import { UserFeatures } from '../features/stores/user-features.js';
import type { GenerationStore } from '../generation/store.js';
import type { Metrics } from '../telemetry/metrics.js';
import { isTracing, traceStages } from '../telemetry/tracing.js';
import type { Id } from '../types.js';
import { type ItemViews, PlainViews } from '../upserts/item-upserts.js';
import type { ItemView, ViewFound } from '../upserts/item-view.js';
import { answerOf, asObjects, metadataColumns } from './answer.js';
import { arrangeItems, depthOf } from './arrange/arrange-stage.js';
import { Deadline, StageTimer } from './deadline.js';
import { describeGeneration, suggestIds } from './describe.js';
import { LoadGuard } from './load-guard.js';
import { turnStart } from './loop-turn.js';
import { type LiveModels, liveModels } from './live-models.js';
import { observeAnswer, type Pass } from './pass.js';
import { findQuery } from './query-vector.js';
import type { RecallSampler } from './recall-sampler.js';
import { rankItems, rerankingOf } from './rerank-stage.js';
import type { RetrieveRequest, RetrieveResponse, SimilarRequest, SimilarResponse } from './request.js';
import { searchItems, selectItems } from './search-stage.js';
import { similarItems, similarUsers } from './similar.js';
import type { ShadowLane } from './shadow.js';
import { type ComingGeneration, type RetrieverStatus, statusOf } from './status.js';
import { type Choice, observeExposure, TrafficPolicy, wantedOf } from './traffic.js';

/** Who gets which reranker; without a lane, shadows are not scored. */
export interface Traffic {
  readonly policy: TrafficPolicy;
  readonly shadows?: ShadowLane | undefined;
}

export class Retriever {
  /** Set before the process stops: not ready for new traffic, still answering what comes. */
  isDraining = false;
  /** Why the newest export does not serve, though an older generation does. */
  buildProblem: BelfryError | undefined;
  coming: ComingGeneration = { loading: undefined, problem: undefined };
  /** Answers some searches again, exactly, off their path. */
  sampler: RecallSampler | undefined;
  private readonly guard: LoadGuard;

  constructor(
    readonly store: GenerationStore,
    private readonly metrics: Metrics,
    private readonly onProblem: Pass['onProblem'] = () => undefined,
    /** Where changes of items come from, besides the generation. */
    private readonly views: ItemViews = new PlainViews(),
    private readonly userFeatures = new UserFeatures(),
    overload: OverloadSettings = OVERLOAD_DEFAULTS,
    private readonly traffic: Traffic = { policy: new TrafficPolicy() },
  ) {
    this.guard = new LoadGuard(overload, metrics);
    const generation = store.peek();
    if (generation !== undefined) this.publishFacts(generation);
  }

  /** For programs that embed Belfry. Errors: as `answer`. */
  async retrieve(request: RetrieveRequest): Promise<RetrieveResponse> {
    return asObjects(await this.answer(request));
  }

  /** For who writes JSON: the items may be text already (`itemsJson`). Errors: those of the stages, with a status of HTTP. */
  answer(request: RetrieveRequest): Promise<RetrieveResponse> {
    const deadline = new Deadline(request.timeoutMs, turnStart());
    return this.onView((view) =>
      this.guard.run(request, view, deadline, (form) =>
        this.run({
          request: form.request,
          view,
          deadline,
          timer: new StageTimer(),
          degraded: form.degraded,
          metrics: this.metrics,
          onScored: (candidates, ms) => this.guard.onScored(request.rerank, candidates, ms),
          userFeatures: this.userFeatures,
          onProblem: this.onProblem,
        }),
      ),
    );
  }

  private async run(pass: Pass): Promise<RetrieveResponse> {
    const { request, view } = pass;
    const choice = this.traffic.policy.choose(wantedOf(request), view.generation);
    const reranking = rerankingOf(choice, request, view);
    const columns = metadataColumns(request.withMetadata, view.generation);
    const query = await findQuery(pass);
    const selected = await selectItems(pass, query);
    const depth = depthOf(request, reranking !== undefined || this.hasShadow(choice));
    const hits = await searchItems(pass, query, selected, depth);
    if (this.sampler?.isDue === true) this.sampler.take({ view, query, selected, depth, hits });
    const rank = (some: ViewFound) => rankItems(pass, reranking, query, some);
    const ranked = await rank(hits);
    // Also where the ladder took the reranker away before the request ran: rules that read its scores must know.
    const isReranked = reranking !== undefined || pass.degraded.includes('rerank_skipped');
    const arranged = await arrangeItems(pass, { query, selected, ranked, isReranked, rank });
    const answer = answerOf(pass, { query, selected, depth, ranked, arranged, columns, exposure: choice.exposure });
    observeAnswer(this.metrics, pass.timer, pass.degraded);
    if (isTracing())
      traceStages(pass.timer.spans(), {
        'belfry.generation': answer.generation,
        'belfry.k': request.k,
        'belfry.depth': depth,
        'belfry.path': hits.path,
        'belfry.returned': answer.returned,
        'belfry.degraded': [...pass.degraded],
      });
    observeExposure(this.metrics.traffic, answer);
    const { exposure, shadows } = choice;
    if (exposure !== undefined)
      this.traffic.shadows?.offer(shadows, {
        view,
        query,
        ranked,
        context: request.context,
        variant: exposure.variant,
        k: request.k,
      });
    return answer;
  }

  /** A shadow scores the candidates of an answer that is not re-ranked too. */
  private hasShadow({ shadows }: Choice): boolean {
    return this.traffic.shadows !== undefined && shadows.length > 0;
  }

  similarItems(request: SimilarRequest): Promise<SimilarResponse> {
    const deadline = new Deadline(request.timeoutMs, turnStart());
    return this.onView((view) =>
      this.guard.enter(request, view.generation, deadline, () => similarItems(request, view, this.metrics, deadline)),
    );
  }

  similarUsers(request: SimilarRequest): Promise<SimilarResponse> {
    const deadline = new Deadline(request.timeoutMs, turnStart());
    return this.store.use((generation) =>
      this.guard.enter(request, generation, deadline, () => similarUsers(request, generation, this.metrics, deadline)),
    );
  }

  /** Into the metrics: for each generation that begins to serve. */
  publishFacts(generation: Generation): void {
    const { metric, kernel } = generation.index.info;
    // Until it is made, overload has one rung less; a generation that closes meanwhile needs none.
    this.guard.prepare(generation).catch((error: unknown) => {
      if (this.store.peek() === generation) this.onProblem('popular list', asBelfryError(error));
    });
    this.metrics.generation.reset();
    this.metrics.generation.set({ generation: generation.id, metric, kernel }, 1);
    this.metrics.generationRows.set({ kind: 'items' }, generation.itemIds.size);
    this.metrics.generationRows.set({ kind: 'users' }, generation.userIds?.size ?? 0);
  }

  status(): RetrieverStatus {
    const { coming, buildProblem, isDraining } = this;
    return statusOf({ generation: this.store.peek(), coming, buildProblem, isDraining });
  }

  /** The registry as it serves; undefined before a generation does. */
  models(): LiveModels | undefined {
    const generation = this.store.peek();
    return generation === undefined ? undefined : liveModels(generation, this.traffic.policy);
  }

  /** Facts for the page; empty before a generation serves. */
  describe(): Record<string, unknown> {
    const generation = this.store.peek();
    return generation === undefined ? {} : describeGeneration(generation);
  }

  async suggest(kind: 'items' | 'users', text: string, limit: number): Promise<Id[]> {
    const generation = this.store.peek();
    return generation === undefined ? [] : suggestIds(kind, text, limit, generation);
  }

  /** Runs one request on one generation and one state of its items, whatever changes meanwhile. */
  private onView<T>(request: (view: ItemView) => Promise<T>): Promise<T> {
    return this.store.use((generation) => this.views.use(generation, request));
  }
}
