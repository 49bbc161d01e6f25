/** The keys file: read and checked whole, changed by one writer at a time, replaced by a rename. */
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { Value } from 'typebox/value';
import { explain, type SchemaError } from '../config/explain.js';
import { BelfryError } from '../errors.js';
import { type KeyRecord, type KeysFile, KeysFileSchema } from './keys.js';

const READABLE_BY_ALL = 0o004;
const WRITABLE_BY_OTHERS = 0o022;

/** Error: BELFRY_KEYS_INVALID. */
export function readKeys(path: string): readonly KeyRecord[] {
  let file: unknown;
  try {
    file = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    const message = isMissing
      ? 'there is no such file; make the first key with belfry keys add'
      : (error as Error).message;
    throw refuse(path, message, error);
  }
  if (!Value.Check(KeysFileSchema, file))
    throw refuse(path, explain([...Value.Errors(KeysFileSchema, file)] as SchemaError[], file).message);
  const { keys } = file as KeysFile;
  const ids = new Set<string>();
  for (const { id } of keys) {
    if (ids.has(id)) throw refuse(path, `key ${id} stands in it twice`);
    ids.add(id);
  }
  return keys;
}

/** What is wrong with who may read or write the file; undefined where nothing is, or the system has no such rights. */
export function permissionProblem(path: string): string | undefined {
  if (process.platform === 'win32') return undefined;
  const { mode } = statSync(path);
  if ((mode & WRITABLE_BY_OTHERS) !== 0)
    return `${path}: others may write it, and so make keys of their own; chmod 600 ${path}`;
  if ((mode & READABLE_BY_ALL) !== 0)
    return `${path}: everybody on this machine may read the names, scopes and hashes of keys; chmod 600 ${path}`;
  return undefined;
}

/**
 * Reads, changes and replaces the file, which is made where there is none. The new file is the lock as well: it exists
 * while one writer is at work. Errors: BELFRY_KEYS_INVALID, BELFRY_LOCKED, BELFRY_FILE_UNREADABLE, and those of `change`.
 */
export function changeKeys(path: string, change: (keys: readonly KeyRecord[]) => readonly KeyRecord[]): void {
  const next = `${path}.new`;
  let file: number;
  try {
    file = openSync(next, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST')
      throw new BelfryError('BELFRY_LOCKED', `${next}: another belfry keys is at work; if none is, remove this file`, {
        field: 'keys',
        cause: error,
      });
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `${next}: ${(error as Error).message}`, {
      field: 'keys',
      cause: error,
    });
  }
  try {
    const before = statSync(path, { throwIfNoEntry: false });
    const content: KeysFile = { version: 1, keys: [...change(before === undefined ? [] : readKeys(path))] };
    if (before !== undefined) {
      // The server may run as another user, to whom the file was given.
      if (process.getuid?.() === 0) fchownSync(file, before.uid, before.gid);
      fchmodSync(file, before.mode & 0o777);
    }
    writeSync(file, `${JSON.stringify(content, null, 2)}\n`);
    fsyncSync(file);
    renameSync(next, path);
  } catch (error) {
    rmSync(next, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
}

function refuse(path: string, message: string, cause?: unknown): BelfryError {
  return new BelfryError('BELFRY_KEYS_INVALID', `${path}: ${message}`, { field: 'keys', cause });
}
