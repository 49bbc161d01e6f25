/**
 * Where generations lie under a prefix of an object store, as in a data folder:
 *
 *     gen-<id>/<file>          written first
 *     gen-<id>/manifest.json   last: what has none is half a copy, and nobody's to read
 *     latest                   the id of the newest copy, after all of it
 */
import { BelfryError } from '../errors.js';
import type { FileFacts } from '../generation/files.js';
import type { Manifest } from '../generation/manifest.js';
import type { ObjectStore } from './object-store.js';

export const MANIFEST = 'manifest.json';
/** Far more than any manifest has. */
export const MANIFEST_BYTES_MAX = 64 * 1024 * 1024;
export const LATEST = 'latest';
const LATEST_BYTES_MAX = 256;
const ID = /^(?!\.+$)[A-Za-z0-9._-]{1,64}$/;

/** Metadata of an object that a push wrote: the SHA-256 of its bytes, hexadecimal. */
export const SHA256 = 'sha256';

/** What a copy consists of besides its manifest. */
export function copiedFiles(manifest: Manifest): Record<string, FileFacts> {
  return { ...manifest.files, ...manifest.report };
}

export function copyFolder(id: string): string {
  return `gen-${id}`;
}

/** The id that `latest` names. Errors: BELFRY_UNKNOWN_GENERATION where nothing was pushed, BELFRY_OBJECT_CORRUPT. */
export async function readLatest(store: ObjectStore, signal?: AbortSignal): Promise<string> {
  const bytes = await store.readSmall(LATEST, LATEST_BYTES_MAX, signal);
  if (bytes === undefined) {
    throw new BelfryError(
      'BELFRY_UNKNOWN_GENERATION',
      `${store.show()} has no object called ${LATEST}; push a generation there first`,
      { field: 'from' },
    );
  }
  const id = String(bytes).trim();
  if (!ID.test(id))
    throw new BelfryError('BELFRY_OBJECT_CORRUPT', `${store.show(LATEST)} names no generation`, { field: 'from' });
  return id;
}

export async function writeLatest(store: ObjectStore, id: string, signal?: AbortSignal): Promise<void> {
  await store.put(LATEST, Buffer.from(`${id}\n`), {}, signal);
}
