/**
 * Many objects into one folder, a few at a time. Each is a file named by what it is of (key and ETag) until all are
 * there: a run that ended early is taken up where it was, and an object that changed meanwhile begins anew.
 */
import { createHash } from 'node:crypto';
import { readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BelfryError } from '../errors.js';
import type { BuildProgress } from '../generation/build.js';
import { type FileFacts, makeFolder, remove, renameFile, syncFolders } from '../generation/files.js';
import { download } from './download.js';
import type { ObjectFacts, ObjectStore } from './object-store.js';

const AT_ONCE = 4;
/** Free space that a download leaves alone. */
const DISK_FLOOR_BYTES = 64 * 1024 * 1024;

export interface WantedObject {
  readonly object: ObjectFacts;
  /** Hexadecimal, where something says what it must be. */
  readonly sha256?: string | undefined;
}

export interface TransferOptions {
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export class PartsFolder {
  constructor(readonly path: string) {}

  fileOf({ key, etag }: ObjectFacts): string {
    return join(this.path, createHash('sha256').update(`${key}\n${etag}`).digest('hex').slice(0, 40));
  }

  /**
   * Downloads what is wanted and removes parts of anything else. Returns the facts by key. `stage` names it in the
   * progress, which counts bytes. Errors: BELFRY_DISK_SPACE before the first byte, those of download().
   */
  async fetch(
    store: ObjectStore,
    wanted: readonly WantedObject[],
    stage: string,
    { onProgress, signal }: TransferOptions,
  ): Promise<Map<string, FileFacts>> {
    await makeFolder(this.path, 'download');
    await this.prepare(wanted);
    const total = wanted.reduce((sum, { object }) => sum + object.bytes, 0);
    const there = new Map<string, number>();
    let done = 0;
    const report = (key: string, bytes: number): void => {
      done += bytes - (there.get(key) ?? 0);
      there.set(key, bytes);
      onProgress?.({ stage, done, total });
    };
    onProgress?.({ stage, done, total });
    const facts = new Map<string, FileFacts>();
    // One failure ends the others: nothing of this run can be used without it.
    const stop = new AbortController();
    const either = signal === undefined ? stop.signal : AbortSignal.any([signal, stop.signal]);
    const queue = wanted.values();
    const work = async (): Promise<void> => {
      for (const { object, sha256 } of queue) {
        const onBytes = (bytes: number): void => report(object.key, bytes);
        facts.set(object.key, await download(store, object, this.fileOf(object), { sha256, onBytes, signal: either }));
      }
    };
    const workers = Array.from({ length: AT_ONCE }, async () => {
      try {
        await work();
      } catch (error) {
        stop.abort(error);
        throw error;
      }
    });
    const failed = (await Promise.allSettled(workers)).find((one) => one.status === 'rejected');
    if (failed !== undefined) throw stop.signal.reason ?? failed.reason;
    return facts;
  }

  /** Gives fetched objects their names in `folder`, and makes all of it durable. */
  async moveInto(folder: string, objects: readonly ObjectFacts[]): Promise<void> {
    await makeFolder(folder, 'download');
    for (const object of objects) {
      const target = join(folder, object.key);
      await makeFolder(dirname(target), 'download');
      await renameFile(this.fileOf(object), target, 'download');
    }
    await syncFolders(folder, 'download');
  }

  async remove(): Promise<void> {
    await remove(this.path, 'download');
  }

  private async prepare(wanted: readonly WantedObject[]): Promise<void> {
    const mine = new Set(wanted.map(({ object }) => this.fileOf(object)));
    let needed = DISK_FLOOR_BYTES + wanted.reduce((sum, { object }) => sum + object.bytes, 0);
    for (const name of await readdir(this.path)) {
      const file = join(this.path, name);
      if (mine.has(file)) needed -= (await stat(file)).size;
      else await remove(file, 'download');
    }
    const { bavail, bsize } = await statfs(this.path);
    if (bavail * bsize >= needed) return;
    throw new BelfryError(
      'BELFRY_DISK_SPACE',
      `${this.path}: the download needs ${needed} bytes free (what is left of it and a floor of ${DISK_FLOOR_BYTES}), there are ${bavail * bsize}; free some, or name another disk with --data DIR`,
      { field: 'data', limit: needed },
    );
  }
}
