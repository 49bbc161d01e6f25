/**
 * A scorer on a model server. Its inputs are bound like those of a scorer in process, against what the server says of
 * the model; until the server has said it, against what the registry declares. A server that is down never keeps a
 * generation from serving.
 */
import { asBelfryError, BelfryError } from '../../errors.js';
import { compileBinding, type CompileOptions } from '../../features/binding.js';
import type { OutputBinding } from '../../features/binding-schema.js';
import type { BoundInputs } from '../../features/bound-inputs.js';
import type { TensorSpec } from '../../types.js';
import { BoundScorer } from '../bound-scorer.js';
import { GuardedReranker, type OnRerankerState } from '../guarded-reranker.js';
import type { RerankCandidates, Reranker, RerankerNeeds, RerankRequest, RerankScores } from '../reranker.js';
import type { Calibration } from '../calibration.js';
import { chooseOutputs } from '../score-output.js';
import { KserveClient, type KserveServerOptions, type ModelAddress } from './kserve-client.js';
import type { ModelMetadata } from './model-metadata.js';

export interface KserveRerankerOptions extends Omit<
  CompileOptions,
  'model' | 'name' | 'refused' | 'isPerCandidate' | 'hasRowTables'
> {
  /** Slug: `dcn-v2`. */
  readonly name: string;
  readonly version: string;
  readonly server: KserveServerOptions;
  readonly address: ModelAddress;
  readonly output?: OutputBinding;
  /** Calibration files that the output names, by path. */
  readonly calibrations?: ReadonlyMap<string, Calibration>;
  /** Most candidates of one call. */
  readonly rowsMax?: number;
  readonly onState?: OnRerankerState | undefined;
  /** Looks at what scores before any request does; what it rejects with keeps requests away. */
  readonly check?: (scorer: BoundScorer) => Promise<void>;
}

export class KserveReranker implements Reranker {
  readonly name: string;
  readonly version: string;
  readonly needs: RerankerNeeds;
  readonly #label: string;
  readonly #client: KserveClient;
  /** What scores, once the server has said what the model takes. */
  #session: BoundScorer | undefined;
  #compiled: { readonly key: string; readonly bound: BoundInputs } | undefined;

  private constructor(
    private readonly options: KserveRerankerOptions,
    private readonly declared: BoundInputs,
  ) {
    this.name = options.name;
    this.version = options.version;
    this.#label = `${options.name}@${options.version}`;
    this.needs = declared.needs;
    this.#client = new KserveClient(options.server);
  }

  /**
   * Resolves whether the server answers or not; one that does not, or whose model does not fit, is looked for in the
   * background. Error: BELFRY_BINDING_MISMATCH, for a binding that fits neither tables nor vocabularies.
   */
  static async open(options: KserveRerankerOptions): Promise<GuardedReranker> {
    const label = `${options.name}@${options.version}`;
    const declared = await compileBinding({
      ...options,
      name: label,
      model: { inputs: declaredInputs(options) },
      isPerCandidate: true,
      hasRowTables: false,
    });
    const reranker = new KserveReranker(options, declared);
    const guarded = new GuardedReranker(reranker, {
      onState: options.onState,
      probe: () => reranker.connect(),
      server: options.server.name,
    });
    await reranker.connect().catch((error: unknown) => guarded.trip(asBelfryError(error)));
    return guarded;
  }

  /**
   * Asks the server for the model, holds it against the binding, runs it once and checks it. Errors:
   * BELFRY_MODEL_SERVER_FAILED, BELFRY_DEADLINE_EXCEEDED, BELFRY_BINDING_MISMATCH, BELFRY_MODEL_OUTPUT_INVALID; those of the check.
   */
  async connect(): Promise<void> {
    const { options } = this;
    const { address } = options;
    this.#session = undefined;
    const [isBinary, model] = await Promise.all([this.#client.takesBinary(), this.#client.metadata(address)]);
    const { version } = address;
    if (version !== undefined && model.versions.length > 0 && !model.versions.includes(version))
      throw this.#mismatch(`version ${version} is not on the server, which has ${model.versions.join(', ')}`);
    const half = model.inputs.find(({ dtype }) => dtype === 'float16');
    if (!isBinary && half !== undefined)
      throw this.#mismatch(
        `input ${half.name} is float16, which travels only as binary tensor data, and the server takes JSON`,
      );
    const outputs = chooseOutputs(this.#label, model.outputs, options.output, { calibrations: options.calibrations });
    const bound = await this.#boundTo(model);
    const session = new BoundScorer({
      name: this.name,
      version: this.version,
      bound,
      outputs,
      rowsMax: options.rowsMax,
      run: async (feeds, { fetches, signal }) => {
        const started = performance.now();
        const answer = await this.#client.infer(address, feeds, fetches, isBinary, signal);
        return { outputs: answer.outputs, queueMs: 0, runMs: performance.now() - started };
      },
      close: () => this.#client.close(),
    });
    await session.warmUp(options.dims);
    await options.check?.(session);
    this.#session = session;
  }

  /** Made once for what the server says of the model: item columns are encoded for it. */
  async #boundTo(model: ModelMetadata): Promise<BoundInputs> {
    const key = JSON.stringify(model.inputs);
    if (this.#compiled?.key !== key) {
      const bound = await compileBinding({ ...this.options, name: this.#label, model, isPerCandidate: true });
      this.#compiled = { key, bound };
    }
    return this.#compiled.bound;
  }

  checkRequest(request: Pick<RerankRequest, 'user' | 'context'>): void {
    if (this.#session !== undefined) return this.#session.checkRequest(request);
    const { user, context } = request;
    if (user !== undefined) this.declared.checkFeatures(user);
    if (context !== undefined) this.declared.checkFeatures(context, 'context');
  }

  async score(request: RerankRequest, candidates: RerankCandidates, signal?: AbortSignal): Promise<RerankScores> {
    if (candidates.rows.length === 0)
      return { scores: new Float32Array(0), nonFinite: 0, queueMs: 0, runMs: 0, gatherMs: 0 };
    // Only while the breaker of this reranker is open, so nobody gets here.
    if (this.#session === undefined)
      throw new BelfryError('BELFRY_CIRCUIT_OPEN', `${this.#label}: its model server has not answered yet`);
    return this.#session.score(request, candidates, signal);
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  #mismatch(reason: string): BelfryError {
    return new BelfryError('BELFRY_BINDING_MISMATCH', `model ${this.#label}: ${reason}`, { field: this.#label });
  }
}

/** Inputs as the registry declares them; a server that answers tells dtypes that it does not declare. */
function declaredInputs({ inputs }: KserveRerankerOptions): TensorSpec[] {
  return Object.entries(inputs).map(([name, { dtype }]) => ({ name, dtype: dtype ?? 'float32', shape: null }));
}
