/** What is asked of a job, filled and checked, and what it will take: said before its first byte is written. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, extname, resolve } from 'node:path';
import { ANN_BOUNDS } from '../ann/params.js';
import { BelfryError, invalid } from '../errors.js';
import type { Manifest } from '../generation/manifest.js';
import { CHUNK_HITS, chunkUsers, slotBytes } from './chunk.js';
import { SLOTS } from './output-thread.js';

export type OutputLayout = 'long' | 'lists' | 'npy';

export const JOB_DEFAULTS = { k: 100, batchUsers: 4_096 } as const;
/** Values and hits of one native call: both are copied on the JS thread, in well under a millisecond. */
const CALL_VALUES = ANN_BOUNDS.queryValuesPerCall.default;
/** The output thread's own heap, and what both threads leave between two garbage collections; measured, rounded up. */
const BASE_BYTES = 80_000_000;
/** Free disk beyond what the output takes at most. */
const DISK_FLOOR_BYTES = 32 * 1024 * 1024;

export interface JobRequest {
  readonly out: string;
  readonly k?: number | undefined;
  readonly layout?: 'long' | 'lists' | undefined;
  readonly batch?: number | undefined;
  readonly exact?: boolean | undefined;
  readonly recall?: number | undefined;
}

export interface FilledJob {
  readonly out: string;
  /** Of `.npy`: the scores, then the ids, whose file says that both are there. */
  readonly finals: readonly string[];
  readonly folder: string;
  readonly layout: OutputLayout;
  readonly k: number;
  /** Users of one native call. */
  readonly batch: number;
  readonly exact: boolean;
  readonly recall?: number | undefined;
}

/** What a job will take. */
export interface JobPlan {
  readonly users: number;
  /** Users whose answers an earlier run of the same job has left. */
  readonly resumedUsers: number;
  readonly k: number;
  /** At most; what is already there is not counted. */
  readonly writeBytes: number;
  readonly freeBytes: number;
  /** At most, beside the generation. Does not grow with the number of users. */
  readonly memoryBytes: number;
  readonly path: string;
}

/** Errors: BELFRY_INVALID_ARGUMENT, BELFRY_FILE_UNREADABLE; each names the option. */
export function fillJob(request: JobRequest, dims: number): FilledJob {
  if (typeof request.out !== 'string' || request.out === '')
    throw invalid('out', 'a path that ends with .parquet or .npy', request.out);
  const out = resolve(request.out);
  const isNpy = extname(out) === '.npy';
  if (!isNpy && extname(out) !== '.parquet')
    throw invalid('out', 'a path that ends with .parquet or .npy', request.out);
  if (request.layout !== undefined && !['long', 'lists'].includes(request.layout))
    throw invalid('format', 'long or lists', request.layout);
  if (isNpy && request.layout !== undefined)
    throw invalid('format', 'a .parquet file: a .npy has one layout', request.layout);
  checkFolder(out);
  const k = integer('k', request.k, JOB_DEFAULTS.k, ANN_BOUNDS.k.max);
  const batchMax = Math.max(1, Math.min(JOB_DEFAULTS.batchUsers, Math.floor(CALL_VALUES / Math.max(dims, k))));
  const { exact = false, recall } = request;
  if (recall !== undefined && !(recall > 0 && recall <= 1))
    throw invalid('recall', 'a number above 0, up to 1', recall);
  if (exact && recall !== undefined && recall < 1) throw invalid('recall', 'no recall below 1 with exact', recall);
  return {
    out,
    finals: isNpy ? [out.replace(/\.npy$/, '.scores.npy'), out] : [out],
    folder: `${out}.partial`,
    layout: isNpy ? 'npy' : (request.layout ?? 'long'),
    k,
    batch: integer('batch', request.batch, batchMax, batchMax),
    exact,
    recall,
  };
}

function integer(field: string, value: number | undefined, otherwise: number, max: number): number {
  if (value === undefined) return otherwise;
  if (!Number.isInteger(value) || value < 1 || value > max)
    throw invalid(field, `an integer from 1 to ${max}`, value, { limit: max });
  return value;
}

function checkFolder(out: string): void {
  const folder = dirname(out);
  const found = statSync(folder, { throwIfNoEntry: false });
  if (found === undefined || !found.isDirectory()) {
    const what = found === undefined ? 'does not exist' : 'is not a folder';
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `out: folder ${folder} ${what}; make it, or choose another --out`, {
      field: 'out',
    });
  }
  if (existsSync(out) && statSync(out).isDirectory())
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `out: ${out} is a folder; name a file`, { field: 'out' });
}

/** Bytes of the whole output at most, and of memory beside the generation at most. */
export function estimate(
  { layout, k, batch }: FilledJob,
  manifest: Manifest,
  users: number,
): { fileBytes: number; memoryBytes: number } {
  const { count: itemRows, dims, idsFile } = manifest.items;
  const perChunk = Math.min(chunkUsers(k), Math.max(1, users));
  const chunkHits = perChunk * k;
  const idBytes = idsFile === undefined ? 8 : 4 + (manifest.files[idsFile]?.bytes ?? 0) / Math.max(1, itemRows);
  const userIdBytes =
    manifest.users?.idsFile === undefined
      ? 8
      : 4 + (manifest.files[manifest.users.idsFile]?.bytes ?? 0) / Math.max(1, manifest.users.count);
  const hits = users * Math.min(k, itemRows);
  const dictionary = Math.min(itemRows, chunkHits) * idBytes;
  const indexBits = Math.ceil(Math.log2(Math.max(2, Math.min(itemRows, chunkHits))));
  const fileBytes =
    layout === 'npy'
      ? users * k * 12 + 256
      : hits * (4.1 + indexBits / 8) + users * (userIdBytes + 16) + Math.ceil(users / perChunk) * (dictionary + 2_000);
  // Slots; encoding (indexes, scores, ranks and their pages: 24 bytes a hit at most); ids; calls under way.
  const memoryBytes =
    BASE_BYTES +
    SLOTS * slotBytes(perChunk, k) +
    24 * Math.min(chunkHits, CHUNK_HITS) +
    2 * dictionary +
    perChunk * (userIdBytes + 64) +
    itemRows * (idBytes + (idsFile?.endsWith('.txt') ? 16 : 0) + 4) +
    3 * batch * (2 * dims * 4 + k * 8) +
    itemRows / 8;
  return { fileBytes: Math.ceil(fileBytes), memoryBytes: Math.ceil(memoryBytes) };
}

/** Error: BELFRY_DISK_SPACE. */
export function requireDisk(out: string, writeBytes: number, freeBytes: number): void {
  const needed = writeBytes + DISK_FLOOR_BYTES;
  if (freeBytes >= needed) return;
  throw new BelfryError(
    'BELFRY_DISK_SPACE',
    `${basename(out)}: the job needs up to ${needed} bytes free in ${dirname(out)} (${writeBytes} and a floor of ${DISK_FLOOR_BYTES}), there are ${freeBytes}; free some, or choose another --out`,
    { field: 'out', limit: needed },
  );
}
