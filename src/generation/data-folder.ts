/**
 * The data folder: generations beside each other, and CURRENT, the pointer to the one that serves.
 *
 * Publish order: files fsynced in `tmp-*` → rename to `gen-*` → fsync the parent → CURRENT.tmp fsynced → rename to
 * CURRENT → fsync the parent. Data first, pointer last: after a crash at any point the old or the new one is served.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { BelfryError } from '../errors.js';
import { exists, syncFolder, writeDurable } from './files.js';
import { type Manifest, readManifest, verifyFiles } from './manifest.js';

const ID = /^[A-Za-z0-9._-]{1,64}$/;
/** How many generations stay: the one that serves and the one before it. */
const KEPT = 2;

export interface PublishedGeneration {
  readonly id: string;
  readonly folder: string;
  readonly manifest: Manifest;
}

export function newGenerationId(now = new Date()): string {
  const stamp = now.toISOString().replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
  return `${stamp}-${randomBytes(2).toString('hex')}`;
}

export class DataFolder {
  private constructor(readonly path: string) {}

  static async open(path: string): Promise<DataFolder> {
    try {
      await mkdir(path, { recursive: true });
    } catch (error) {
      throw new BelfryError(
        'BELFRY_FILE_UNREADABLE',
        `data folder ${path} cannot be made: ${(error as Error).message}; name another with --data DIR`,
        {
          field: 'data',
          cause: error,
        },
      );
    }
    return new DataFolder(path);
  }

  folderOf(id: string): string {
    return join(this.path, `gen-${id}`);
  }

  /**
   * Runs the one writer of this folder. A second one, in this or another process, gets BELFRY_LOCKED; a lock whose
   * process is gone is taken over, and what that process left half-made is removed.
   */
  async withWriterLock<T>(action: () => Promise<T>): Promise<T> {
    const lock = join(this.path, 'LOCK');
    await this.takeLock(lock);
    try {
      await this.removeLeftovers();
      return await action();
    } finally {
      await rm(lock, { force: true });
    }
  }

  private async takeLock(lock: string): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        const file = await open(lock, 'wx');
        await file.writeFile(String(process.pid));
        await file.close();
        return;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const owner = Number(await readFile(lock, 'utf8').catch(() => ''));
      const abandoned = owner > 0 && owner !== process.pid && !isAlive(owner);
      if (!abandoned || attempt > 3) {
        throw new BelfryError(
          'BELFRY_LOCKED',
          `${this.path} is being written by process ${owner || 'unknown'}; wait for it, or name another folder with --data DIR`,
          { field: 'data' },
        );
      }
      await rm(lock, { force: true });
    }
  }

  private async removeLeftovers(): Promise<void> {
    for (const name of await readdir(this.path)) {
      if (name.startsWith('tmp-')) await rm(join(this.path, name), { recursive: true, force: true });
    }
  }

  newTemporary(id: string): string {
    return join(this.path, `tmp-${id}`);
  }

  /** Makes a finished `tmp-*` folder the generation that serves. The caller holds the writer lock. */
  async publish(temporary: string, id: string): Promise<void> {
    await syncFolder(temporary);
    await rename(temporary, this.folderOf(id));
    await syncFolder(this.path);
    await this.point(id);
    await this.collect(id);
  }

  private async point(id: string): Promise<void> {
    const pointer = join(this.path, 'CURRENT.tmp');
    await writeDurable(pointer, `${id}\n`);
    await rename(pointer, join(this.path, 'CURRENT'));
    await syncFolder(this.path);
  }

  private async collect(current: string): Promise<void> {
    const ids = (await this.ids()).filter((id) => id !== current);
    for (const id of ids.slice(KEPT - 1)) await rm(this.folderOf(id), { recursive: true, force: true });
  }

  /** Generation ids, newest first. */
  async ids(): Promise<string[]> {
    const names = await readdir(this.path);
    return names
      .filter((name) => name.startsWith('gen-') && ID.test(name.slice(4)))
      .map((name) => name.slice(4))
      .sort()
      .reverse();
  }

  /**
   * The generation to serve: CURRENT where it verifies, else the newest that does. `onBad` hears of each one passed
   * over. Undefined when there is none.
   */
  async current(onBad: (id: string, error: BelfryError) => void): Promise<PublishedGeneration | undefined> {
    const pointed = (await readFile(join(this.path, 'CURRENT'), 'utf8').catch(() => '')).trim();
    const candidates = [
      ...new Set([...(ID.test(pointed) && !/^\.+$/.test(pointed) ? [pointed] : []), ...(await this.ids())]),
    ];
    for (const id of candidates) {
      const folder = this.folderOf(id);
      if (!(await exists(folder))) continue;
      try {
        const manifest = await readManifest(folder);
        await verifyFiles(folder, manifest);
        return { id, folder, manifest };
      } catch (error) {
        if (!(error instanceof BelfryError)) throw error;
        onBad(id, error);
      }
    }
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
