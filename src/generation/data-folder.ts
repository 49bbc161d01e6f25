/**
 * The data folder: generations beside each other, and CURRENT, the pointer to the one that serves and the one before it.
 *
 *     CURRENT            id of the generation that serves; in a second line, of the one that served before it
 *     gen-<id>/          a published generation; never changed, held by a shared lock while a process uses it
 *     tmp-<id>/          a build or a download under way
 *     gone-<id>/         being removed
 *     quarantined-<id>/  its bytes changed; never served again, kept to be looked at
 *
 * Publish order: files fsynced in `tmp-*` → rename to `gen-*` → fsync the parent → CURRENT.tmp fsynced → rename to
 * CURRENT → fsync the parent. Data first, pointer last: after a crash at any point the old or the new one is served.
 *
 * Two locks: one writer builds or downloads (LOCK-*, for minutes); moves of the pointer, removal and quarantine take
 * turns (moving.lock, for milliseconds), so that a rollback never waits for a build.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asBelfryError, BelfryError } from '../errors.js';
import { unlessLeased, withFileLock } from './file-locks.js';
import { exists, remove, renameFile, replaceDurable, syncFolder, syncFolders, writeDurable } from './files.js';
import { type Manifest, readManifest } from './manifest.js';
import { verifyFiles } from './verify.js';
import { withWriterLock } from './writer-lock.js';

const ID = /^[A-Za-z0-9._-]{1,64}$/;
const MOVING_LOCK = 'moving.lock';
const MOVING_WAIT_MS = 10_000;
const QUARANTINED = 'quarantined-';
/** Quarantined generations that are kept. */
const QUARANTINED_MAX = 2;
const QUARANTINE_FILE = 'quarantine.json';

export interface PublishedGeneration {
  readonly id: string;
  readonly folder: string;
  readonly manifest: Manifest;
}

/** What CURRENT says. */
export interface Pointer {
  readonly current?: string;
  /** What served before it: where a rollback goes. */
  readonly previous?: string;
}

export interface Quarantined {
  readonly id: string;
  readonly folder: string;
  /** When it was moved aside; undefined when the process died right then. */
  readonly since?: string;
  readonly reason?: string;
}

/** `isQuarantined`: its bytes are not what its build wrote, and it was moved aside. */
export type OnBadGeneration = (id: string, error: BelfryError, isQuarantined: boolean) => void;

