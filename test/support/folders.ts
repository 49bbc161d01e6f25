/** Temporary folders and models folders made from arrays. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { npyBytes } from './npy.js';

export const SAMPLE = fileURLToPath(new URL('../../embeddings/sample', import.meta.url));

/** Removed when the test ends. In a `beforeAll`, which has no test, pass `keep` and remove it in `afterAll`. */
export function temporaryFolder(options: { keep?: boolean } = {}): string {
  const path = mkdtempSync(join(tmpdir(), 'belfry-test-'));
  if (!options.keep) onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A `.npy` as NumPy writes it. */
export function npyFile(values: Float32Array | BigInt64Array, shape: readonly number[]): Buffer {
  const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return npyBytes({ descr: values instanceof Float32Array ? '<f4' : '<i8', shape, data });
}

export interface FolderContent {
  items?: { data: Float32Array; dims: number };
  users?: { data: Float32Array; dims: number };
  /** Any other file: relative path → content. */
  files?: Record<string, string | Uint8Array>;
}

export function makeModelsFolder(path: string, content: FolderContent): string {
  const write = (name: string, bytes: string | Uint8Array) => {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), bytes);
  };
  for (const [name, matrix] of [
    ['embeddings/item_embeddings.npy', content.items],
    ['embeddings/user_embeddings.npy', content.users],
  ] as const) {
    if (matrix !== undefined) write(name, npyFile(matrix.data, [matrix.data.length / matrix.dims, matrix.dims]));
  }
  for (const [name, bytes] of Object.entries(content.files ?? {})) write(name, bytes);
  return path;
}

/** Seeded numbers in [-1, 1): mulberry32. */
export function randomValues(count: number, seed: number): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}
