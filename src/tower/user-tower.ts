/**
 * The user tower: features in, query embedding out. Runs the part of the graph that the user output needs, joins
 * concurrent requests into one run, and lets no bad vector through (fault V3).
 */
import { BelfryError } from '../errors.js';
import { compileBinding, describe } from '../features/binding.js';
import type { InputBindings, OutputBinding } from '../features/binding-schema.js';
import type { BindingBatch, BoundInputs } from '../features/bound-inputs.js';
import { checkKnownFeatures } from '../features/bound-inputs.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { VocabularySources } from '../features/vocabulary.js';
import { type BatchRun, type Feeds, MicroBatcher } from '../inference/micro-batcher.js';
import { extractSubgraph, findUserOutput } from '../inference/onnx-extract.js';
import { loadOnnx } from '../inference/onnx-file.js';
import { OnnxModel, type OnnxModelOptions } from '../inference/onnx-model.js';
import { float32Of } from '../inference/output-values.js';
import { Breaker } from '../resilience/breaker.js';
import { RecentLatency } from '../telemetry/recent-latency.js';
import type { Features, Matrix, TensorData, TensorSpec } from '../types.js';
import { bindByConvention } from './convention.js';

export const USER_TOWER_DEFAULTS = { batchRowsMax: 128, queueMax: 1024, manyRows: 256 } as const;

export interface UserTowerOptions extends Pick<OnnxModelOptions, 'workers' | 'intraOpThreads' | 'onRun'> {
  /** `two-tower@1.0`. */
  readonly name: string;
  readonly modelPath: string;
  readonly sha256?: string;
  /** From the registry; without it inputs are bound to equally named feature columns. */
  readonly inputs?: InputBindings;
  readonly output?: OutputBinding;
  /** Of the item embeddings that the vector will meet. */
  readonly dims: number;
  readonly users?: FeatureTable;
  readonly vocabularies: VocabularySources;
  /** Others are answered meanwhile. */
  readonly isBackground?: boolean | undefined;
  /** Features that a request may also send, because a reranker reads them. */
  readonly alsoKnown?: Iterable<string>;
  readonly batchRowsMax?: number;
  readonly queueMax?: number;
  readonly onBatch?: (rows: number) => void;
}

export interface Embedded {
  readonly vector: Float32Array;
  readonly queueMs: number;
  readonly runMs: number;
}

export class UserTower {
  readonly name: string;
  readonly dims: number;
  readonly output: string;
  readonly inputs: readonly TensorSpec[];
  /** Whether the file holds more than the user tower, and was cut. */
  readonly isCut: boolean;
  /** Of requests; jobs run in batches of their own. */
  readonly latency = new RecentLatency();
  readonly #model: OnnxModel;
  readonly #bound: BoundInputs;
  readonly #batcher: MicroBatcher;
  readonly #breaker: Breaker;
  readonly #known: Set<string>;

