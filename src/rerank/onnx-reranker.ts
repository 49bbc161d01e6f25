/** A scorer in process: features of all candidates gathered by the binding, one batched run, one score each. */
import { BelfryError } from '../errors.js';
import { compileBinding, describe } from '../features/binding.js';
import type { InputBindings, OutputBinding } from '../features/binding-schema.js';
import type { BoundInputs } from '../features/bound-inputs.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { VocabularySources } from '../features/vocabulary.js';
import { OnnxModel, type OnnxModelOptions } from '../inference/onnx-model.js';
import { float32Of } from '../inference/output-values.js';
import type { Features, TensorData, TensorSpec } from '../types.js';
import {
  countNonFinite,
  type RerankCandidates,
  type Reranker,
  type RerankerNeeds,
  type RerankRequest,
  type RerankScores,
} from './reranker.js';

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

interface Output {
  readonly name: string;
  readonly isSigmoid: boolean;
  readonly task: number | null;
}

export class OnnxReranker implements Reranker {
  readonly name: string;
  readonly version: string;
  readonly needs: RerankerNeeds;
  readonly #model: OnnxModel;
  readonly #bound: BoundInputs;
  readonly #output: Output;

  private constructor(options: OnnxRerankerOptions, model: OnnxModel, bound: BoundInputs, output: Output) {
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
    const feeds = this.#bound.fill({
      rows,
      user: this.#userFeatures(request),
      context: request.context ?? {},
      itemRows: candidates.rows,
      ...(candidates.features === undefined ? {} : { itemFeatures: candidates.features }),
      retrievalScores: candidates.scores,
      retrievalRanks: Float64Array.from({ length: rows }, (_, i) => i + 1),
      ...(request.userEmbedding === undefined ? {} : { userEmbedding: request.userEmbedding }),
      ...(candidates.embeddings === undefined ? {} : { itemEmbeddings: candidates.embeddings }),
    });
    const gatherMs = performance.now() - started;
    const { outputs, queueMs, runMs } = await this.#model.run(feeds, {
      fetches: [this.#output.name],
      ...(signal === undefined ? {} : { signal }),
    });
    const scores = this.#scores(outputs[this.#output.name], rows);
    return { scores, nonFinite: countNonFinite(scores), queueMs, runMs, gatherMs };
  }

  /** A known user's id is a feature for models that embed it. */
  #userFeatures({ user = {}, userId }: RerankRequest): Features {
    if (userId === undefined || user.id !== undefined || !this.needs.user.includes('id')) return user;
    return { ...user, id: userId };
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

  #scores(tensor: TensorData | undefined, rows: number): Float32Array {
    const { name, task, isSigmoid } = this.#output;
    const what = `model ${this.#model.name}, output ${name}`;
    const values = float32Of(tensor, what);
    const dims = tensor!.dims;
    const tasks = dims.length === 1 ? 1 : (dims[1] ?? 0);
    if (dims[0] !== rows || dims.length > 2 || tasks < 1 || values.length !== rows * tasks) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `${what}: expected [${rows}], [${rows}, 1] or [${rows}, tasks], received [${dims.join(', ')}]`,
      );
    }
    if (task === null ? tasks > 1 : task >= tasks) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `${what}: it has ${tasks} tasks; set \`output: { name: ${name}, task: 0 to ${tasks - 1} }\`, now ${task ?? 'not set'}`,
      );
    }
    const scores = new Float32Array(rows);
    for (let row = 0; row < rows; row++) {
      const value = values[row * tasks + (task ?? 0)]!;
      scores[row] = isSigmoid ? 1 / (1 + Math.exp(-value)) : value;
    }
    return scores;
  }
}

function chooseOutput(label: string, outputs: readonly TensorSpec[], binding: OutputBinding | undefined): Output {
  const names = outputs.map((output) => output.name);
  const declared = typeof binding === 'string' ? { name: binding } : binding;
  const name = declared?.name ?? (names.length === 1 ? names[0]! : undefined);
  if (name === undefined)
    throw mismatch(label, `it has the outputs ${names.join(', ')}; name the score as \`output:\` in registry.yaml`);
  if (!names.includes(name)) throw mismatch(label, `output ${name} is not in the graph, which has ${names.join(', ')}`);
  return { name, isSigmoid: declared?.activation === 'sigmoid', task: declared?.task ?? null };
}

function mismatch(label: string, reason: string): BelfryError {
  return new BelfryError('BELFRY_BINDING_MISMATCH', `model ${label}: ${reason}`, { field: label });
}
