/** For whom the job retrieves, in which order, and where their query vectors come from. */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { loadAddon, type NativeMatrix, type VectorProfile } from '../ann/addon.js';
import { BelfryError, invalid, show } from '../errors.js';
import { hashFile } from '../generation/files.js';
import type { Generation } from '../generation/generation.js';
import type { Features, Id, Row } from '../types.js';
import type { WrittenKind } from './packed-ids.js';
import { explainSystemError } from './system-errors.js';

/** Values copied in one go on the JS thread: a quarter of a millisecond. */
const READ_VALUES = 65_536;
/** Ids looked at between two turns of the event loop. */
const IDS_PER_TURN = 2_000;

/** Rows of query vectors that one step of the import reads. */
const IMPORT_ROWS = 4_096;

/** Everybody of the generation, ids, or the path of a `.npy` of query vectors. */
export type UserChoice = 'all' | { readonly ids: readonly Id[] } | { readonly vectors: string };

/** Query vectors of consecutive users. */
export interface QueryBatch {
  /** present x dims, row-major. */
  readonly vectors: Float32Array;
  /** Places of the users that have a vector, counted from the first of the batch; ascending. */
  readonly places: Uint32Array;
}

export interface UserSource {
  readonly count: number;
  readonly idKind: WrittenKind;
  /** What tells this list of users from another. */
  readonly fingerprint: string;
  /** Users without a query vector: rows that the build left out, and ids that the generation does not know. */
  readonly skipped: number;
  readonly unknown: number;
  readonly unknownExamples: readonly Id[];
  idOf(place: number): Id;
  read(from: number, to: number): Promise<QueryBatch>;
  close(): Promise<void>;
}

/** `folder` takes a copy of query vectors until `close`. Errors: those of the three kinds below. */
export function openUsers(
  choice: UserChoice = 'all',
  generation: Generation,
  folder: string,
  signal: AbortSignal | undefined,
): Promise<UserSource> {
  if (choice === 'all') return allUsers(generation);
  if ('ids' in choice) return listedUsers(choice.ids, generation);
  return vectorUsers(choice.vectors, generation, folder, signal);
}

/** Every row of user_embeddings.npy. Error: BELFRY_NO_USERS. */
async function allUsers(generation: Generation): Promise<UserSource> {
  const { users, userIds, skippedUsers } = generation;
  if (users === undefined || userIds === undefined) {
    throw new BelfryError(
      'BELFRY_NO_USERS',
      `generation ${generation.id} holds no user embeddings; export embeddings/user_embeddings.npy, or give query vectors with --users FILE.npy`,
      { field: 'users' },
    );
  }
  return {
    count: users.rows,
    idKind: userIds.kind === 'string' ? 'string' : 'integer',
    fingerprint: 'all',
    skipped: skippedUsers.size,
    unknown: 0,
    unknownExamples: [],
    idOf: (place) => userIds.idOf(place),
    read: (from, to) => readSome(users, from, to, (place) => (skippedUsers.has(place) ? -1 : place)),
    close: async () => undefined,
  };
}

/**
 * A list of ids. A user without a stored vector whose features are in the users table gets one from the user tower, as
 * online; the rest are unknown and left out. Errors: BELFRY_DUPLICATE_ID, BELFRY_INVALID_ARGUMENT.
 */
async function listedUsers(ids: readonly Id[], generation: Generation): Promise<UserSource> {
  const { users, userIds, skippedUsers } = generation;
  const rows = new Float64Array(ids.length).fill(-1);
  const fresh = new Map<number, Features>();
  const seen = new Map<Id, number>();
  const hash = createHash('sha256');
  const unknownExamples: Id[] = [];
  let skipped = 0;
  let unknown = 0;
  for (const [place, id] of ids.entries()) {
    if (place % IDS_PER_TURN === 0) await nextTurn();
    const earlier = seen.get(id);
    if (earlier !== undefined) {
      throw new BelfryError(
        'BELFRY_DUPLICATE_ID',
        `users: id ${show(id)} stands in place ${earlier} and in place ${place}; each id must be there once`,
        { field: 'users' },
      );
    }
    seen.set(id, place);
    hash.update(typeof id === 'number' ? `${id}\n` : `${JSON.stringify(id)}\n`);
    const row = users === undefined ? undefined : userIds?.rowOf(id);
    if (row !== undefined && !skippedUsers.has(row)) {
      rows[place] = row;
      continue;
    }
    const features = featuresFor(id, generation);
    if (features !== undefined) fresh.set(place, features);
    else if (row !== undefined) skipped++;
    else {
      unknown++;
      if (unknownExamples.length < 5) unknownExamples.push(id);
    }
  }
  return {
    count: ids.length,
    idKind: kindOf(ids),
    fingerprint: `ids ${hash.digest('hex')}`,
    skipped,
    unknown,
    unknownExamples,
    idOf: (place) => ids[place]!,
    async read(from, to) {
      const stored = await readSome(users, from, to, (place) => rows[place]!);
      const places = Array.from({ length: to - from }, (_, i) => from + i).filter((place) => fresh.has(place));
      if (places.length === 0) return stored;
      const { data } = await generation.tower!.embedMany(places.map((place) => fresh.get(place)!));
      return merge(
        stored,
        { vectors: data, places: Uint32Array.from(places, (place) => place - from) },
        generation.items.dims,
      );
    },
    close: async () => undefined,
  };
}

