/** One job for each output: the folder of the partial output is locked, made before and removed when nothing is left in it. */
import { mkdir, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BelfryError } from '../errors.js';
import { withWriterLock } from '../generation/writer-lock.js';

/** Another job that ends removes the folder, maybe between our making it and our lock in it. */
const ATTEMPTS = 5;

/** Errors: BELFRY_LOCKED, BELFRY_FILE_UNREADABLE, and those of the action. */
export async function withOutputLock<T>(out: string, folder: string, action: () => Promise<T>): Promise<T> {
  let hasBegun = false;
  for (let attempt = 1; ; attempt++) {
    try {
      await makeFolder(folder);
      return await withWriterLock(
        folder,
        () => {
          hasBegun = true;
          return action();
        },
        { field: 'out', folder: `output folder ${folder}`, cure: 'choose another --out', busy: out },
      );
    } catch (error) {
      const cause = error instanceof BelfryError ? (error.cause as NodeJS.ErrnoException | undefined) : undefined;
      if (hasBegun || cause?.code !== 'ENOENT' || attempt === ATTEMPTS) throw error;
    } finally {
      await removeIfEmpty(folder);
    }
  }
}

async function makeFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    throw new BelfryError(
      'BELFRY_FILE_UNREADABLE',
      `out: ${dirname(folder)} cannot be written: ${message}; choose another --out`,
      { field: 'out', cause: new Error(message) },
    );
  }
}

async function removeIfEmpty(folder: string): Promise<void> {
  try {
    await rmdir(folder);
  } catch (error) {
    // What is left in it is for the next run, or another job has just begun there.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOTEMPTY' && code !== 'EEXIST' && code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
  }
}
