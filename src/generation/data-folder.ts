/**
 * The data folder: generations beside each other, and CURRENT, the pointer to the one that serves.
 *
 * Publish order: files fsynced in `tmp-*` → rename to `gen-*` → fsync the parent → CURRENT.tmp fsynced → rename to
 * CURRENT → fsync the parent. Data first, pointer last: after a crash at any point the old or the new one is served.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asBelfryError, BelfryError } from '../errors.js';
import { exists, renameFile, syncFolder, syncFolders, writeDurable } from './files.js';
import { type Manifest, readManifest, verifyFiles } from './manifest.js';
import { withWriterLock } from './writer-lock.js';

const ID = /^[A-Za-z0-9._-]{1,64}$/;

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
   * Runs the one writer of this folder. A second one, in this or another process, gets BELFRY_LOCKED; what a process
   * that is gone left half-made is removed.
   */
  withWriterLock<T>(action: () => Promise<T>): Promise<T> {
    return withWriterLock(this.path, async () => {
      await this.removeLeftovers();
      return action();
    });
  }

  /** Removes what a killed build left, where there is such a thing and nobody is building. */
  async cleanUp(): Promise<void> {
    if (!(await readdir(this.path)).some((name) => name.startsWith('tmp-'))) return;
    try {
      await this.withWriterLock(async () => undefined);
    } catch (error) {
      // Somebody builds, or this process may only read: what is left then is theirs to remove.
      const isTheirs =
        error instanceof BelfryError && (error.code === 'BELFRY_LOCKED' || error.code === 'BELFRY_FILE_UNREADABLE');
      if (!isTheirs) throw error;
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
    await syncFolders(temporary, 'generation');
    await renameFile(temporary, this.folderOf(id), 'generation');
    await syncFolder(this.path, 'generation');
    const before = await this.pointed();
    await this.point(id);
    await this.collect(id, before);
  }

  private async point(id: string): Promise<void> {
    const pointer = join(this.path, 'CURRENT.tmp');
    await writeDurable(pointer, `${id}\n`, 'pointer');
    await renameFile(pointer, join(this.path, 'CURRENT'), 'pointer');
    await syncFolder(this.path, 'pointer');
  }

  /** What CURRENT names; undefined where it names nothing that could be an id. */
  async pointed(): Promise<string | undefined> {
    const id = (await readFile(join(this.path, 'CURRENT'), 'utf8').catch(() => '')).trim();
    return ID.test(id) && !/^\.+$/.test(id) ? id : undefined;
  }

  /** Keeps what serves and what served before it, else the newest: ids of one second have no order. */
  private async collect(current: string, before: string | undefined): Promise<void> {
    const others = (await this.ids()).filter((id) => id !== current);
    const kept = before !== undefined && others.includes(before) ? before : others[0];
    for (const id of others) if (id !== kept) await rm(this.folderOf(id), { recursive: true, force: true });
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
    const pointed = await this.pointed();
    for (const id of new Set([...(pointed === undefined ? [] : [pointed]), ...(await this.ids())])) {
      const folder = this.folderOf(id);
      try {
        if (!(await exists(folder))) continue;
        const manifest = await readManifest(folder);
        await verifyFiles(folder, manifest);
        return { id, folder, manifest };
      } catch (error) {
        // A file that cannot be read is as bad as one whose bytes changed: the next good generation serves.
        onBad(id, asBelfryError(error, 'BELFRY_GENERATION_CORRUPT'));
      }
    }
    return undefined;
  }
}