/**
 * Query vectors of a `.npy`; ids are row numbers. The file is somebody else's, so it is copied by reads and checked, not
 * mapped. Errors: BELFRY_NPY_*, BELFRY_FILE_CHANGED, BELFRY_DIMS_MISMATCH, BELFRY_INVALID_QUERY_VECTOR.
 */
async function vectorUsers(
  path: string,
  generation: Generation,
  folder: string,
  signal: AbortSignal | undefined,
): Promise<UserSource> {
  const copy = join(folder, 'queries.npy');
  const remove = () => rm(copy, { force: true });
  try {
    const { sha256 } = await hashFile(path);
    const job = await loadAddon().openImport({ path, out: copy });
    try {
      checkDims(basename(path), job.dims, generation);
      for (let done = 0; done < job.rows;) {
        signal?.throwIfAborted();
        done = await job.step(IMPORT_ROWS);
      }
      checkQueries(basename(path), await job.finish(), generation);
    } catch (error) {
      job.abort();
      throw error;
    }
    const matrix = await loadAddon().openMatrix(copy);
    return {
      count: matrix.rows,
      idKind: 'integer',
      fingerprint: `vectors ${sha256}`,
      skipped: 0,
      unknown: 0,
      unknownExamples: [],
      idOf: (place) => place,
      read: (from, to) => readSome(matrix, from, to, (place) => place),
      async close() {
        matrix.close();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw explainSystemError(error);
  }
}

function checkDims(file: string, dims: number, generation: Generation): void {
  const expected = generation.index.info.dims;
  if (dims === expected) return;
  throw new BelfryError(
    'BELFRY_DIMS_MISMATCH',
    `users: ${file} has ${dims} dims, generation ${generation.id} has ${expected}; give vectors of the same user tower`,
    { field: 'users', limit: expected },
  );
}

/** The same that is refused of one embedding online. */
function checkQueries(file: string, profile: VectorProfile, generation: Generation): void {
  const { metric } = generation.index.info;
  const [count, first, what] =
    profile.nonFiniteCount > 0
      ? [profile.nonFiniteCount, profile.nonFiniteRows, 'hold NaN, infinite or overflowing values']
      : [metric === 'l2' ? 0 : profile.zeroCount, profile.zeroRows, `are zero, which ranks nothing under ${metric}`];
  if (count === 0) return;
  throw new BelfryError(
    'BELFRY_INVALID_QUERY_VECTOR',
    `users: ${count} rows of ${file} ${what} (first: ${[...first].slice(0, 5).join(', ')}); mend them, or leave them out`,
    { field: 'users' },
  );
}

/** What the tower can make a vector of: at least one of its own features. */
function featuresFor(id: Id, { tower, userTable }: Generation): Features | undefined {
  if (tower === undefined) return undefined;
  const features = userTable.featuresOf(id);
  return features !== undefined &&
    tower.ownFeatures.some((name) => Object.hasOwn(features, name) && features[name] !== null)
    ? features
    : undefined;
}

function kindOf(ids: readonly Id[]): WrittenKind {
  const kinds = new Set(ids.map((id) => typeof id));
  if (kinds.size > 1) throw invalid('users', 'ids of one kind, all numbers or all strings', 'both');
  return kinds.has('string') ? 'string' : 'integer';
}

async function readSome(
  matrix: NativeMatrix | undefined,
  from: number,
  to: number,
  rowOf: (place: number) => Row,
): Promise<QueryBatch> {
  const places: number[] = [];
  for (let place = from; place < to; place++) if (rowOf(place) >= 0) places.push(place);
  if (matrix === undefined || places.length === 0) return { vectors: new Float32Array(0), places: new Uint32Array(0) };
  const { dims } = matrix;
  const vectors = new Float32Array(places.length * dims);
  const step = Math.max(1, Math.floor(READ_VALUES / dims));
  for (let start = 0; start < places.length; start += step) {
    if (start > 0) await nextTurn();
    const rows = Uint32Array.from(places.slice(start, start + step), rowOf);
    vectors.set(matrix.readRows(rows), start * dims);
  }
  return { vectors, places: Uint32Array.from(places, (place) => place - from) };
}

function merge(one: QueryBatch, other: QueryBatch, dims: number): QueryBatch {
  const all = [one, other].flatMap(({ vectors, places }) =>
    Array.from(places, (place, i) => ({ place, vector: vectors.subarray(i * dims, (i + 1) * dims) })),
  );
  all.sort((a, b) => a.place - b.place);
  const vectors = new Float32Array(all.length * dims);
  for (const [i, { vector }] of all.entries()) vectors.set(vector, i * dims);
  return { vectors, places: Uint32Array.from(all, ({ place }) => place) };
}
