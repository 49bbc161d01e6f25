/**
 * The worker threads of one model: Piscina, with what it leaves to its user. When a worker dies and its replacement
 * dies while it starts, Piscina starts no more, keeps the waiting task for ever, and emits an `error` that ends a
 * process which does not listen. Here such a pool is given up: the task fails, and the next one starts a fresh pool.
 */
import { Piscina } from 'piscina';
import { disableModelTelemetry } from '../config/environment.js';

export class ModelWorkers {
  readonly #filename: string;
  readonly #workerData: unknown;
  readonly #count: number;
  #pool: Piscina | undefined;
  #isClosed = false;

  constructor(options: { readonly filename: string; readonly workerData: unknown; readonly count: number }) {
    this.#filename = options.filename;
    this.#workerData = options.workerData;
    this.#count = options.count;
    this.#pool = this.#start();
  }

  /** Rejects when the worker ended, or when the task cannot be sent to one. Buffers of `moved` are handed over, not copied. */
  async run(task: unknown, name: string, moved: readonly ArrayBuffer[] = []): Promise<unknown> {
    if (this.#isClosed) throw new Error('its workers are closed');
    this.#pool ??= this.#start();
    return await this.#pool.run(task, { name, transferList: [...moved] });
  }

  /** Ends the workers, which must be idle. */
  async close(): Promise<void> {
    this.#isClosed = true;
    // Its own close() waits for tasks, of which there are none here, with a timer that is never cleared and holds the pool
    // with all that it was made of, the bytes of the model too.
    await this.#pool?.destroy();
    this.#pool = undefined;
  }

  #start(): Piscina {
    disableModelTelemetry();
    const pool = new Piscina({
      filename: this.#filename,
      workerData: this.#workerData,
      minThreads: this.#count,
      maxThreads: this.#count,
      idleTimeout: Number.POSITIVE_INFINITY,
      concurrentTasksPerWorker: 1,
      // The model's own count bounds the queue.
      maxQueue: Number.POSITIVE_INFINITY,
      recordTiming: false,
    });
    const giveUpWhenEmpty = (): void => {
      if (this.#isClosed || this.#pool !== pool || pool.threads.length > 0) return;
      this.#pool = undefined;
      // No thread is left to end; this rejects the tasks that wait for one.
      void pool.destroy();
    };
    // A worker that died without a task. What waits for it learns of it below; the next task finds a replacement.
    pool.on('error', giveUpWhenEmpty);
    // Told before the worker leaves the list and before a replacement enters it, both in the same turn.
    pool.on('workerDestroy', () => queueMicrotask(giveUpWhenEmpty));
    return pool;
  }
}
