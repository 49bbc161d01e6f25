/**
 * Locks that end with their process, however it ends: the system's own (flock), on files of the data folder. A
 * generation in use is held by a shared lock on its manifest, here or in any other process; what collects takes it alone.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { loadAddon } from '../ann/addon.js';
import { BelfryError } from '../errors.js';
import { fileCall, remove } from './files.js';

const HELD_FILE = 'manifest.json';
const POLL_MS = 10;

export interface Lease {
  release(): Promise<void>;
}

/**
 * Runs `action` while no other process runs one under the same file, which is made for it and removed. Waits for at most
 * `waitMs`. Errors: BELFRY_LOCKED; where the folder cannot be written, those of files.ts.
 */
export async function withFileLock<T>(path: string, waitMs: number, action: () => Promise<T>): Promise<T> {
  const file = await takeAlone(path, performance.now() + waitMs);
  try {
    return await action();
  } finally {
    // Removed before it is given up: whoever waits for this very file sees that it is gone, and makes a new one.
    await remove(path, 'lock');
    await file.close();
  }
}

async function takeAlone(path: string, deadline: number): Promise<FileHandle> {
  for (;;) {
    const file = await fileCall('lock', 'open', path, () => open(path, 'a'));
    try {
      if (loadAddon().lockFile(file.fd) && (await isStill(file, path))) return file;
    } catch (error) {
      await file.close();
      throw error;
    }
    await file.close();
    if (performance.now() > deadline) {
      throw new BelfryError('BELFRY_LOCKED', `${path} is held by another process; try again`, { field: path });
    }
    await setTimeout(POLL_MS);
  }
}

/**
 * Holds a generation, so that no process collects it; a folder that is no published generation is not held. Error:
 * BELFRY_FILE_UNREADABLE when it is gone or being removed: look at CURRENT again.
 */
export async function leaseGeneration(folder: string): Promise<Lease> {
  if (!basename(folder).startsWith('gen-')) return { release: async () => undefined };
  const gone = (cause?: unknown) =>
    new BelfryError('BELFRY_FILE_UNREADABLE', `${folder} is gone; another generation serves by now`, { cause });
  const path = join(folder, HELD_FILE);
  const file = await open(path, 'r').catch((error: unknown) => {
    throw gone(error);
  });
  try {
    if (!loadAddon().lockFile(file.fd, true) || !(await isStill(file, path))) throw gone();
  } catch (error) {
    await file.close();
    throw error;
  }
  return { release: () => file.close() };
}

/** Runs `remove` if no process holds the generation, which none can take meanwhile; else returns false. */
export async function unlessLeased(folder: string, remove: () => Promise<void>): Promise<boolean> {
  let file: FileHandle;
  try {
    file = await open(join(folder, HELD_FILE), 'r+');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    await remove(); // no manifest: nothing that anybody could have loaded
    return true;
  }
  try {
    if (!loadAddon().lockFile(file.fd)) return false;
    await remove();
    return true;
  } finally {
    await file.close();
  }
}

/** Whether the path leads to this very file: it may have been removed, or moved, since it was opened. */
async function isStill(file: FileHandle, path: string): Promise<boolean> {
  const [mine, found] = await Promise.all([file.stat(), stat(path).catch(() => undefined)]);
  return found !== undefined && found.ino === mine.ino && found.dev === mine.dev;
}
