/**
 * What happens to a request, in which order: deadline, lease, query vector, filter and exclusions, search, re-rank, cut,
 * answer. The only flow control of a request; the parts do not know of each other.
 */
import type { Found, Search, Searcher } from '../ann/searcher.js';
import { BelfryError, show } from '../errors.js';
import { concatRows } from '../generation/exclusion-sets.js';
import type { Generation } from '../generation/generation.js';
import type { GenerationStore } from '../generation/store.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Degradation, Id } from '../types.js';
import { type ItemViews, PlainViews } from '../upserts/item-upserts.js';
import type { ItemView, ViewFilter } from '../upserts/item-view.js';
import { answerItems, excludedRows, explanation, metadataColumns, metadataOf, rowsOf, shortScore } from './answer.js';
import { Deadline, StageTimer } from './deadline.js';
import { describeGeneration, suggestIds } from './describe.js';
import { checkVector, resolveQuery } from './query-vector.js';
import { Reranking } from './rerank-stage.js';
import type { RetrieveRequest, RetrieveResponse, Shaping, SimilarRequest, SimilarResponse } from './request.js';

export interface RetrieverStatus {
  readonly ready: boolean;
  readonly generation?: string;
  readonly items?: number;
  readonly users?: number;
  readonly tower?: string;
  readonly tower_problem?: string;
  readonly rerankers?: readonly string[];
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

/** What differs between similar items and similar users. */
interface Similarity {
  readonly opening: Promise<Searcher>;
  readonly search: (searcher: Searcher) => Promise<Found>;
  readonly filter?: ViewFilter | undefined;
  readonly describe: (row: number) => { id: Id; metadata?: Record<string, unknown> };
}

export class Retriever {
  /** Set before the process stops: not ready for new traffic, still answering what comes. */
  isDraining = false;
  /** Why the newest export does not serve, though an older generation does. */
  buildProblem: BelfryError | undefined;
  coming: ComingGeneration = { loading: undefined, problem: undefined };

  constructor(
    readonly store: GenerationStore,
    private readonly metrics: Metrics,
    /** Hears why an answer is degraded by a model; the caller of the request only hears that it is. */
    private readonly onProblem: (model: string, error: BelfryError) => void = () => undefined,
    /** Where changes of items come from, besides the generation. */
    private readonly views: ItemViews = new PlainViews(),
  ) {
    const generation = store.peek();
    if (generation !== undefined) this.publishFacts(generation);
  }

  /** Into the metrics: for each generation that begins to serve. */
  publishFacts(generation: Generation): void {
    const { metric, kernel } = generation.index.info;
    this.metrics.generation.reset();
    this.metrics.generation.set({ generation: generation.id, metric, kernel }, 1);
    this.metrics.generationRows.set({ kind: 'items' }, generation.itemIds.size);
    this.metrics.generationRows.set({ kind: 'users' }, generation.userIds?.size ?? 0);
  }

