/** What a generation is made of: `manifest.json`, the last file that a build writes and the first that a load reads. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Value } from 'typebox/value';
import { conforms } from '../config/conforms.js';
import { explain, type SchemaError } from '../config/explain.js';
import { BelfryError } from '../errors.js';
import { type Manifest, MANIFEST_VERSION, ManifestSchema } from './manifest-schema.js';
import { writeDurable } from './files.js';

export {
  type ExclusionEntry,
  type GraphSection,
  type Manifest,
  MANIFEST_VERSION,
  type ModelEntry,
  type SourceFile,
  type UpsertsSection,
  type VectorSection,
} from './manifest-schema.js';

const FILE = 'manifest.json';

export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  const body = JSON.stringify(manifest, null, 2);
  const sha256 = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
  await writeDurable(join(folder, FILE), `{\n"manifest_sha256": "${sha256}",\n"manifest": ${body}\n}\n`, 'manifest');
}

/**
 * Reads and checks the manifest alone. Errors: BELFRY_GENERATION_CORRUPT; BELFRY_FILE_VERSION for that of another Belfry,
 * which is no damage; BELFRY_FILE_UNREADABLE.
 */
export async function readManifest(folder: string): Promise<Manifest> {
  const corrupt = (why: string, cause?: unknown, field = FILE) =>
    new BelfryError('BELFRY_GENERATION_CORRUPT', `${join(folder, FILE)}: ${why}`, { field, cause });
  let text: string;
  let parsed: { manifest_sha256?: unknown; manifest?: { version?: unknown } };
  try {
    text = await readFile(join(folder, FILE), 'utf8');
  } catch (error) {
    throw asDamage(error, FILE);
  }
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw corrupt(`cannot be read (${(error as Error).message})`, error);
  }
  const manifest = parsed?.manifest;
  if (typeof manifest !== 'object' || manifest === null) throw corrupt('holds no manifest');
  const sha256 = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
  if (sha256 !== parsed.manifest_sha256) throw corrupt('its checksum does not fit its content');
  if (manifest.version !== MANIFEST_VERSION) {
    throw new BelfryError(
      'BELFRY_FILE_VERSION',
      `${join(folder, FILE)} is of version ${manifest.version}; this Belfry reads version ${MANIFEST_VERSION}: rebuild with belfry build`,
    );
  }
  if (!conforms(ManifestSchema, manifest)) {
    const { field, message } = explain([...Value.Errors(ManifestSchema, manifest)] as SchemaError[], manifest);
    // Its bytes are as they were written: by a Belfry that is older or newer, and knows it as good.
    throw new BelfryError(
      'BELFRY_FILE_VERSION',
      `${join(folder, FILE)}: ${message}; this Belfry cannot read it: rebuild with belfry build`,
      { field },
    );
  }
  return manifest as Manifest;
}

/** A file that is missing is damage; one that cannot be read now may be whole. */
export function asDamage(error: unknown, field: string): BelfryError {
  const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
  const code = isMissing ? 'BELFRY_GENERATION_CORRUPT' : 'BELFRY_FILE_UNREADABLE';
  return new BelfryError(code, `${(error as Error).message}; rebuild with belfry build`, { field, cause: error });
}