export function newGenerationId(now = new Date(), end = randomBytes(2)): string {
  const stamp = now.toISOString().replace(/[-:]/g, '').replace('T', '-').slice(0, 15);
  return `${stamp}-${end.toString('hex')}`;
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
   * Runs the one builder of this folder. A second one, in this or another process, gets BELFRY_LOCKED; what a process
   * that is gone left half-made is removed. Moves of the pointer go on meanwhile.
   */
  withWriterLock<T>(action: () => Promise<T>): Promise<T> {
    return withWriterLock(this.path, async () => {
      for (const name of await readdir(this.path))
        if (name.startsWith('tmp-')) await remove(join(this.path, name), 'discard');
      return action();
    });
  }

  /** Removes what a killed build or removal left, where there is such a thing and nobody is at work on it. */
  async cleanUp(): Promise<void> {
    const names = await readdir(this.path);
    try {
      if (names.some((name) => isMovingLeftover(name) || name === MOVING_LOCK))
        await this.moving(() => this.removeMovingLeftovers());
      if (names.some((name) => name.startsWith('tmp-') || name.startsWith('LOCK-')))
        await this.withWriterLock(async () => undefined);
    } catch (error) {
      if (!cannotNow(error)) throw error; // what is left then is for the next one to remove
    }
  }

  /** An id that nothing here has, of a second in which others may have been built. `make` is for tests. */
  async newId(make = newGenerationId): Promise<string> {
    const names = await readdir(this.path);
    for (;;) {
      const id = make();
      if (!names.some((name) => name.endsWith(`-${id}`))) return id;
    }
  }

  newTemporary(id: string): string {
    return join(this.path, `tmp-${id}`);
  }

  /**
   * Makes a finished `tmp-*` folder the generation that serves, then collects. The caller holds the writer lock. When it
   * fails, what served serves on. Returns why old generations could not be removed, which the next publish tries again.
   */
  async publish(temporary: string, id: string): Promise<BelfryError | undefined> {
    await syncFolders(temporary, 'generation');
    return this.moving(async () => {
      const before = await this.pointer();
      // Outside of what is taken back: a name that is taken is another generation's.
      await renameFile(temporary, this.folderOf(id), 'generation');
      try {
        await syncFolder(this.path, 'generation');
        await this.point({ current: id, ...(await this.servedBefore(id, before)) });
      } catch (error) {
        await this.withdraw(id, before);
        throw error;
      }
      try {
        await this.collect();
        return undefined;
      } catch (error) {
        return asBelfryError(error, 'BELFRY_FILE_UNREADABLE');
      }
    });
  }

  /** Makes a generation that is here the one that serves. Errors: BELFRY_UNKNOWN_GENERATION, BELFRY_GENERATION_CORRUPT. */
  activate(id: string): Promise<PublishedGeneration> {
    return this.move(async () => id);
  }

  /**
   * Makes the generation serve that served before. Called twice it comes back to where it was. Errors:
   * BELFRY_UNKNOWN_GENERATION when there is none, BELFRY_GENERATION_CORRUPT.
   */
  rollback(): Promise<PublishedGeneration> {
    return this.move(async (pointer) => {
      const { previous } = await this.servedBefore(pointer.current, pointer);
      if (previous !== undefined && pointer.current !== undefined) return previous;
      throw new BelfryError('BELFRY_UNKNOWN_GENERATION', `${this.path} holds no generation to go back to`, {
        field: 'data',
      });
    });
  }

  private async move(target: (pointer: Pointer) => Promise<string>): Promise<PublishedGeneration> {
    for (;;) {
      const seen = await this.pointer();
      const id = await target(seen);
      const manifest = await this.verify(id); // takes a while: before the lock
      const hasMoved = await this.moving(async () => {
        const now = await this.pointer();
        if (now.current !== seen.current || !(await exists(this.folderOf(id)))) return false;
        if (now.current !== id) await this.point({ current: id, ...(await this.servedBefore(id, now)) });
        return true;
      });
      if (hasMoved) return { id, folder: this.folderOf(id), manifest };
    }
  }

  /** Every byte against its checksum. Errors: BELFRY_UNKNOWN_GENERATION, BELFRY_GENERATION_CORRUPT, BELFRY_FILE_VERSION. */
  async verify(id: string): Promise<Manifest> {
    const folder = this.folderOf(id);
    if (!isId(id) || !(await exists(folder))) {
      throw new BelfryError('BELFRY_UNKNOWN_GENERATION', `${this.path} holds no generation ${id}`, { field: 'id' });
    }
    const manifest = await readManifest(folder);
    await verifyFiles(folder, manifest);
    return manifest;
  }

  /** What CURRENT names; undefined where it names nothing that could be an id. */
  async pointed(): Promise<string | undefined> {
    return (await this.pointer()).current;
  }

  async pointer(): Promise<Pointer> {
    const text = await readFile(join(this.path, 'CURRENT'), 'utf8').catch(() => '');
    const [current, previous] = text.split('\n').map((line) => line.trim());
    return {
      ...(current !== undefined && isId(current) ? { current } : {}),
      ...(previous !== undefined && isId(previous) ? { previous } : {}),
    };
  }

  private point({ current, previous }: Pointer): Promise<void> {
    const lines = [current, ...(previous === undefined ? [] : [previous])];
    return replaceDurable(join(this.path, 'CURRENT'), `${lines.join('\n')}\n`, 'pointer');
  }

  /** What a rollback from `id` goes to: what served, if it is there still, else the newest other one. */
  private async servedBefore(id: string | undefined, pointer: Pointer): Promise<Pick<Pointer, 'previous'>> {
    const others = (await this.ids()).filter((one) => one !== id);
    const candidates = pointer.current === id ? [pointer.previous] : [pointer.current, pointer.previous];
    const previous = candidates.find((one) => one !== undefined && others.includes(one)) ?? others[0];
    return previous === undefined ? {} : { previous };
  }

  /** After a publish that failed: CURRENT as it was, and the new generation away. */
  private async withdraw(id: string, before: Pointer): Promise<void> {
    try {
      if ((await this.pointed()) === id) {
        if (before.current !== undefined) await this.point(before);
        else await remove(join(this.path, 'CURRENT'), 'pointer');
      }
      await remove(this.folderOf(id), 'discard');
      await syncFolder(this.path, 'discard');
    } catch {
      // The disk fails on and on. The error of the publish is the one to report; what stays is whole either way: the
      // generation was verified before it got its name, and CURRENT is replaced by one rename.
    }
  }

  /** Keeps what serves, what served before it, and what any process uses. */
  private async collect(): Promise<void> {
    await this.removeMovingLeftovers();
    const pointer = await this.pointer();
    const { previous } = await this.servedBefore(pointer.current, pointer);
    for (const id of await this.ids()) {
      if (id === pointer.current || id === previous) continue;
      await unlessLeased(this.folderOf(id), () => this.removeFolder(this.folderOf(id), id));
    }
    const quarantined = await this.quarantined();
    for (const { id, folder } of quarantined.slice(QUARANTINED_MAX)) await this.removeFolder(folder, id);
  }

  /** Renamed first: half a generation under the name of a whole one would be taken for a corrupt one. */
  private async removeFolder(folder: string, id: string): Promise<void> {
    const gone = join(this.path, `gone-${id}`);
    await renameFile(folder, gone, 'collect');
    await syncFolder(this.path, 'collect');
    await remove(gone, 'collect');
  }

  private async removeMovingLeftovers(): Promise<void> {
    for (const name of await readdir(this.path))
      if (isMovingLeftover(name)) await remove(join(this.path, name), 'collect');
  }

  /**
   * Moves a generation aside whose bytes are not what its build wrote. Looks for itself, so it may be called on
   * suspicion. False when it is good, is gone, cannot be read at all, or this process cannot move it now.
   */
  async quarantine(id: string): Promise<boolean> {
    try {
      await this.verify(id);
      return false;
    } catch (error) {
      if (!(error instanceof BelfryError) || error.code !== 'BELFRY_GENERATION_CORRUPT') return false;
      return this.moveAside(id, error);
    }
  }

  private async moveAside(id: string, error: BelfryError): Promise<boolean> {
    const aside = join(this.path, `${QUARANTINED}${id}`);
    try {
      return await this.moving(async () => {
        if (!(await exists(this.folderOf(id)))) return false; // collected meanwhile, which is why files were missing
        await remove(aside, 'quarantine');
        await renameFile(this.folderOf(id), aside, 'quarantine');
        await syncFolder(this.path, 'quarantine');
        const why = { since: new Date().toISOString(), reason: error.message };
        await writeDurable(join(aside, QUARANTINE_FILE), `${JSON.stringify(why)}\n`, 'quarantine');
        return true;
      });
    } catch (refusal) {
      if (cannotNow(refusal)) return false;
      throw refusal;
    }
  }

  /** Generation ids, newest first. */
  async ids(): Promise<string[]> {
    return this.named('gen-');
  }

  /** Generations that were moved aside, newest first. */
  async quarantined(): Promise<Quarantined[]> {
    const ids = await this.named(QUARANTINED);
    return Promise.all(
      ids.map(async (id) => {
        const folder = join(this.path, `${QUARANTINED}${id}`);
        return { ...(await readWhy(folder)), id, folder };
      }),
    );
  }

  private async named(prefix: string): Promise<string[]> {
    const names = await readdir(this.path);
    return names
      .filter((name) => name.startsWith(prefix) && isId(name.slice(prefix.length)))
      .map((name) => name.slice(prefix.length))
      .sort()
      .reverse();
  }

  /**
   * The generation to serve: CURRENT where it verifies, else the newest that does. `onBad` hears of each one passed
   * over; those whose bytes changed are moved aside. Undefined when there is none.
   */
  async current(onBad: OnBadGeneration): Promise<PublishedGeneration | undefined> {
    const pointed = await this.pointed();
    for (const id of new Set([...(pointed === undefined ? [] : [pointed]), ...(await this.ids())])) {
      try {
        if (!(await exists(this.folderOf(id)))) continue;
        return { id, folder: this.folderOf(id), manifest: await this.verify(id) };
      } catch (error) {
        if (!(await exists(this.folderOf(id)).catch(() => true))) continue; // collected while it was read
        // A file that cannot be read is as bad as one whose bytes changed: the next good generation serves.
        onBad(id, asBelfryError(error, 'BELFRY_GENERATION_CORRUPT'), await this.quarantine(id));
      }
    }
    return undefined;
  }

  /** One at a time, in all processes. Not within another. Errors: BELFRY_LOCKED, BELFRY_FILE_UNREADABLE. */
  private moving<T>(action: () => Promise<T>): Promise<T> {
    return withFileLock(join(this.path, MOVING_LOCK), MOVING_WAIT_MS, action);
  }
}

function isId(text: string): boolean {
  return ID.test(text) && !/^\.+$/.test(text);
}

/** Why it was moved aside; nothing when the process died before it had said so. */
async function readWhy(folder: string): Promise<Pick<Quarantined, 'since' | 'reason'>> {
  try {
    return JSON.parse(await readFile(join(folder, QUARANTINE_FILE), 'utf8')) as Pick<Quarantined, 'since' | 'reason'>;
  } catch {
    return {};
  }
}

function isMovingLeftover(name: string): boolean {
  return name.startsWith('gone-') || name === 'CURRENT.tmp';
}

/** Another process is at work, this one may only read, or the disk is full: none of which keeps anybody from serving. */
function cannotNow(error: unknown): boolean {
  const codes = ['BELFRY_LOCKED', 'BELFRY_FILE_UNREADABLE', 'BELFRY_DISK_SPACE'];
  return error instanceof BelfryError && codes.includes(error.code);
}