  private constructor(options: UserTowerOptions, model: OnnxModel, bound: BoundInputs, output: string, isCut: boolean) {
    this.name = options.name;
    this.dims = options.dims;
    this.#breaker = new Breaker({ name: options.name });
    this.output = output;
    this.inputs = model.info.inputs;
    this.isCut = isCut;
    this.#model = model;
    this.#bound = bound;
    this.#known = new Set([
      ...bound.needs.user,
      ...(options.users?.columns.map((column) => column.name) ?? []),
      ...(options.alsoKnown ?? []),
    ]);
    const isSingleRow = this.inputs.some((input) => input.shape?.[0] === 1);
    this.#batcher = new MicroBatcher({
      name: options.name,
      run: (feeds) => this.#run(feeds),
      inputs: model.info.inputs,
      rowsMax: isSingleRow ? 1 : (options.batchRowsMax ?? USER_TOWER_DEFAULTS.batchRowsMax),
      queueMax: options.queueMax ?? USER_TOWER_DEFAULTS.queueMax,
      runsMax: model.workers,
      ...(options.onBatch === undefined ? {} : { onBatch: options.onBatch }),
    });
  }

  static async open(options: UserTowerOptions): Promise<UserTower> {
    const { name, modelPath, dims } = options;
    const file = await loadOnnx(modelPath, name, options.sha256);
    const { graph } = file.model;
    const declared = typeof options.output === 'string' ? options.output : options.output?.name;
    const chosen = findUserOutput(graph, name, declared);
    const inputs = graph.inputs.filter((input) => chosen.inputs.includes(input.name));
    const output = graph.outputs.find((candidate) => candidate.name === chosen.name)!;
    checkShapes(name, inputs, output, dims);
    const bound = await compileBinding({
      name,
      inputs:
        options.inputs === undefined
          ? bindByConvention(name, inputs, options.users)
          : partFor(options.inputs, graph.inputs, inputs),
      model: { inputs },
      vocabularies: options.vocabularies,
      dims,
      isBackground: options.isBackground,
      ...(options.users === undefined ? {} : { users: options.users }),
      refused: (source) =>
        source.startsWith('user.') || source === 'constant'
          ? null
          : 'a user tower knows only user.<column> and constant',
    });
    const bag = bound.inputs.find((input) => input.kind !== 'dense');
    if (bag !== undefined) {
      throw new BelfryError(
        'BELFRY_BINDING_MISMATCH',
        `model ${name}, input ${bag.name}: a user tower takes no bags (\`layout: bag\`, \`offsets_of\`), because requests are joined row by row; export it with padded lists`,
        { field: name },
      );
    }
    const model = await OnnxModel.open({
      ...options,
      source: chosen.isWholeGraph
        ? { path: modelPath, ...(options.sha256 === undefined ? {} : { sha256: options.sha256 }) }
        : { bytes: extractSubgraph(file.bytes, chosen.name, name, file.readExternal) },
    });
    const tower = new UserTower(options, model, bound, chosen.name, !chosen.isWholeGraph);
    try {
      // A first run warms the session and finds wrong shapes now, not at the first request. Values do not matter yet.
      const { outputs } = await tower.#batcher.submit(bound.fill({ rows: 1, user: {} }));
      tower.#vectors(outputs[tower.output], 1);
    } catch (error) {
      await tower.close();
      throw error;
    }
    return tower;
  }

  /** Names that a request's `features` may hold. */
  get knownFeatures(): ReadonlySet<string> {
    return this.#known;
  }

  /** Names that the tower itself reads. */
  get ownFeatures(): readonly string[] {
    return this.#bound.needs.user;
  }

  /** Throws BELFRY_INVALID_FEATURES for unknown names and for values that do not fit. */
  checkFeatures(features: Features): void {
    checkKnownFeatures(features, this.#known);
    this.#bound.checkFeatures(features);
  }

  /** Dropped where it still waits at `until`, performance time. Error, besides those of the model: BELFRY_CIRCUIT_OPEN. */
  async embed(features: Features, until?: number): Promise<Embedded> {
    this.checkFeatures(features);
    if (!this.ownFeatures.some((name) => Object.hasOwn(features, name) && features[name] !== null)) {
      throw new BelfryError(
        'BELFRY_INVALID_FEATURES',
        `features: expected at least one of ${this.ownFeatures.join(', ')}`,
        { field: 'features' },
      );
    }
    const feeds = this.#bound.fill({ rows: 1, user: features });
    const { vector, queueMs, runMs } = await this.#breaker.run(async () => {
      const { outputs, ...times } = await this.#batcher.submit(feeds, until);
      return { vector: this.#vectors(outputs[this.output], 1), ...times };
    });
    // Outside of the breaker: features of one caller may bring this about, and must not close the tower to the others.
    this.#checkVector(vector, 'the features of the request');
    this.latency.record(queueMs + runMs);
    return { vector, queueMs, runMs };
  }

  /** For jobs and checks: many users in large runs, outside the online queue. */
  async embedMany(users: readonly Features[]): Promise<Matrix> {
    for (const features of users) this.#bound.checkFeatures(features);
    return this.#embedBatches(users.length, (start, end) => ({ users: users.slice(start, end) }));
  }

  /** As embedMany, for rows of the users table that the tower was opened with: the skew check. */
  async embedRows(rows: readonly number[]): Promise<Matrix> {
    return this.#embedBatches(rows.length, (start, end) => ({ userRows: rows.slice(start, end) }));
  }

  /** Answers what was taken, then ends the workers. */
  async close(): Promise<void> {
    await this.#batcher.close();
    await this.#model.close();
  }

  async #embedBatches(
    count: number,
    part: (start: number, end: number) => Pick<BindingBatch, 'users' | 'userRows'>,
  ): Promise<Matrix> {
    const data = new Float32Array(count * this.dims);
    const step = this.#batcher.rowsMax === 1 ? 1 : USER_TOWER_DEFAULTS.manyRows;
    for (let start = 0; start < count; start += step) {
      const rows = Math.min(step, count - start);
      const { outputs } = await this.#run(this.#bound.fill({ rows, ...part(start, start + rows) }));
      data.set(this.#vectors(outputs[this.output], rows), start * this.dims);
    }
    for (let row = 0; row < count; row++)
      this.#checkVector(data.subarray(row * this.dims, (row + 1) * this.dims), `row ${row}`);
    return { data, rows: count, dims: this.dims };
  }

  async #run(feeds: Feeds): Promise<BatchRun> {
    return this.#model.run(feeds, { fetches: [this.output] });
  }

  #vectors(tensor: TensorData | undefined, rows: number): Float32Array {
    const what = `model ${this.name}, output ${this.output}`;
    const vectors = float32Of(tensor, what);
    const dims = tensor!.dims;
    if (vectors.length !== rows * this.dims || dims.at(-1) !== this.dims) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `${what}: expected [${rows}, ${this.dims}], received [${dims.join(', ')}]`,
      );
    }
    return vectors;
  }

  #checkVector(vector: Float32Array, of: string): void {
    const bad = vector.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `model ${this.name}: the embedding of ${of} is not finite: ${vector[bad]} in dim ${bad}`,
      );
    }
    if (vector.every((value) => value === 0)) {
      throw new BelfryError('BELFRY_MODEL_OUTPUT_INVALID', `model ${this.name}: the embedding of ${of} is zero`);
    }
  }
}

