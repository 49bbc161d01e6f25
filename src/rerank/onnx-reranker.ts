/** A scorer in process: features of all candidates gathered by the binding, one batched run, one score each. */
import { BelfryError } from '../errors.js';
import { compileBinding, describe } from '../features/binding.js';
import type { InputBindings, OutputBinding } from '../features/binding-schema.js';
import type { BoundInputs } from '../features/bound-inputs.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { VocabularySources } from '../features/vocabulary.js';
import { OnnxModel, type OnnxModelOptions } from '../inference/onnx-model.js';
import { candidateFeeds } from './candidate-feeds.js';
import {
  countNonFinite,
  type RerankCandidates,
  type Reranker,
  type RerankerNeeds,
  type RerankRequest,
  type RerankScores,
} from './reranker.js';
import { chooseOutput, type ScoreOutput, scoresOf } from './score-output.js';

export interface OnnxRerankerOptions extends Pick<
  OnnxModelOptions,
  'workers' | 'intraOpThreads' | 'maxQueue' | 'onRun'
> {
  /** Slug: `dlrm`. */
  readonly name: string;
  readonly version: string;
  readonly modelPath: string;
  readonly sha256?: string;
  readonly inputs: InputBindings;
  readonly output?: OutputBinding;
  readonly dims: number;
  readonly users?: FeatureTable;
  /** In the row order of the item embeddings (FeatureTable.alignTo). */
  readonly items?: FeatureTable;
  readonly vocabularies: VocabularySources;
}

export class OnnxReranker implements Reranker {
  readonly name: string;
  readonly version: string;
  readonly needs: RerankerNeeds;
  readonly #model: OnnxModel;
  readonly #bound: BoundInputs;
  readonly #output: ScoreOutput;

  private constructor(options: OnnxRerankerOptions, model: OnnxModel, bound: BoundInputs, output: ScoreOutput) {
    this.name = options.name;
    this.version = options.version;
    this.needs = bound.needs;
    this.#model = model;
    this.#bound = bound;
    this.#output = output;
  }

  static async open(options: OnnxRerankerOptions): Promise<OnnxReranker> {
    const label = `${options.name}@${options.version}`;
    const model = await OnnxModel.open({
      ...options,
      name: label,
      source: { path: options.modelPath, ...(options.sha256 === undefined ? {} : { sha256: options.sha256 }) },
    });
    try {
      const isOffsets = (input: string): boolean => 'offsets_of' in (options.inputs[input] ?? {});
      // The first axis of offsets counts the bags, not the candidates.
      const fixed = model.info.inputs.find((input) => typeof input.shape?.[isOffsets(input.name) ? 1 : 0] === 'number');
      if (fixed !== undefined) {
        throw mismatch(
          label,
          `input ${fixed.name} ${describe(fixed)}: the candidate axis is fixed; export it as dynamic`,
        );
      }
      const output = chooseOutput(label, model.info.outputs, options.output);
      const bound = await compileBinding({ ...options, name: label, model: model.info });
      const reranker = new OnnxReranker(options, model, bound, output);
      await reranker.#warmUp(options);
      return reranker;
    } catch (error) {
      await model.close();
      throw error;
    }
  }

  checkRequest({ user, context }: Pick<RerankRequest, 'user' | 'context'>): void {
    if (user !== undefined) this.#bound.checkFeatures(user);
    if (context !== undefined) this.#bound.checkFeatures(context, 'context');
  }

  async score(request: RerankRequest, candidates: RerankCandidates, signal?: AbortSignal): Promise<RerankScores> {
    const rows = candidates.rows.length;
    if (rows === 0) return { scores: new Float32Array(0), nonFinite: 0, queueMs: 0, runMs: 0, gatherMs: 0 };
    const started = performance.now();
    const feeds = candidateFeeds(this.#bound, request, candidates);
    const gatherMs = performance.now() - started;
    const { outputs, queueMs, runMs } = await this.#model.run(feeds, {
      fetches: [this.#output.name],
      ...(signal === undefined ? {} : { signal }),
    });
    const scores = scoresOf(outputs[this.#output.name], rows, this.#output, `model ${this.#model.name}`);
    return { scores, nonFinite: countNonFinite(scores), queueMs, runMs, gatherMs };
  }

  close(): Promise<void> {
    return this.#model.close();
  }

  /** A first run warms the session and finds wrong shapes at load. Two rows, so that a score per row is told from one for all. */
  async #warmUp({ dims }: OnnxRerankerOptions): Promise<void> {
    await this.score(
      { userEmbedding: new Float32Array(dims) },
      { rows: [-1, -1], ids: [], scores: [0, 0], embeddings: new Float32Array(2 * dims) },
    );
  }
}

function mismatch(label: string, reason: string): BelfryError {
  return new BelfryError('BELFRY_BINDING_MISMATCH', `model ${label}: ${reason}`, { field: label });
}
