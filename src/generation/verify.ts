/**
 * Is a generation what its build made? Sizes first, which costs nothing, then the SHA-256 of every file. Hashing runs in
 * worker threads: on the JS thread each step would hold up requests, and large files are hashed beside each other.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BelfryError } from '../errors.js';
import type { Manifest } from './manifest.js';
import type { HashReply, HashTask } from './verify-worker.js';
import { runInWorker, type WorkerOptions } from './worker.js';

export interface VerifyOptions extends Pick<WorkerOptions, 'isBackground' | 'signal'> {
  /** Threads that hash; by default 2. */
  readonly threads?: number;
}

/** Re-reads every file of the generation and compares it with the manifest. Error: BELFRY_GENERATION_CORRUPT. */
export async function verifyGeneration(folder: string, manifest: Manifest, options: VerifyOptions = {}): Promise<void> {
  await verifySizes(folder, manifest);
  const largestFirst = Object.entries(manifest.files).sort(([, a], [, b]) => b.bytes - a.bytes);
  const parts = Array.from({ length: options.threads ?? 2 }, () => ({ names: [] as string[], bytes: 0 }));
  for (const [name, { bytes }] of largestFirst) {
    const least = parts.reduce((a, b) => (b.bytes < a.bytes ? b : a));
    least.names.push(name);
    least.bytes += bytes;
  }
  await Promise.all(
    parts
      .filter(({ names }) => names.length > 0)
      .map(async ({ names }) => {
        const paths = names.map((name) => join(folder, name));
        const task: HashTask = { paths };
        const reply = await runInWorker<HashReply>('generation/verify-worker', task, options);
        for (const [at, name] of names.entries()) {
          const found = reply[at]!;
          if ('failure' in found) throw corrupt(paths[at]!, name, found.failure);
          if (found.sha256 !== manifest.files[name]!.sha256)
            throw corrupt(paths[at]!, name, 'its checksum does not fit the manifest');
        }
      }),
  );
}

/** Sizes alone: a file that is shorter than the manifest says must never be mapped. Error: BELFRY_GENERATION_CORRUPT. */
export async function verifySizes(folder: string, manifest: Manifest): Promise<void> {
  for (const [name, { bytes }] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const size = (await stat(path).catch(() => undefined))?.size;
    if (size !== bytes) throw corrupt(path, name, `expected ${bytes} bytes, found ${size ?? 'no file'}`);
  }
}

function corrupt(path: string, field: string, reason: string): BelfryError {
  return new BelfryError('BELFRY_GENERATION_CORRUPT', `${path}: ${reason}; rebuild with belfry build`, { field });
}