  status(): RetrieverStatus {
    const generation = this.store.peek();
    const { loading, problem } = this.coming;
    const common = {
      ...(loading === undefined ? {} : { loading }),
      ...(problem === undefined ? {} : { generation_problem: { code: problem.code, message: problem.message } }),
      ...(this.buildProblem === undefined
        ? {}
        : { build_problem: { code: this.buildProblem.code, message: this.buildProblem.message } }),
    };
    if (generation === undefined) {
      const reason = loading === undefined ? (problem?.message ?? 'no generation is loaded') : `loading ${loading}`;
      return { ready: false, reason, ...common };
    }
    if (this.isDraining) return { ready: false, reason: 'the process is stopping', generation: generation.id };
    return {
      ready: true,
      generation: generation.id,
      items: generation.itemIds.size,
      users: generation.userIds?.size ?? 0,
      ...(generation.tower === undefined ? {} : { tower: generation.tower.name }),
      ...(generation.towerProblem === undefined ? {} : { tower_problem: generation.towerProblem }),
      rerankers: generation.rerankers.map(({ name, version }) => `${name}@${version}`),
      ...common,
    };
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

  retrieve(request: RetrieveRequest): Promise<RetrieveResponse> {
    return this.onView(async (view) => {
      const { generation } = view;
      const deadline = new Deadline(request.timeoutMs);
      const timer = new StageTimer();
      const reranking = request.rerank === false ? undefined : Reranking.choose(request.rerank, view);
      const columns = metadataColumns(request.withMetadata, generation);

      const query = await this.inTime(
        resolveQuery(request.source, view).catch((error: unknown) => {
          this.countInvalidOutput(generation.tower?.name, error);
          throw error;
        }),
        deadline,
        'computing the query embedding',
      );
      timer.mark(query.how === 'user tower' ? 'tower' : 'query');

      const filter = await this.filterOf(request, view, deadline);
      const exclude = excludedRows(request, query, view);
      timer.mark('filter');

      const depth = reranking === undefined ? request.k : Math.max(request.k, request.candidates);
      const hits = await this.inTime(
        view.search(generation.searcher, { ...shape(request), query: query.vector, k: depth, filter, exclude }),
        deadline,
        'searching',
      );
      timer.mark('search');

      const degraded: Degradation[] = [...query.degraded];
      const outcome = await reranking?.order(query, hits, deadline);
      if (outcome !== undefined) {
        degraded.push(...outcome.degraded);
        timer.mark('rerank');
        const { label } = reranking!;
        if (outcome.invalidScores > 0) this.metrics.invalidScores.inc({ reranker: label }, outcome.invalidScores);
        if (outcome.problem !== undefined) {
          this.countInvalidOutput(label, outcome.problem);
          this.onProblem(label, outcome.problem);
        }
      }

      const items = answerItems(hits, outcome?.order, outcome?.scores, request.k, columns, view);
      const timings = timer.finish();
      this.observe(timer.stages, degraded);
      return {
        items,
        generation: generation.id,
        models: {
          ...(query.how === 'user tower' || query.how === 'stored user'
            ? labelOf('tower', generation.tower?.name)
            : {}),
          ...(outcome?.scores === undefined ? {} : labelOf('reranker', reranking?.label)),
        },
        degraded,
        returned: items.length,
        timings,
        ...(request.explain
          ? {
              explain: explanation(generation.index, hits, {
                query: query.how,
                filter,
                depth,
                reranked: outcome?.scores === undefined ? 0 : hits.rows.length,
              }),
            }
          : {}),
      };
    });
  }

  similarItems(request: SimilarRequest): Promise<SimilarResponse> {
    return this.onView(async (view) => {
      const { generation } = view;
      const deadline = new Deadline(request.timeoutMs);
      const columns = metadataColumns(request.withMetadata, generation);
      const { source } = request;
      const row = source.kind === 'id' ? view.rowOf(source.id) : undefined;
      if (source.kind === 'id' && row === undefined) {
        throw new BelfryError(
          'BELFRY_UNKNOWN_ITEM',
          `item_id: ${show(source.id)} is not in generation ${generation.id}`,
          { field: 'item_id' },
        );
      }
      const vector =
        source.kind === 'id' ? await view.readVectors(Uint32Array.of(row!)) : checkVector(source.vector, generation);
      const filter = await this.filterOf(request, view, deadline);
      const exclude = concatRows([
        rowsOf(request.exclude, view),
        row === undefined ? [] : [row],
        ...generation.exclusions.rowsFor(request.excludeSets ?? [], undefined).map((rows) => view.current(rows)),
      ]);
      return this.similar(request, deadline, generation, {
        opening: generation.itemSimilarity(),
        search: (searcher) => view.search(searcher, { ...shape(request), query: vector, filter, exclude }),
        filter,
        describe: (hit) => ({
          id: view.idOf(hit),
          ...(columns.length === 0 ? {} : { metadata: metadataOf(hit, columns, view) }),
        }),
      });
    });
  }

  similarUsers(request: SimilarRequest): Promise<SimilarResponse> {
    return this.store.use(async (generation) => {
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
        throw new BelfryError(
          'BELFRY_UNKNOWN_USER',
          `user_id: ${show(source.id)} is not in generation ${generation.id}`,
          { field: 'user_id' },
        );
      }
      const vector =
        source.kind === 'id' ? users.readRows(Uint32Array.of(row!)) : checkVector(source.vector, generation);
      const exclude = Uint32Array.from([...(row === undefined ? [] : [row]), ...generation.skippedUsers]);
      return this.similar(request, new Deadline(request.timeoutMs), generation, {
        opening: generation.userSimilarity(),
        search: (searcher) => searcher.search({ ...shape(request), query: vector, exclude }),
        describe: (hit) => ({ id: userIds.idOf(hit) }),
      });
    });
  }

  private async similar(
    request: SimilarRequest,
    deadline: Deadline,
    generation: Generation,
    { opening, search, filter, describe }: Similarity,
  ): Promise<SimilarResponse> {
    const timer = new StageTimer();
    // Made at the first call: over many rows that takes longer than a request may.
    const searcher = await this.inTime(opening, deadline, 'making the index');
    const hits = await this.inTime(search(searcher), deadline, 'searching');
    timer.mark('search');
    const items = Array.from(hits.rows, (row, at) => ({ ...describe(row), score: shortScore(hits.scores[at]!) }));
    this.observe(timer.stages, []);
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

  /** Runs one request on one generation and one state of its items, whatever changes meanwhile. */
  private onView<T>(request: (view: ItemView) => Promise<T>): Promise<T> {
    return this.store.use((generation) => this.views.use(generation, request));
  }

  private async filterOf({ filter }: Shaping, view: ItemView, deadline: Deadline): Promise<ViewFilter | undefined> {
    if (filter === undefined) return undefined;
    const evaluating = view.evaluate(filter, () => deadline.remainingMs);
    return this.inTime(evaluating, deadline, 'filtering');
  }

  /** Past its deadline with nothing to answer, a request ends with 504; the work behind it is abandoned, not aborted. */
  private async inTime<T>(work: Promise<T>, deadline: Deadline, what: string): Promise<T> {
    const result = await deadline.within(work.then((value) => ({ value })));
    if (result !== undefined) return result.value;
    throw new BelfryError(
      'BELFRY_DEADLINE_EXCEEDED',
      `the deadline of ${deadline.timeoutMs} ms passed while ${what}; raise timeout_ms or lower k`,
      {
        field: 'timeout_ms',
        limit: deadline.timeoutMs,
      },
    );
  }

  private countInvalidOutput(model: string | undefined, error: unknown): void {
    if (error instanceof BelfryError && error.code === 'BELFRY_MODEL_OUTPUT_INVALID')
      this.metrics.modelOutputInvalid.inc({ model: model ?? 'unknown' });
  }

  private observe(stages: Record<string, number>, degraded: readonly Degradation[]): void {
    for (const [stage, ms] of Object.entries(stages)) this.metrics.stageSeconds.observe({ stage }, ms / 1000);
    for (const reason of degraded) this.metrics.degraded.inc({ reason });
  }
}

function labelOf<K extends string>(key: K, label: string | undefined): { [P in K]?: string } {
  return label === undefined ? {} : ({ [key]: label } as { [P in K]?: string });
}

/** What a request says of the search itself. */
function shape({ k, exact, recall, ef }: Shaping): Pick<Search, 'k' | 'exact' | 'recall' | 'ef'> {
  return { k, exact, recall, ef };
}