/** Bindings of inputs that only the other tower reads are not this tower's business. */
export function partFor(
  bindings: InputBindings,
  all: readonly TensorSpec[],
  needed: readonly TensorSpec[],
): InputBindings {
  const isElsewhere = (name: string): boolean =>
    all.some((input) => input.name === name) && !needed.some((input) => input.name === name);
  return Object.fromEntries(Object.entries(bindings).filter(([name]) => !isElsewhere(name)));
}

export function checkShapes(name: string, inputs: readonly TensorSpec[], output: TensorSpec, dims: number): void {
  const fixed = inputs.find((input) => typeof input.shape?.[0] === 'number' && input.shape[0] !== 1);
  if (fixed !== undefined) {
    throw new BelfryError(
      'BELFRY_BINDING_MISMATCH',
      `model ${name}, input ${fixed.name} ${describe(fixed)}: the batch axis is fixed; export it as dynamic, or as 1`,
      { field: name },
    );
  }
  const last = output.shape?.at(-1);
  if (typeof last === 'number' && last !== dims) {
    throw new BelfryError(
      'BELFRY_BINDING_MISMATCH',
      `model ${name}, output ${output.name} ${describe(output)}: expected ${dims} dims, those of the item embeddings, received ${last}`,
      {
        field: name,
        limit: dims,
      },
    );
  }
}
