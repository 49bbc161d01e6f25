/**
 * One ONNX model in its own small pool of worker threads.
 *
 * A pool per model, not one for all: a model comes and goes with its generation, and Piscina cannot tell "forget that
 * session" to each worker of a shared pool; and a slow scorer cannot take the thread that the user tower waits for.
 * The price is one thread and its heap (12 MB measured, 0.15 ms a round trip) per model.
 *
 * House rule: a worker is never terminated while ONNX Runtime runs in it, because that aborts the process (exit 134).
 * So there is no signal, no destroy(), no time-out that kills: a caller past its deadline abandons the promise, and
 * close() waits for what is running before the idle workers end.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Piscina } from 'piscina';
import { BelfryError } from '../errors.js';
import type { TensorData, TensorSpec } from '../types.js';
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
}

export class OnnxModel {
  readonly name: string;
  readonly info: { readonly inputs: readonly TensorSpec[]; readonly outputs: readonly TensorSpec[] };
  readonly workers: number;
  readonly #pool: Piscina;
  readonly #pendingMax: number;
  readonly #onRun: OnnxModelOptions['onRun'];
  readonly #pending = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;

  private constructor(options: OnnxModelOptions, pool: Piscina, model: OnnxModelFile) {
    this.name = options.name;
    this.info = { inputs: model.graph.inputs.map(specOf), outputs: model.graph.outputs.map(specOf) };
    this.workers = options.workers ?? ONNX_MODEL_DEFAULTS.workers;
    this.#pool = pool;
    this.#pendingMax = this.workers + (options.maxQueue ?? ONNX_MODEL_DEFAULTS.maxQueue);
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
    const pool = new Piscina({
      filename: workerFile(),
      workerData: setup,
      minThreads: workers,
      maxThreads: workers,
      idleTimeout: Number.POSITIVE_INFINITY,
      concurrentTasksPerWorker: 1,
      // Our own count bounds the queue, and close() drains before it asks the pool to close, so neither may fire here.
      maxQueue: Number.POSITIVE_INFINITY,
      closeTimeout: 2 ** 31 - 1,
      recordTiming: false,
    });
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
    return this.#pending.size;
  }

  /** Runs the model once. The feeds are copied to the worker, so the caller may reuse them. */
  async run(feeds: Readonly<Record<string, TensorData>>, fetches?: readonly string[]): Promise<OnnxRun> {
    if (this.#closed !== undefined) throw new BelfryError('BELFRY_CLOSED', `model ${this.name} is closed`);
    if (this.#pending.size >= this.#pendingMax) {
      throw new BelfryError(
        'BELFRY_OVERLOADED',
        `model ${this.name}: ${this.#pendingMax} runs are waiting or running`,
        {
          limit: this.#pendingMax,
        },
      );
    }
    const running = this.#submit({ feeds, fetches: fetches ?? null });
    this.#pending.add(running);
    try {
      return await running;
    } finally {
      this.#pending.delete(running);
    }
  }

  /** Refuses new runs, waits for those under way, then ends the idle workers. */
  close(): Promise<void> {
    this.#closed ??= this.#drain();
    return this.#closed;
  }

  async #drain(): Promise<void> {
    while (this.#pending.size > 0) await Promise.allSettled([...this.#pending]);
    await this.#pool.close();
  }

  async #submit(task: RunTask): Promise<OnnxRun> {
    const sentNs = process.hrtime.bigint();
    let reply: RunReply;
    try {
      reply = await this.#post(task);
    } catch (error) {
      throw new BelfryError(
        'BELFRY_MODEL_FAILED',
        `model ${this.name}: its worker ended: ${(error as Error).message}`,
        { cause: error },
      );
    }
    if ('failure' in reply) throw new BelfryError('BELFRY_MODEL_FAILED', `model ${this.name}: ${reply.failure}`);
    const timing = { queueMs: Number(reply.startedNs - sentNs) / 1e6, runMs: reply.runMs };
    this.#onRun?.(timing);
    return { outputs: reply.outputs, ...timing };
  }

  /** Fault W1: a worker out of memory dies alone and the pool replaces it; a run has no side effects, so one retry is safe. */
  async #post(task: RunTask): Promise<RunReply> {
    try {
      return await this.#pool.run(task, { name: 'runModel' });
    } catch {
      return await this.#pool.run(task, { name: 'runModel' });
    }
  }
}

async function loadIn(pool: Piscina): Promise<LoadReply> {
  try {
    return await pool.run(undefined, { name: 'loadModel' });
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
