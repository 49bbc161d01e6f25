/** The main thread's side of the output thread: slots to fill, chunks to hand over, and their answers in order. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { BelfryError } from '../errors.js';
import type { Id } from '../types.js';
import { type Slot, slotBytes, slotOver } from './chunk.js';
import type { OutputReply, OutputRequest, OutputTask } from './output-worker.js';

/** One is filled while the other is written. */
export const SLOTS = 2;

export interface OutputState {
  /** Chunks that survive whatever happens. */
  readonly chunks: number;
  readonly hits: number;
  readonly bytes: number;
}

interface Waiting {
  readonly resolve: (state: OutputState) => void;
  readonly reject: (error: unknown) => void;
}

export class OutputThread {
  readonly slots: readonly Slot[];
  /** As of the last answer. */
  latest: OutputState = { chunks: 0, hits: 0, bytes: 0 };
  readonly #worker: Worker;
  readonly #waiting: Waiting[] = [];
  #failure: unknown;

  private constructor(task: OutputTask) {
    this.slots = task.slots.map((memory) => slotOver(memory, task.chunkUsers, task.k));
    this.#worker = new Worker(workerFile(), { workerData: task });
    this.#worker.on('message', (reply: OutputReply) => {
      if ('failure' in reply) {
        const { code, message, field } = reply.failure;
        this.#fail(new BelfryError(code, message, field === undefined ? {} : { field }));
      } else {
        this.latest = reply;
        this.#waiting.shift()?.resolve(reply);
      }
    });
    this.#worker.once('error', (error) => this.#fail(error));
    this.#worker.once('exit', () => this.#fail(new BelfryError('BELFRY_CLOSED', 'the output thread has ended')));
  }

  /** Loads the ids and takes up what an earlier process has left, which `latest` then tells. Errors: those of PartialOutput and of the ids file. */
  static async open(task: Omit<OutputTask, 'slots'>): Promise<OutputThread> {
    const bytes = slotBytes(task.chunkUsers, task.k);
    const thread = new OutputThread({
      ...task,
      slots: Array.from({ length: SLOTS }, () => new SharedArrayBuffer(bytes)),
    });
    try {
      await thread.#answer();
      return thread;
    } catch (error) {
      await thread.close();
      throw error;
    }
  }

  /** Ids of the next users of the chunk that is being filled; a few thousand at once at most. */
  addIds(ids: readonly Id[]): void {
    this.#send({ ids });
  }

  /** Resolves when the chunk is safe on disk; the slot is free then. */
  write(slot: number, users: number): Promise<OutputState> {
    this.#send({ chunk: { slot, users } });
    return this.#answer();
  }

  /** Resolves when the files have their final names; `bytes` is then their size. */
  publish(): Promise<OutputState> {
    this.#send({ publish: true });
    return this.#answer();
  }

  /** Call with no write under way. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #send(request: OutputRequest): void {
    this.#worker.postMessage(request);
  }

  #answer(): Promise<OutputState> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) reject(this.#failure);
      else this.#waiting.push({ resolve, reject });
    });
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}

/** A worker needs JavaScript: beside the compiled module, or in `dist/` when a test runner executes the sources. */
function workerFile(): string {
  const candidates = ['./output-worker.js', '../../dist/jobs/output-worker.js'].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) {
    throw new BelfryError(
      'BELFRY_INTERNAL',
      `the output thread is not built: none of ${candidates.join(', ')} is there; run \`npm run build\``,
    );
  }
  return found;
}
