/**
 * Is a generation what its build made? Sizes first, which costs nothing, then the SHA-256 of every file. Large files are
 * hashed in worker threads, beside each other: on the JS thread they would hold up requests.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BelfryError } from '../errors.js';
import { hashFile } from './files.js';
import { asDamage, type Manifest } from './manifest.js';
import type { HashReply, HashTask } from './verify-worker.js';
import { runInWorker, type WorkerOptions } from './worker.js';

export interface VerifyOptions extends Pick<WorkerOptions, 'isBackground' | 'signal'> {
  /** Threads that hash; by default 2. */
  readonly threads?: number;
}

/** Up to so many bytes are hashed in less time than a worker takes to start. */
const BYTES_IN_PLACE = 4 * 1024 * 1024;

/** Re-reads every file and compares it with the manifest. Errors: BELFRY_GENERATION_CORRUPT, BELFRY_FILE_UNREADABLE. */
export async function verifyFiles(folder: string, manifest: Manifest, options: VerifyOptions = {}): Promise<void> {
  await verifySizes(folder, manifest);
  const sizes = Object.entries(manifest.files);
  const total = sizes.reduce((sum, [, { bytes }]) => sum + bytes, 0);
  if (total <= BYTES_IN_PLACE) {
    for (const [name] of sizes) {
      const found = await hashFile(join(folder, name)).catch((error: unknown) => {
        throw asDamage(error, name);
      });
      compare(folder, manifest, name, found.sha256);
    }
    return;
  }
  const parts = Array.from({ length: options.threads ?? 2 }, () => ({ names: [] as string[], bytes: 0 }));
  for (const [name, { bytes }] of sizes.sort(([, a], [, b]) => b.bytes - a.bytes)) {
    const least = parts.reduce((a, b) => (b.bytes < a.bytes ? b : a));
    least.names.push(name);
    least.bytes += bytes;
  }
  await Promise.all(
    parts
      .filter(({ names }) => names.length > 0)
      .map(async ({ names }) => {
        const task: HashTask = { paths: names.map((name) => join(folder, name)) };
        const reply = await runInWorker<HashReply>('generation/verify-worker', task, options);
        for (const [at, name] of names.entries()) {
          const found = reply[at]!;
          if ('failure' in found) throw asDamage(Object.assign(new Error(found.failure), { code: found.code }), name);
          compare(folder, manifest, name, found.sha256);
        }
      }),
  );
}

/** Sizes alone: a file that is shorter than the manifest says must never be mapped. Errors: as verifyFiles. */
export async function verifySizes(folder: string, manifest: Manifest): Promise<void> {
  for (const [name, { bytes }] of Object.entries(manifest.files)) {
    const { size } = await stat(join(folder, name)).catch((error: unknown) => {
      throw asDamage(error, name);
    });
    if (size !== bytes) throw corrupt(folder, name, `expected ${bytes} bytes, found ${size}`);
  }
}

function compare(folder: string, { files }: Manifest, name: string, sha256: string): void {
  if (sha256 !== files[name]!.sha256) throw corrupt(folder, name, 'its checksum does not fit the manifest');
}

function corrupt(folder: string, field: string, reason: string): BelfryError {
  const message = `${join(folder, field)}: ${reason}; rebuild with belfry build`;
  return new BelfryError('BELFRY_GENERATION_CORRUPT', message, { field });
}
