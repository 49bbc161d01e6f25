/** Work in a worker thread of its own, so that it holds up no request; what runs there begins with `answerTask`. */
import { existsSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { BelfryError } from '../errors.js';
import type { WorkerTask } from './worker-entry.js';
import type { WorkerReply } from './worker-task.js';

export interface WorkerOptions {
  /** Others answer requests meanwhile: leave them the CPU. */
  readonly isBackground?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
  readonly heapMb?: number;
  /** What to throw where the worker itself ended: out of memory, out of time, a crash. */
  readonly explain?: (reason: string, cause?: unknown) => BelfryError;
}

/** Runs `dist/<module>.js` once. Errors: those of the work; the reason of `signal`; those of `explain`. */
export function runInWorker<Reply>(module: string, task: unknown, options: WorkerOptions = {}): Promise<Reply> {
  return withWorker<Reply, Reply>(module, task, options, async (reply) => reply);
}

/** As runInWorker, and the worker stays to answer what `use` asks of it, one question at a time. */
export async function withWorker<Reply, T>(
  module: string,
  task: unknown,
  { isBackground = false, signal, timeoutMs, heapMb, explain = defectOf(module) }: WorkerOptions,
  use: (reply: Reply, ask: <Answer>(question: unknown) => Promise<Answer>) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const workerData: WorkerTask = { task, isBackground, module: pathToFileURL(fileOf(module)).href };
  const worker = new Worker(fileOf('generation/worker-entry'), {
    workerData,
    ...(heapMb === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: heapMb } }),
  });
  let fail: (error: unknown) => void = () => undefined;
  const failed = new Promise<never>((_resolve, reject) => {
    fail = reject;
  });
  const abort = (): void => fail(signal!.reason);
  signal?.addEventListener('abort', abort, { once: true });
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => fail(explain(`it took more than ${timeoutMs} ms`)), timeoutMs);
  worker.once('error', (error: NodeJS.ErrnoException) => {
    const isFull = error.code === 'ERR_WORKER_OUT_OF_MEMORY';
    fail(explain(isFull ? `it took more than ${heapMb} MB` : error.message, error));
  });
  // A last answer may be told of in the same turn: those who wait for it go first.
  worker.once('exit', () => setImmediate(() => fail(explain('its thread ended without an answer'))));
  const answer = <Answer>(): Promise<Answer> =>
    new Promise<Answer>((resolve, reject) => {
      worker.once('message', (message: WorkerReply<Answer>) => {
        if ('reply' in message) resolve(message.reply);
        else reject(new BelfryError(message.failure.code, message.failure.message, message.failure.details));
      });
    });
  const run = async (): Promise<T> =>
    use(await answer<Reply>(), <Answer>(question: unknown) => {
      worker.postMessage(question);
      return answer<Answer>();
    });
  try {
    return await Promise.race([run(), failed]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
    await worker.terminate();
  }
}

function defectOf(module: string): (reason: string, cause?: unknown) => BelfryError {
  return (reason, cause) => new BelfryError('BELFRY_INTERNAL', `worker ${module}: ${reason}`, { cause });
}

/** A worker needs JavaScript: beside the compiled module, or in `dist/` when a test runner executes the sources. */
function fileOf(module: string): string {
  const found = [`../${module}.js`, `../../dist/${module}.js`]
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(path));
  if (found === undefined)
    throw new BelfryError('BELFRY_INTERNAL', `worker ${module} is not built; run \`npm run build\``);
  return found;
}
