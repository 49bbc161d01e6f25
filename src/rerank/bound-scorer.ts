/**
 * A scorer with a binding, whatever runs its model: features of the candidates in, one score each out. Candidates are
 * sent in pieces of at most `rowsMax` rows, which a model with several workers scores at once; for a model exported with
 * a fixed batch the last piece is padded with rows of missing values, whose scores are dropped.
 */
import { BelfryError } from '../errors.js';
import { checkKnownFeatures, type BoundInputs } from '../features/bound-inputs.js';
import { FeedBuffers } from '../features/feed-memory.js';
import type { TensorData } from '../types.js';
import { candidateFeeds, type Piece } from './candidate-feeds.js';
import {
  countNonFinite,
  type RerankCandidates,
  type Reranker,
  type RerankerNeeds,
  type RerankRequest,
  type RerankScores,
} from './reranker.js';
import type { ScoreOutputs } from './score-output.js';

export interface ModelRun {
  readonly outputs: Readonly<Record<string, TensorData>>;
  readonly queueMs: number;
  readonly runMs: number;
  /** Of the feeds that were handed over. */
  readonly returned?: readonly ArrayBuffer[];
}

export interface BoundScorerOptions {
  /** Slug: `dlrm`. */
  readonly name: string;
  readonly version: string;
  readonly bound: BoundInputs;
  readonly outputs: ScoreOutputs;
  /** Most rows of one run; `bound.fixedRows`, where the model has them, goes before it. */
  readonly rowsMax?: number | undefined;
  /** Runs the model once. The outputs named in `fetches` must be there; errors are BelfryErrors of the back end. */
  readonly run: (
    feeds: Readonly<Record<string, TensorData>>,
    options: {
      readonly fetches: readonly string[];
      readonly signal?: AbortSignal;
      /** The feeds are the back end's own: it may hand their buffers over, and have them made again. */
      readonly remake: () => Readonly<Record<string, TensorData>>;
    },
  ) => Promise<ModelRun>;
  readonly close: () => Promise<void>;
}

/** Few enough that a request of the largest depth is not one run of a second; measured in bench/rerank.mjs. */
export const ROWS_MAX = 1024;

export class BoundScorer implements Reranker {
  readonly name: string;
  readonly version: string;
  readonly needs: RerankerNeeds;
  readonly rowsMax: number;
  readonly #options: BoundScorerOptions;
  readonly #buffers = new FeedBuffers();

  constructor(options: BoundScorerOptions) {
    const { name, version, bound, rowsMax } = options;
    if (bound.fixedRows !== null && rowsMax !== undefined && rowsMax !== bound.fixedRows) {
      throw new BelfryError(
        'BELFRY_BINDING_MISMATCH',
        `model ${name}@${version}: rows_max is ${rowsMax}, the graph takes batches of exactly ${bound.fixedRows}; remove rows_max`,
        { field: `${name}.rows_max`, limit: bound.fixedRows },
      );
    }
    this.name = name;
    this.version = version;
    this.needs = bound.needs;
    this.rowsMax = bound.fixedRows ?? rowsMax ?? ROWS_MAX;
    this.#options = options;
  }

  get bound(): BoundInputs {
    return this.#options.bound;
  }

  checkRequest({ user, context }: Pick<RerankRequest, 'user' | 'context'>): void {
    const { bound } = this.#options;
    if (user !== undefined) bound.checkFeatures(user);
    if (context !== undefined) bound.checkFeatures(context, 'context');
  }

  async score(request: RerankRequest, candidates: RerankCandidates, signal?: AbortSignal): Promise<RerankScores> {
    const rows = candidates.rows.length;
    const scores = new Float32Array(rows);
    let [gatherMs, queueMs, runMs] = [0, 0, 0];
    await Promise.all(
      this.#pieces(rows).map(async (piece) => {
        const started = performance.now();
        const remake = () => this.feedsOf(request, candidates, piece);
        const feeds = remake();
        gatherMs += performance.now() - started;
        const run = await this.#run(feeds, remake, piece.rows, signal);
        scores.set(run.scores.subarray(0, piece.end - piece.start), piece.start);
        // Pieces run beside each other: the slowest is what the request waits for.
        queueMs = Math.max(queueMs, run.queueMs);
        runMs = Math.max(runMs, run.runMs);
      }),
    );
    return { scores, nonFinite: countNonFinite(scores), queueMs, runMs, gatherMs };
  }

  /** The tensors of a piece of the candidates; all of them without one. */
  feedsOf(request: RerankRequest, candidates: RerankCandidates, piece?: Piece): Record<string, TensorData> {
    const rows = candidates.rows.length;
    const memory = this.#buffers.take();
    const feeds = candidateFeeds(
      this.#options.bound,
      request,
      candidates,
      piece ?? { start: 0, end: rows, rows },
      memory,
    );
    this.#buffers.taken(memory);
    return feeds;
  }

  /** A first run warms the model and finds wrong shapes at load. Two rows, so that a score per row is told from one for all. */
  async warmUp(dims: number): Promise<void> {
    await this.score(
      { userEmbedding: new Float32Array(dims) },
      { rows: [-1, -1], ids: [], scores: [0, 0], embeddings: new Float32Array(2 * dims) },
    );
  }

  close(): Promise<void> {
    return this.#options.close();
  }

  async #run(
    feeds: Readonly<Record<string, TensorData>>,
    remake: () => Readonly<Record<string, TensorData>>,
    rows: number,
    signal: AbortSignal | undefined,
  ): Promise<{ scores: Float32Array; queueMs: number; runMs: number }> {
    const { outputs, run } = this.#options;
    const {
      queueMs,
      runMs,
      outputs: tensors,
      returned = [],
    } = await run(feeds, {
      fetches: outputs.names,
      remake,
      ...(signal === undefined ? {} : { signal }),
    });
    this.#buffers.giveBack(returned);
    return { scores: outputs.scoresOf(tensors, rows), queueMs, runMs };
  }

  #pieces(rows: number): Piece[] {
    const { fixedRows } = this.#options.bound;
    const pieces: Piece[] = [];
    // Of even size: the last of 1,025 rows would else wait for a run of 1,024 and one of 1.
    const count = Math.ceil(rows / this.rowsMax);
    const size = fixedRows ?? Math.ceil(rows / count);
    for (let start = 0; start < rows; start += size) {
      const end = Math.min(rows, start + size);
      pieces.push({ start, end, rows: fixedRows ?? end - start });
    }
    return pieces;
  }
}

/** Context that no model of the generation reads is refused, as features are. Error: BELFRY_INVALID_FEATURES. */
export function checkContext(context: RerankRequest['context'], rerankers: readonly Reranker[]): void {
  if (context === undefined) return;
  checkKnownFeatures(context, new Set(rerankers.flatMap(({ needs }) => needs.context)), 'context');
}
