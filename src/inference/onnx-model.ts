/**
 * One ONNX model in its own small pool of worker threads.
 *
 * A pool per model, not one for all: a model comes and goes with its generation, and Piscina cannot tell "forget that
 * session" to each worker of a shared pool; and a slow scorer cannot take the thread that the user tower waits for.
 * The price is one thread and its heap (12 MB measured, 0.15 ms a round trip) per model.
 *
 * House rule: a worker is never terminated while ONNX Runtime runs in it, because that aborts the process (exit 134).
 * So no signal reaches the pool, there is no destroy() and no time-out that kills: a caller past its deadline abandons
 * a run that has begun, and a run that still waits is dropped from our own queue. close() waits for what is running
 * before the idle workers end.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { BelfryError } from '../errors.js';
import { Breaker } from '../resilience/breaker.js';
import type { TensorData, TensorSpec } from '../types.js';
import { buffersOf } from './buffers.js';
import { ModelWorkers } from './model-workers.js';
import { loadOnnx } from './onnx-file.js';
import { modelInvalid, type OnnxModelFile, readOnnx, specOf } from './onnx-graph.js';
import type { LoadReply, RunReply, RunTask, WorkerSetup } from './onnx-worker.js';

export interface OnnxModelOptions {
  /** What messages and metrics call the model, for example `two-tower@1.0`. */
  readonly name: string;
  /** The file, or a model already in memory (a cut graph). */
  readonly source: { readonly path: string; readonly sha256?: string } | { readonly bytes: Uint8Array };
  /** Worker threads, each with its own copy of the model. */
  readonly workers?: number;
  readonly intraOpThreads?: number;
  /** Runs that may wait for a worker; one more is BELFRY_OVERLOADED. */
  readonly maxQueue?: number;
  readonly onRun?: (timing: { readonly queueMs: number; readonly runMs: number }) => void;
}

export const ONNX_MODEL_DEFAULTS = { workers: 1, intraOpThreads: 1, maxQueue: 64 } as const;

export interface OnnxRun {
  readonly outputs: Readonly<Record<string, TensorData>>;
  /** From the call to the first instruction in the worker. */
  readonly queueMs: number;
  readonly runMs: number;
  /** The buffers of feeds that were handed over, for other feeds. */
  readonly returned: readonly ArrayBuffer[];
}

export interface RunOptions {
  /** Outputs to compute; all of them by default. */
  readonly fetches?: readonly string[];
  readonly signal?: AbortSignal;
  /** Makes the feeds again. With it they are handed over to the worker, not copied, and of no use to the caller any more. */
  readonly remake?: () => Readonly<Record<string, TensorData>>;
}

/** Runs whose worker died, and died again. */
const CRASHES_IN_A_ROW = 3;

interface Waiting {
  readonly task: RunTask;
  readonly remake: RunOptions['remake'];
  readonly signal: AbortSignal | undefined;
  readonly sentNs: bigint;
  readonly resolve: (run: OnnxRun) => void;
  readonly reject: (error: unknown) => void;
  release: () => void;
}

