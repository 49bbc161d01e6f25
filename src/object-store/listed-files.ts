/** `files` of export.json: the SHA-256 of each file of the export, where the exporter writes them. */
import { Value } from 'typebox/value';
import { ListedFilesSchema } from '../config/models-folder.js';
import { BelfryError } from '../errors.js';
import type { ObjectFacts, ObjectStore } from './object-store.js';

const EXPORT_JSON_BYTES_MAX = 16 * 1024 * 1024;

/** Key → SHA-256, hexadecimal; empty where export.json names none. Error: BELFRY_EXPORT_INVALID. */
export async function readListedFiles(
  store: ObjectStore,
  { key }: ObjectFacts,
  signal: AbortSignal | undefined,
): Promise<Map<string, string>> {
  const bytes = await store.readSmall(key, EXPORT_JSON_BYTES_MAX, signal);
  const refuse = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_EXPORT_INVALID', `${store.show(key)}: ${why}`, { field: 'files', cause });
  let files: unknown;
  try {
    files = (JSON.parse(String(bytes ?? '{}')) as { files?: unknown } | null)?.files ?? {};
  } catch (error) {
    throw refuse(`is not JSON (${(error as Error).message})`, error);
  }
  if (!Value.Check(ListedFilesSchema, files))
    throw refuse('files: expected an object of paths and their SHA-256 in 64 hexadecimal digits');
  return new Map(Object.entries(files));
}
