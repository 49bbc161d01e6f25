/** One task in a worker thread of its own: one message out, one message back. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { BelfryError } from '../errors.js';

/**
 * Runs `dist/<module>.js` with `task` as its workerData and resolves to its first message. Such a worker runs JavaScript
 * only, so it may be ended at any point. Errors: what the worker throws; the reason of `signal`.
 */
export async function runInWorker<Reply>(module: string, task: unknown, signal?: AbortSignal): Promise<Reply> {
  signal?.throwIfAborted();
  const worker = new Worker(fileOf(module), { workerData: task });
  let abort = (): void => undefined;
  try {
    return await new Promise<Reply>((resolve, reject) => {
      abort = () => reject(signal!.reason as Error);
      signal?.addEventListener('abort', abort, { once: true });
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', (code) =>
        reject(new BelfryError('BELFRY_INTERNAL', `worker ${module} ended with ${code} and without an answer`)),
      );
    });
  } finally {
    signal?.removeEventListener('abort', abort);
    await worker.terminate();
  }
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