export class OnnxModel {
  readonly name: string;
  readonly info: { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] };
  readonly workers: number;
  readonly #pool: ModelWorkers;
  readonly #queueMax: number;
  /** Workers that die one after the other would be started for ever, and each start costs more than a run. */
  readonly #crashLoop: Breaker;
  readonly #onRun: OnnxModelOptions['onRun'];
  readonly #queue: Waiting[] = [];
  #running = 0;
  #drained: (() => void) | undefined;
  #closed: Promise<void> | undefined;

  private constructor(options: OnnxModelOptions, pool: ModelWorkers, model: OnnxModelFile) {
    this.name = options.name;
    this.info = { inputs: model.graph.inputs.map(specOf), outputs: model.graph.outputs.map(specOf) };
    this.workers = options.workers ?? ONNX_MODEL_DEFAULTS.workers;
    this.#pool = pool;
    this.#crashLoop = new Breaker({
      name: `the worker of model ${options.name}`,
      failuresInARow: CRASHES_IN_A_ROW,
      failureShare: Infinity,
    });
    this.#queueMax = options.maxQueue ?? ONNX_MODEL_DEFAULTS.maxQueue;
    this.#onRun = options.onRun;
  }

  /** Checks the file, starts the workers and loads the model in each of them. */
  static async open(options: OnnxModelOptions): Promise<OnnxModel> {
    const { name, source } = options;
    const model =
      'path' in source ? (await loadOnnx(source.path, name, source.sha256)).model : readOnnx(source.bytes, name);
    const workers = options.workers ?? ONNX_MODEL_DEFAULTS.workers;
    const setup: WorkerSetup = {
      source: 'path' in source ? source.path : source.bytes,
      intraOpThreads: options.intraOpThreads ?? ONNX_MODEL_DEFAULTS.intraOpThreads,
    };
    const pool = new ModelWorkers({ filename: workerFile(), workerData: setup, count: workers });
    // One task at a time per worker: as many tasks as workers reach all of them.
    const replies = await Promise.all(Array.from({ length: workers }, () => loadIn(pool)));
    const failed = replies.find((reply) => 'failure' in reply);
    if (failed !== undefined) {
      await pool.close();
      throw modelInvalid(name, `ONNX Runtime cannot load it: ${failed.failure}`);
    }
    return new OnnxModel(options, pool, model);
  }

  get pending(): number {
    return this.#running + this.#queue.length;
  }

  /**
   * Runs the model once. The feeds are copied to the worker, so the caller may reuse them, unless it can make them again. When `signal` aborts, the
   * promise rejects with BELFRY_DEADLINE_EXCEEDED: a waiting run is dropped, one that has begun ends unheard.
   */
  run(feeds: Readonly<Record<string, TensorData>>, options: RunOptions = {}): Promise<OnnxRun> {
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) throw new BelfryError('BELFRY_CLOSED', `model ${this.name} is closed`);
      if (options.signal?.aborted) throw this.#late();
      if (this.#running >= this.workers && this.#queue.length >= this.#queueMax) {
        throw new BelfryError('BELFRY_OVERLOADED', `model ${this.name}: ${this.#queueMax} runs are waiting`, {
          limit: this.#queueMax,
        });
      }
      const waiting: Waiting = {
        task: { feeds, fetches: options.fetches ?? null, isMoved: options.remake !== undefined },
        remake: options.remake,
        signal: options.signal,
        sentNs: process.hrtime.bigint(),
        resolve,
        reject,
        release: () => {},
      };
      if (options.signal !== undefined) this.#watch(waiting, options.signal);
      this.#queue.push(waiting);
      this.#dispatch();
    });
  }

  /** Refuses new runs, answers those already taken, then ends the idle workers. */
  close(): Promise<void> {
    this.#closed ??= this.#drain();
    return this.#closed;
  }

  async #drain(): Promise<void> {
    if (this.pending > 0) {
      await new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
    }
    this.#crashLoop.close();
    await this.#pool.close();
  }

  #watch(waiting: Waiting, signal: AbortSignal): void {
    const onAbort = (): void => {
      const at = this.#queue.indexOf(waiting);
      if (at >= 0) this.#queue.splice(at, 1);
      waiting.reject(this.#late());
      this.#settled();
    };
    signal.addEventListener('abort', onAbort, { once: true });
    waiting.release = () => signal.removeEventListener('abort', onAbort);
  }

  #late(): BelfryError {
    return new BelfryError('BELFRY_DEADLINE_EXCEEDED', `model ${this.name}: the deadline passed before it answered`);
  }

  #dispatch(): void {
    while (this.#running < this.workers) {
      const waiting = this.#queue.shift();
      if (waiting === undefined) break;
      this.#running++;
      void this.#submit(waiting)
        .then(waiting.resolve, waiting.reject)
        .finally(() => {
          waiting.release();
          this.#running--;
          this.#dispatch();
          this.#settled();
        });
    }
  }

  #settled(): void {
    if (this.pending === 0) this.#drained?.();
  }

  async #submit(waiting: Waiting): Promise<OnnxRun> {
    const { sentNs } = waiting;
    let reply: RunReply;
    try {
      reply = await this.#crashLoop.run(() => this.#post(waiting));
    } catch (error) {
      if (error instanceof BelfryError) throw error; // left alone for a moment
      throw new BelfryError(
        'BELFRY_MODEL_FAILED',
        `model ${this.name}: its worker ended: ${(error as Error).message}`,
        { cause: error },
      );
    }
    if ('failure' in reply) throw new BelfryError('BELFRY_MODEL_FAILED', `model ${this.name}: ${reply.failure}`);
    const timing = { queueMs: Number(reply.startedNs - sentNs) / 1e6, runMs: reply.runMs };
    this.#onRun?.(timing);
    return { outputs: reply.outputs, ...timing, returned: reply.returned };
  }

  /**
   * Fault W1: a worker out of memory dies alone and the pool replaces it; a run has no side effects, so one retry is safe,
   * for whoever still waits.
   */
  async #post({ task, remake, signal }: Waiting): Promise<RunReply> {
    const send = (one: RunTask): Promise<unknown> =>
      this.#pool.run(one, 'runModel', remake === undefined ? [] : buffersOf(one.feeds));
    try {
      return (await send(task)) as RunReply;
    } catch (error) {
      if (signal?.aborted) throw error;
      return (await send(remake === undefined ? task : { ...task, feeds: remake() })) as RunReply;
    }
  }
}

async function loadIn(pool: ModelWorkers): Promise<LoadReply> {
  try {
    return (await pool.run(undefined, 'loadModel')) as LoadReply;
  } catch (error) {
    return { failure: error instanceof Error ? error.message : String(error) };
  }
}

/**
 * A worker thread needs JavaScript. Beside the compiled module that is `onnx-worker.js`; when a test runner executes
 * the TypeScript sources, it is the one in `dist/`.
 */
export function workerFile(base: string = import.meta.url): string {
  const candidates = ['./onnx-worker.js', '../../dist/inference/onnx-worker.js'].map((path) =>
    fileURLToPath(new URL(path, base)),
  );
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) {
    throw new BelfryError(
      'BELFRY_INTERNAL',
      `the worker for models is not built: none of ${candidates.join(', ')} is there; run \`npm run build\``,
    );
  }
  return found;
}
