/** Runs in a worker thread: hashes files, one after the other, behind everything that answers requests. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { lowerThreadPriority } from './thread-priority.js';

export interface HashTask {
  readonly paths: readonly string[];
  /** Leave the CPU to the threads that serve. */
  readonly isBackground: boolean;
}

/** SHA-256 in hex of each file, in the order of the task; null for one that cannot be read, with the reason. */
export type HashReply = readonly ({ readonly sha256: string } | { readonly failure: string })[];

const STEP_BYTES = 1 << 20;

const { paths, isBackground } = workerData as HashTask;
if (isBackground) lowerThreadPriority();
const buffer = Buffer.allocUnsafe(STEP_BYTES);
parentPort!.postMessage(
  paths.map((path) => {
    try {
      return { sha256: hashOf(path) };
    } catch (error) {
      return { failure: (error as Error).message };
    }
  }) satisfies HashReply,
);

function hashOf(path: string): string {
  const hash = createHash('sha256');
  const file = openSync(path, 'r');
  try {
    for (let read = readSync(file, buffer); read > 0; read = readSync(file, buffer))
      hash.update(buffer.subarray(0, read));
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}
