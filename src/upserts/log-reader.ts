/**
 * The log of item changes as files: segments named by the first change that they hold, read from any change on. Every
 * build begins a new segment, so that what a generation holds is a number of whole segments.
 */
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BelfryError } from '../errors.js';
import { HEADER_BYTES, type LoggedChange, scanCommits, segmentProblem } from './log-format.js';

const NAME = /^items-(\d{16})\.log$/;
/** Bytes read at once; longer commits are read in one piece. */
const CHUNK_BYTES = 4 * 1024 * 1024;

export interface Segment {
  readonly path: string;
  readonly first: number;
}

/** Of a data folder. */
export function logFolder(data: string): string {
  return join(data, 'upserts');
}

export function segmentPath(folder: string, first: number): string {
  return join(folder, `items-${String(first).padStart(16, '0')}.log`);
}

/** In the order of their changes; none where there is no folder yet. */
export async function listSegments(folder: string): Promise<Segment[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names
    .flatMap((name) => {
      const first = NAME.exec(name)?.[1];
      return first === undefined ? [] : [{ path: join(folder, name), first: Number(first) }];
    })
    .sort((a, b) => a.first - b.first);
}

/** The end of a segment that no whole commit fills: a write that was cut off, or one that is under way. */
export interface Tail {
  readonly path: string;
  /** Where the whole commits end. */
  readonly offset: number;
  readonly bytes: number;
}

export interface Batch {
  readonly changes: readonly LoggedChange[];
  /** Set on the last batch, when something that is no commit follows. */
  readonly tail?: Tail;
}

/** The file became shorter than what was read of it, or is gone: read again from the beginning. */
export class LogRewound extends Error {
  constructor(path: string) {
    super(`${path}: what was read of it is gone`);
    this.name = 'LogRewound';
  }
}

/** A place in the log that moves on as the log grows. */
export class LogReader {
  private segment: Segment | undefined;
  private offset = HEADER_BYTES;
  /** The change that stands, or will stand, at the offset; up to `sequence` changes are read past. */
  private at: number;

  constructor(
    private readonly folder: string,
    /** The next change to be read. */
    private sequence: number,
  ) {
    this.at = sequence;
  }

  get nextSequence(): number {
    return this.sequence;
  }

  /** Changes before `sequence` are of no interest, or are lost: the next one is not numbered lower. */
  raise(sequence: number): void {
    this.sequence = Math.max(this.sequence, sequence);
  }

  /** Where the next change will stand; undefined where it needs a segment of its own. */
  get place(): { readonly path: string; readonly offset: number } | undefined {
    const isHere = this.segment !== undefined && this.at === this.sequence;
    return isHere ? { path: this.segment!.path, offset: this.offset } : undefined;
  }

  /**
   * Whole commits from the place of the reader up to the end of the log as it is now. Errors: BELFRY_UPSERT_LOG_CORRUPT;
   * LogRewound.
   */
  async *read(): AsyncGenerator<Batch, void, undefined> {
    if (this.segment === undefined) {
      this.segment = await this.find();
      this.at = this.segment?.first ?? this.sequence;
    }
    while (this.segment !== undefined) {
      const { path, first } = this.segment;
      const file = await openIfThere(path);
      if (file !== undefined) yield* this.readSegment(file, this.segment);
      const next: Segment = { path: segmentPath(this.folder, this.sequence), first: this.sequence };
      if (next.first === first || !(await isThere(next.path))) {
        if (file !== undefined) return;
        throw new LogRewound(path);
      }
      // A segment that a rebuild has folded in and removed was read to its end if the next one begins here.
      this.segment = next;
      this.offset = HEADER_BYTES;
      this.at = next.first;
    }
  }

  /** The segment that holds the next change. Error: BELFRY_UPSERT_LOG_CORRUPT when that change is no longer there. */
  private async find(): Promise<Segment | undefined> {
    const segments = await listSegments(this.folder);
    const found = segments.findLast(({ first }) => first <= this.sequence);
    if (found === undefined) {
      if (segments[0] === undefined) return undefined;
      throw corrupt(segments[0].path, 0, `it begins with change ${segments[0].first}, and ${this.sequence} is missing`);
    }
    return found;
  }

  /** Closes the file. */
  private async *readSegment(file: FileHandle, segment: Segment): AsyncGenerator<Batch, void, undefined> {
    try {
      const { size } = await file.stat();
      if (size < this.offset) throw new LogRewound(segment.path);
      if (this.offset === HEADER_BYTES) {
        const problem = segmentProblem(await readAt(file, 0, HEADER_BYTES), segment.first);
        if (problem !== undefined) throw corrupt(segment.path, 0, problem);
      }
      for (let wanted = CHUNK_BYTES; this.offset < size;) {
        const bytes = await readAt(file, this.offset, Math.min(wanted, size - this.offset));
        const scan = scanCommits(bytes, this.at);
        const changes = scan.changes.filter(({ sequence }) => sequence >= this.sequence);
        this.at += scan.changes.length;
        this.offset += scan.end;
        this.sequence = Math.max(this.sequence, this.at);
        const isAtEnd = this.offset + bytes.length - scan.end >= size;
        const isTail = scan.wanted !== undefined && isAtEnd;
        if (scan.problem !== undefined) {
          if ((await readAt(file, size - 1, 1))[0] !== 0) {
            if (changes.length > 0) yield { changes };
            throw corrupt(segment.path, this.offset, scan.problem);
          }
        } else if (!isTail) {
          wanted = Math.max(CHUNK_BYTES, scan.wanted ?? 0);
          if (changes.length > 0) yield { changes };
          continue;
        }
        yield { changes, tail: { path: segment.path, offset: this.offset, bytes: size - this.offset } };
        return;
      }
    } finally {
      await file.close();
    }
  }
}

export function corrupt(path: string, offset: number, why: string): BelfryError {
  return new BelfryError(
    'BELFRY_UPSERT_LOG_CORRUPT',
    `${path}, byte ${offset}: ${why}; restore the file from a copy, or give up that change and all later ones with: truncate -s ${Math.max(offset, HEADER_BYTES)} ${path}`,
    { field: path },
  );
}

async function isThere(path: string): Promise<boolean> {
  const file = await openIfThere(path);
  await file?.close();
  return file !== undefined;
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function readAt(file: FileHandle, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(bytes);
  let done = 0;
  while (done < bytes) {
    const { bytesRead } = await file.read(buffer, done, bytes - done, offset + done);
    if (bytesRead === 0) break; // cut off in the meantime: what is missing looks like a tail
    done += bytesRead;
  }
  return buffer.subarray(0, done);
}
