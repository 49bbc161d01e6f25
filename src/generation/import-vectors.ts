/** One `.npy` of an export into a generation: converted, checked, described. The source is never mapped. */
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { loadAddon, type NativeMatrix, type VectorProfile } from '../ann/addon.js';
import { BelfryError } from '../errors.js';
import type { Metric } from '../types.js';
import { fileCall, hashFile, remove } from './files.js';
import type { SourceFile, VectorSection } from './manifest.js';
import { readRows } from '../ann/read-rows.js';

/** Rows a step: about 1 MB at 64 dims, so that progress moves and a stop is noticed soon. */
const STEP_ROWS = 4096;
/** `skip` leaves out at most this share of the rows: more is a broken export, not a few bad rows. */
export const SKIP_SHARE_MAX = 0.001;

export interface ImportOptions {
  readonly modelsFolder: string;
  /** Relative path of the `.npy`, the same in the models folder and in the generation. */
  readonly file: string;
  readonly into: string;
  readonly metric: Metric;
  readonly onBadVector: 'reject' | 'skip';
  readonly onProgress: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface ImportedVectors {
  readonly section: Omit<VectorSection, 'idsFile' | 'idKind' | 'norms'> & {
    readonly norms: Pick<VectorSection['norms'], 'min' | 'mean' | 'max'>;
  };
  readonly source: SourceFile;
}

/** Errors: every BELFRY_NPY_* code, BELFRY_FILE_CHANGED, BELFRY_BAD_VECTOR. */
export async function importVectors(options: ImportOptions): Promise<ImportedVectors> {
  const path = join(options.modelsFolder, options.file);
  const out = join(options.into, options.file);
  const before = await describe(path, options.file);
  const job = await fileCall('vectors', 'open', out, () => loadAddon().openImport({ path, out }));
  let profile: VectorProfile;
  try {
    for (let done = 0; done < job.rows;) {
      options.signal?.throwIfAborted();
      done = await fileCall('vectors', 'write', out, () => job.step(STEP_ROWS));
      options.onProgress(done, job.rows);
    }
    profile = await fileCall('vectors', 'sync', out, () => job.finish());
  } catch (error) {
    job.abort();
    await remove(out, 'discard');
    throw error;
  }
  // The native reader compares size and times of its descriptor; the hash also catches a rewrite within one tick.
  const after = await describe(path, options.file);
  if (after.sha256 !== before.sha256) {
    throw new BelfryError(
      'BELFRY_FILE_CHANGED',
      `${options.file}: changed while it was read; export to a new folder and rename it when it is whole`,
      {
        field: options.file,
      },
    );
  }
  const skippedRows = await badRows(options, out, profile);
  return {
    source: before,
    section: {
      file: options.file,
      count: profile.rows,
      dims: profile.dims,
      dtype: job.info.dtype === 'f2' ? 'f2' : 'f4',
      norms: { min: profile.normMin, mean: profile.normMean, max: profile.normMax },
      zeroVectors: profile.zeroCount,
      skippedRows,
    },
  };
}

async function describe(path: string, name: string): Promise<SourceFile> {
  const facts = await hashFile(path);
  return { path: name, mtimeMs: (await stat(path)).mtimeMs, ...facts };
}

/** What the input check says of the rows: an error, or the rows to leave out. */
async function badRows(options: ImportOptions, copy: string, profile: VectorProfile): Promise<number[]> {
  const { file, metric } = options;
  const zeroIsBad = metric === 'cosine';
  const bad = profile.nonFiniteCount + (zeroIsBad ? profile.zeroCount : 0);
  if (bad === 0) return [];
  const what =
    profile.nonFiniteCount > 0
      ? `${profile.nonFiniteCount} rows hold NaN, infinite or overflowing values (first: ${[...profile.nonFiniteRows].slice(0, 5).join(', ')})`
      : `${profile.zeroCount} rows are zero vectors, which cosine cannot rank (first: ${[...profile.zeroRows].slice(0, 5).join(', ')})`;
  if (options.onBadVector === 'reject') {
    throw new BelfryError(
      'BELFRY_BAD_VECTOR',
      `${file}: ${what}; mend the export, or leave them out with --on-bad-vector skip`,
      { field: file },
    );
  }
  const limit = Math.floor(profile.rows * SKIP_SHARE_MAX);
  if (bad > limit) {
    throw new BelfryError(
      'BELFRY_BAD_VECTOR',
      `${file}: ${what}; --on-bad-vector skip leaves out at most ${limit} of ${profile.rows} rows (0.1 %)`,
      {
        field: file,
        limit,
      },
    );
  }
  const matrix = await loadAddon().openMatrix(copy);
  try {
    const rows = await findBadRows(matrix, zeroIsBad);
    await blank(copy, rows, matrix);
    return rows;
  } finally {
    matrix.close();
  }
}

/** Left-out rows keep their place (rows are positions in the export) but hold zeros: no NaN reaches a search. */
async function blank(copy: string, rows: readonly number[], { info, dims }: NativeMatrix): Promise<void> {
  const zeros = Buffer.alloc(dims * (info.dtype === 'f2' ? 2 : 4));
  const file = await open(copy, 'r+');
  try {
    for (const row of rows) {
      const at = info.dataOffset + row * zeros.length;
      await fileCall('vectors', 'write', copy, () => file.write(zeros, 0, zeros.length, at));
    }
    await fileCall('vectors', 'sync', copy, () => file.sync());
  } finally {
    await file.close();
  }
}

async function findBadRows(matrix: NativeMatrix, zeroIsBad: boolean): Promise<number[]> {
  const found: number[] = [];
  for (let start = 0; start < matrix.rows; start += STEP_ROWS) {
    const rows = Uint32Array.from({ length: Math.min(STEP_ROWS, matrix.rows - start) }, (_, offset) => start + offset);
    const values = await readRows(matrix, rows);
    for (let i = 0; i < rows.length; i++) {
      const vector = values.subarray(i * matrix.dims, (i + 1) * matrix.dims);
      const isBad = vector.some((one) => !Number.isFinite(one)) || (zeroIsBad && vector.every((one) => one === 0));
      if (isBad) found.push(start + i);
    }
  }
  return found;
}
