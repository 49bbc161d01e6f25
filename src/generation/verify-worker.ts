/** Runs in a worker thread: hashes files, one after the other. */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync } from 'node:fs';
import { answerTask } from './worker-task.js';

export interface HashTask {
  readonly paths: readonly string[];
}

/** For each file of the task its SHA-256 in hex, or why it cannot be read. */
export type HashReply = readonly (
  { readonly sha256: string } | { readonly failure: string; readonly code?: string | undefined }
)[];

const STEP_BYTES = 1 << 20;
const buffer = Buffer.allocUnsafe(STEP_BYTES);

await answerTask(({ paths }: HashTask): HashReply =>
  paths.map((path) => {
    try {
      return { sha256: hashOf(path) };
    } catch (error) {
      const { message, code } = error as NodeJS.ErrnoException;
      return { failure: message, code };
    }
  }),
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
