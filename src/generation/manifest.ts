/** What a generation is made of: `manifest.json`, the last file that a build writes and the first that a load reads. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuiltGraph } from '../ann/build-graph.js';
import type { ExclusionFile, ModelRow } from '../config/models-folder.js';
import { BelfryError } from '../errors.js';
import type { Id, Metric } from '../types.js';
import { type FileFacts, hashFile, writeDurable } from './files.js';

/** v2: the graph section. */
export const MANIFEST_VERSION = 2;
const FILE = 'manifest.json';

export interface SourceFile extends FileFacts {
  /** Relative to the models folder. */
  readonly path: string;
  readonly mtimeMs: number;
}

export interface VectorSection {
  readonly file: string;
  readonly count: number;
  readonly dims: number;
  readonly dtype: 'f2' | 'f4';
  /** Ids file of the generation; absent when ids are row numbers. */
  readonly idsFile?: string;
  readonly idKind: 'row' | 'integer' | 'string';
  readonly norms: { readonly min: number; readonly mean: number; readonly max: number };
  readonly zeroVectors: number;
  /** Rows left out by `on_bad_vector: skip`. */
  readonly skippedRows: readonly number[];
}

/** The graph over the items, and what effort on it gives what recall. */
export interface GraphSection extends BuiltGraph {
  readonly file: string;
}

export interface CheckResult {
  readonly name: 'input' | 'skew';
  readonly status: 'passed' | 'failed' | 'not_checked';
  /** One sentence for people. */
  readonly detail: string;
  readonly value?: number;
  readonly threshold?: number;
}

/** An exclusion set, and what the build found in it. */
export interface ExclusionEntry extends ExclusionFile {
  readonly by: 'user' | 'everyone';
  readonly users: number;
  readonly entries: number;
  readonly unknownItems: number;
  readonly unknownUsers: number;
}

/** A model of the registry as the generation holds it. */
export interface ModelEntry extends Omit<ModelRow, 'sha256'> {
  /** File inside the generation; absent for formats that run elsewhere. */
  readonly file?: string;
  /** SHA-256 of the registry's file. */
  readonly sha256: string;
  readonly bytes: number;
}

export interface Manifest {
  readonly version: number;
  readonly id: string;
  readonly created: string;
  readonly builder: { readonly belfry: string; readonly node: string; readonly platform: string };
  readonly models_folder: string;
  readonly metric: Metric;
  readonly items: VectorSection;
  readonly users?: VectorSection;
  /** Absent for small catalogues, which are scanned. */
  readonly graph?: GraphSection;
  readonly itemFeatures?: string;
  readonly userFeatures?: string;
  /** Absent when the models folder has none. */
  readonly exclusions?: readonly ExclusionEntry[];
  readonly models: readonly ModelEntry[];
  readonly sources: readonly SourceFile[];
  /** Every file of the generation but the manifest itself. */
  readonly files: Readonly<Record<string, FileFacts>>;
  /** Of export.json: users that examples and the page begin with. */
  readonly exampleUsers: readonly Id[];
  readonly checks: readonly CheckResult[];
  readonly buildMs: number;
}

export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  const body = JSON.stringify(manifest, null, 2);
  const sha256 = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
  await writeDurable(join(folder, FILE), `{\n"manifest_sha256": "${sha256}",\n"manifest": ${body}\n}\n`, 'manifest');
}

/** Reads and checks the manifest alone. Error: BELFRY_GENERATION_CORRUPT. */
export async function readManifest(folder: string): Promise<Manifest> {
  const corrupt = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_GENERATION_CORRUPT', `${join(folder, FILE)}: ${why}`, { cause });
  let parsed: { manifest_sha256?: unknown; manifest?: Manifest };
  try {
    parsed = JSON.parse(await readFile(join(folder, FILE), 'utf8'));
  } catch (error) {
    throw corrupt(`cannot be read (${(error as Error).message})`, error);
  }
  const manifest = parsed?.manifest;
  if (typeof manifest !== 'object' || manifest === null) throw corrupt('holds no manifest');
  const sha256 = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
  if (sha256 !== parsed.manifest_sha256) throw corrupt('its checksum does not fit its content');
  if (manifest.version !== MANIFEST_VERSION) {
    throw corrupt(
      `is of version ${manifest.version}; this Belfry reads version ${MANIFEST_VERSION}: rebuild with belfry build`,
    );
  }
  return manifest;
}

/** Re-reads every file of the generation and compares it with the manifest. Error: BELFRY_GENERATION_CORRUPT. */
export async function verifyFiles(folder: string, manifest: Manifest): Promise<void> {
  for (const [name, expected] of Object.entries(manifest.files)) {
    const path = join(folder, name);
    const size = (await stat(path).catch(() => undefined))?.size;
    if (size !== expected.bytes) {
      throw new BelfryError(
        'BELFRY_GENERATION_CORRUPT',
        `${path}: expected ${expected.bytes} bytes, found ${size ?? 'no file'}; rebuild with belfry build`,
        { field: name },
      );
    }
    const { sha256 } = await hashFile(path);
    if (sha256 !== expected.sha256) {
      throw new BelfryError(
        'BELFRY_GENERATION_CORRUPT',
        `${path}: its checksum does not fit the manifest; rebuild with belfry build`,
        {
          field: name,
        },
      );
    }
  }
}
