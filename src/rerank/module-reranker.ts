/**
 * A hook in code: a module of the operator that exports `rerank(request, candidates, signal)` and returns one score per
 * candidate. It runs on the event loop, so heavy work belongs in a worker of its own.
 */
import { pathToFileURL } from 'node:url';
import { asBelfryError, BelfryError, show } from '../errors.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { Features, Id } from '../types.js';
import {
  abandonable,
  countNonFinite,
  type RerankCandidates,
  type Reranker,
  type RerankerNeeds,
  type RerankRequest,
  type RerankScores,
} from './reranker.js';

/** What the module gets for each candidate. */
export interface ModuleCandidate {
  readonly id: Id;
  readonly score: number;
  readonly rank: number;
  /** Non-null columns of the item table. */
  readonly features: Features;
}

export type RerankFunction = (
  request: RerankRequest,
  candidates: readonly ModuleCandidate[],
  signal: AbortSignal | undefined,
) => ArrayLike<number> | Promise<ArrayLike<number>>;

export interface ModuleRerankerOptions {
  readonly name: string;
  readonly version: string;
  readonly modulePath: string;
  readonly items?: FeatureTable;
}

export class ModuleReranker implements Reranker {
  readonly name: string;
  readonly version: string;
  readonly needs: RerankerNeeds = { user: [], context: [], userEmbedding: false, itemEmbedding: false };
  readonly #rerank: RerankFunction;
  readonly #items: FeatureTable | undefined;

  private constructor(options: ModuleRerankerOptions, rerank: RerankFunction) {
    this.name = options.name;
    this.version = options.version;
    this.#rerank = rerank;
    this.#items = options.items;
  }

  static async open(options: ModuleRerankerOptions): Promise<ModuleReranker> {
    let loaded: Record<string, unknown>;
    try {
      loaded = await import(pathToFileURL(options.modulePath).href);
    } catch (error) {
      throw new BelfryError(
        'BELFRY_MODEL_INVALID',
        `reranker ${options.name}: its module cannot be loaded: ${(error as Error).message}`,
        { field: options.name, cause: error },
      );
    }
    if (typeof loaded.rerank !== 'function') {
      const exported = Object.keys(loaded).join(', ') || 'nothing';
      throw new BelfryError(
        'BELFRY_MODEL_INVALID',
        `reranker ${options.name}: expected an exported function \`rerank(request, candidates, signal)\`, found ${exported}`,
        {
          field: options.name,
        },
      );
    }
    return new ModuleReranker(options, loaded.rerank as RerankFunction);
  }

  /** The module judges features itself. */
  checkRequest(): void {}

  async score(request: RerankRequest, candidates: RerankCandidates, signal?: AbortSignal): Promise<RerankScores> {
    const started = performance.now();
    const list = candidates.ids.map((id, i) => ({
      id,
      score: candidates.scores[i]!,
      rank: i + 1,
      features: candidates.features?.[i] ?? this.#featuresAt(candidates.rows[i]!),
    }));
    const gatherMs = performance.now() - started;
    let values: ArrayLike<number>;
    try {
      values = await abandonable((async () => this.#rerank(request, list, signal))(), this.name, signal);
    } catch (error) {
      throw asBelfryError(error, 'BELFRY_MODEL_FAILED');
    }
    const runMs = performance.now() - started - gatherMs;
    const isList = Array.isArray(values) || ArrayBuffer.isView(values);
    if (!isList || values.length !== list.length || !Array.from(values).every((value) => typeof value === 'number')) {
      const received = isList ? `${values.length} values` : show(values);
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `reranker ${this.name}: expected ${list.length} numbers, received ${received}`,
      );
    }
    const scores = Float32Array.from(values);
    return { scores, nonFinite: countNonFinite(scores), queueMs: 0, runMs, gatherMs };
  }

  async close(): Promise<void> {}

  #featuresAt(row: number): Features {
    return this.#items === undefined || row < 0 ? {} : this.#items.featuresAt(row);
  }
}
