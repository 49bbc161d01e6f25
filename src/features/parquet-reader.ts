/**
 * Reads a Parquet file in a worker thread of its own. A table is user input, and its decoder can be led by a flipped
 * byte into a loop or into memory without end; a thread that runs no native code can be ended safely, and decoding a
 * large table does not hold up requests while a new generation loads.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { BelfryError } from '../errors.js';
import { invalidTable, type ParquetColumns } from './parquet-columns.js';
import type { ParquetReply, ParquetTask } from './parquet-worker.js';

export const PARQUET_READER_DEFAULTS = { timeoutMs: 300_000, heapMb: 4096 } as const;

export interface ParquetReaderOptions {
  readonly timeoutMs?: number;
  readonly heapMb?: number;
}

export async function readParquetInWorker(
  path: string,
  file: string,
  options: ParquetReaderOptions = {},
): Promise<ParquetColumns> {
  const timeoutMs = options.timeoutMs ?? PARQUET_READER_DEFAULTS.timeoutMs;
  const heapMb = options.heapMb ?? PARQUET_READER_DEFAULTS.heapMb;
  const task: ParquetTask = { path, file };
  const worker = new Worker(workerFile(), { workerData: task, resourceLimits: { maxOldGenerationSizeMb: heapMb } });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<ParquetColumns>((resolve, reject) => {
      timer = setTimeout(
        () =>
          reject(
            invalidTable(
              file,
              `reading it took more than ${timeoutMs} ms; it is damaged, or larger than the limit allows`,
            ),
          ),
        timeoutMs,
      );
      worker.once('message', (reply: ParquetReply) => {
        if ('table' in reply) resolve(reply.table);
        else
          reject(
            new BelfryError(
              reply.failure.code,
              reply.failure.message,
              reply.failure.field === undefined ? {} : { field: reply.failure.field },
            ),
          );
      });
      worker.once('error', (error: NodeJS.ErrnoException) => {
        const reason =
          error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? `reading it took more than ${heapMb} MB` : error.message;
        reject(invalidTable(file, `${reason}; it is damaged, or larger than the limit allows`, { cause: error }));
      });
      worker.once('exit', () => reject(invalidTable(file, 'its reader ended without an answer; it is damaged')));
    });
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}

/** A worker needs JavaScript: beside the compiled module, or in `dist/` when a test runner executes the sources. */
function workerFile(): string {
  const candidates = ['./parquet-worker.js', '../../dist/features/parquet-worker.js'].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) {
    throw new BelfryError(
      'BELFRY_INTERNAL',
      `the reader of tables is not built: none of ${candidates.join(', ')} is there; run \`npm run build\``,
    );
  }
  return found;
}
