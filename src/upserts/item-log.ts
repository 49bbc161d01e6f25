/**
 * The write-ahead log of item changes in a data folder, written by any number of processes: whoever appends holds a file
 * lock, has read what the others wrote before, and cuts off what a killed one left half-written. What `commit` resolves to
 * is in the log; how safe it is there, `fsync` says.
 */
import { open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { loadAddon } from '../ann/addon.js';
import { asBelfryError, BelfryError, type ErrorCode } from '../errors.js';
import { makeFolder, remove, renameFile, syncFolder, WrittenFile, writeDurable } from '../generation/files.js';
import type { Id } from '../types.js';
import { encodeChange, encodeCommit, encodeSegmentHeader, HEADER_BYTES, type ItemChange } from './log-format.js';
import type { LoggedChange } from './log-format.js';
import { listSegments, logFolder, LogReader, LogRewound, segmentPath } from './log-reader.js';

/**
 * `always`: a commit is on disk when it is acknowledged. `interval`: within a second after; survives a kill, not a power
 * loss. `off`: when the operating system writes it.
 */
export type FsyncPolicy = 'always' | 'interval' | 'off';

export interface ItemLogOptions {
  readonly fsync: FsyncPolicy;
  /** Hears of each batch of changes, of this process and of others, in order, once; within one turn of the event loop. */
  readonly onChanges?: (changes: readonly LoggedChange[]) => void;
  /** What was read is no longer there: everything is to be read again. */
  readonly onRewind?: () => void;
  /** A tail was cut off, a sync failed: for the log of the process. */
  readonly onNotice?: (message: string) => void;
  readonly onAppend?: (seconds: number, changes: number) => void;
}

/** Called in the order of the log, after all changes before it are known; undefined leaves nothing to write. */
export type Decide = (staged: ReadonlyMap<Id, ItemChange>) => ItemChange | undefined;

interface Waiting {
  readonly decide: Decide;
  readonly resolve: (logged: LoggedChange | undefined) => void;
  readonly reject: (error: unknown) => void;
}

interface Decided {
  readonly one: Waiting;
  readonly logged: LoggedChange;
  readonly bytes: Buffer;
}

/** The segment that this process appends to, and how many bytes of it are whole as far as it knows. */
interface OpenSegment {
  readonly path: string;
  readonly handle: WrittenFile;
  end: number;
}

/** In failpoints and messages of files.ts. */
const PLACE = 'item-log';
const LOCK = 'lock';
const LOCK_WAIT_MS = 10_000;
const SYNC_INTERVAL_MS = 1000;
/** Changes that share a write and a sync; more wait for the next. */
const GROUP_CHANGES = 1024;
const GROUP_BYTES = 8 * 1024 * 1024;

export class ItemLog {
  readonly folder: string;
  private reader: LogReader;
  private waiting: Waiting[] = [];
  private running: Promise<void> | undefined;
  private file: OpenSegment | undefined;
  private syncTimer: NodeJS.Timeout | undefined;
  /** Readings and appends follow each other: both move the reader. */
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    data: string,
    private readonly options: ItemLogOptions,
    first: number,
  ) {
    this.folder = logFolder(data);
    this.reader = new LogReader(this.folder, first);
  }

  /** Reads where the log ends; writes nothing. Error: BELFRY_UPSERT_LOG_CORRUPT. */
  static async open(data: string, options: ItemLogOptions): Promise<ItemLog> {
    const segments = await listSegments(logFolder(data));
    const log = new ItemLog(data, options, segments.at(-1)?.first ?? 1);
    for await (const _ of log.reader.read());
    return log;
  }

  /** The number that the next change gets, as far as this process knows. */
  get nextSequence(): number {
    return this.reader.nextSequence;
  }

  /**
   * Numbers before the mark of a generation are given, whatever became of the log: a change that got one of them again
   * would be taken for one that the generation holds.
   */
  raise(mark: number): void {
    this.reader.raise(mark);
  }

  /** Bytes of the changes from `sequence` on, which begins a segment. */
  async bytesFrom(sequence: number): Promise<number> {
    let bytes = 0;
    for (const { path, first } of await listSegments(this.folder))
      if (first >= sequence) bytes += (await stat(path)).size - HEADER_BYTES;
    return bytes;
  }

  /** Removes what a killed process left of a segment that it was about to begin. */
  async cleanUp(): Promise<void> {
    if ((await this.unfinished()).length > 0) await this.underLock(() => this.removeUnfinished());
  }

  /** Reads what other processes have written. Errors: BELFRY_UPSERT_LOG_CORRUPT. */
  catchUp(): Promise<void> {
    return this.inTurn(() => this.readOn());
  }

  /**
   * Writes one change; those that wait together share a write and a sync. Undefined where `decide` found nothing to write.
   * Errors: what `decide` throws; BELFRY_UPSERT_LOG_FULL, BELFRY_UPSERT_LOG_FAILED (nothing was acknowledged, and the change
   * is not there), BELFRY_UPSERT_LOG_CORRUPT.
   */
  commit(decide: Decide): Promise<LoggedChange | undefined> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ decide, resolve, reject });
      this.running ??= this.drain().finally(() => {
        this.running = undefined;
      });
    });
  }

  /**
   * Begins a new segment: changes before the mark that this resolves to are what a build folds in. Errors: those of commit.
   */
  mark(): Promise<number> {
    return this.underLock(async () => {
      const { place } = this.reader;
      if (place !== undefined && place.path !== this.pathOfNext()) await this.begin();
      return this.reader.nextSequence;
    });
  }

  /** Removes segments all of whose changes come before `mark`. */
  trim(mark: number): Promise<void> {
    return this.underLock(async () => {
      const segments = await listSegments(this.folder);
      for (const [at, { path }] of segments.entries()) {
        const next = segments[at + 1];
        if (next === undefined || next.first > mark) break; // in their order, so that no gap is ever left
        await remove(path, PLACE);
      }
      if (segments.length > 0) await syncFolder(this.folder, PLACE);
    });
  }

  /** What waits is written first. */
  async close(): Promise<void> {
    await this.running;
    await this.last;
    clearInterval(this.syncTimer);
    await this.closeFile(this.options.fsync === 'interval');
  }

  private async drain(): Promise<void> {
    while (this.waiting.length > 0) {
      const group = this.waiting.splice(0, GROUP_CHANGES);
      try {
        await this.underLock(() => this.write(group));
      } catch (error) {
        for (const { reject } of group) reject(error); // those that are settled already do not hear of it
      }
    }
  }

  private async write(group: readonly Waiting[]): Promise<void> {
    const staged = new Map<Id, ItemChange>();
    const decided: Decided[] = [];
    let bytes = 0;
    for (const [at, one] of group.entries()) {
      if (bytes > GROUP_BYTES) {
        this.waiting.unshift(...group.slice(at));
        break;
      }
      try {
        const change = one.decide(staged);
        if (change === undefined) {
          one.resolve(undefined);
          continue;
        }
        const encoded = encodeChange(change);
        staged.set(change.id, change);
        decided.push({
          one,
          logged: { sequence: this.reader.nextSequence + decided.length, change },
          bytes: encoded,
        });
        bytes += encoded.length;
      } catch (error) {
        one.reject(error);
      }
    }
    if (decided.length === 0) return;
    const started = performance.now();
    try {
      await this.append(
        encodeCommit(
          decided[0]!.logged.sequence,
          decided.map((change) => change.bytes),
        ),
      );
    } catch (error) {
      await this.closeFile(false);
      const failure = explainWrite(error);
      for (const { one } of decided) one.reject(failure);
      return;
    }
    this.options.onAppend?.((performance.now() - started) / 1000, decided.length);
    await this.readOn(); // what was written, the way that every other process reads it
    for (const { one, logged } of decided) one.resolve(logged);
  }

  private async append(commit: Buffer): Promise<void> {
    if (this.reader.place === undefined) await this.begin();
    const { path, offset } = this.reader.place!;
    if (this.file?.path !== path || this.file.end !== offset) {
      await this.closeFile(this.options.fsync === 'interval');
      this.file = { path, handle: await WrittenFile.open(path, 'a', PLACE), end: offset };
    }
    const { file } = this;
    try {
      await file.handle.write(commit);
      if (this.options.fsync === 'always') await file.handle.sync();
    } catch (error) {
      // Nobody was told of it, so nobody may find it. A disk that refuses this too leaves a tail, which the next writer cuts.
      await file.handle.truncate(offset).catch(() => undefined);
      throw error;
    }
    file.end += commit.length;
    if (this.options.fsync === 'interval') this.syncTimer ??= setInterval(() => this.sync(), SYNC_INTERVAL_MS).unref();
  }

  /** A new segment from the next change on, there whole or not at all. */
  private async begin(): Promise<void> {
    await this.removeUnfinished();
    const path = this.pathOfNext();
    await writeDurable(`${path}.tmp`, encodeSegmentHeader(this.reader.nextSequence), PLACE);
    await renameFile(`${path}.tmp`, path, PLACE);
    await syncFolder(this.folder, PLACE);
    await this.readOn();
  }

  private async unfinished(): Promise<string[]> {
    return (await readdir(this.folder).catch(() => [])).filter((name) => name.endsWith('.tmp'));
  }

  private async removeUnfinished(): Promise<void> {
    for (const name of await this.unfinished()) await remove(join(this.folder, name), PLACE);
  }

  private pathOfNext(): string {
    return segmentPath(this.folder, this.reader.nextSequence);
  }

  private sync(): void {
    void this.inTurn(async () => this.file?.handle.sync()).catch(async (error: unknown) => {
      this.options.onNotice?.(
        `upserts: the last second of changes may not survive a power loss: ${(error as Error).message}`,
      );
      await this.inTurn(() => this.closeFile(false)); // never synced again: the system may have dropped what it held
    });
  }

  private async closeFile(isSynced: boolean): Promise<void> {
    const { file } = this;
    this.file = undefined;
    try {
      if (isSynced) await file?.handle.sync();
    } finally {
      await file?.handle.close();
    }
  }

  private async readOn(cut?: (path: string, offset: number, bytes: number) => Promise<void>): Promise<void> {
    try {
      for await (const { changes, tail } of this.reader.read()) {
        if (changes.length > 0) this.options.onChanges?.(changes);
        if (tail !== undefined) await cut?.(tail.path, tail.offset, tail.bytes);
      }
    } catch (error) {
      if (!(error instanceof LogRewound)) throw error;
      const segments = await listSegments(this.folder);
      this.reader = new LogReader(this.folder, segments.at(-1)?.first ?? 1);
      for await (const _ of this.reader.read());
      this.options.onRewind?.();
    }
  }

  /** Runs `action` as the only writer of all processes, with everything known that was written before. */
  private underLock<T>(action: () => Promise<T>): Promise<T> {
    return this.inTurn(async () => {
      const release = await this.lock();
      try {
        await this.readOn(async (path, offset, bytes) => {
          await this.closeFile(false);
          const file = await WrittenFile.open(path, 'a', PLACE);
          try {
            await file.truncate(offset);
          } finally {
            await file.close();
          }
          this.options.onNotice?.(`upserts: ${path}: ${bytes} bytes of an unfinished write were cut off`);
        });
        return await action();
      } finally {
        await release();
      }
    });
  }

  private async lock(): Promise<() => Promise<void>> {
    try {
      await makeFolder(this.folder, PLACE);
      const file = await open(join(this.folder, LOCK), 'a');
      const deadline = performance.now() + LOCK_WAIT_MS;
      for (let wait = 1; !loadAddon().lockFile(file.fd); wait = Math.min(2 * wait, 16)) {
        if (performance.now() > deadline) {
          await file.close();
          throw failed(`another process has written for ${LOCK_WAIT_MS / 1000} s`);
        }
        await setTimeout(wait * Math.random());
      }
      return () => file.close();
    } catch (error) {
      throw explainWrite(error);
    }
  }

  private inTurn<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.last.then(action, action);
    this.last = turn.catch(() => undefined); // whoever asked for it hears of it
    return turn;
  }
}

const OWN_CODES: readonly ErrorCode[] = [
  'BELFRY_UPSERT_LOG_FULL',
  'BELFRY_UPSERT_LOG_FAILED',
  'BELFRY_UPSERT_LOG_CORRUPT',
];

function failed(why: string, cause?: unknown, code: ErrorCode = 'BELFRY_UPSERT_LOG_FAILED'): BelfryError {
  return new BelfryError(code, `the log of item changes cannot be written: ${why}; nothing was changed, try again`, {
    cause,
  });
}

function explainWrite(error: unknown): BelfryError {
  const known = asBelfryError(error);
  if (OWN_CODES.includes(known.code)) return known;
  return failed(known.message, error, known.code === 'BELFRY_DISK_SPACE' ? 'BELFRY_UPSERT_LOG_FULL' : undefined);
}
