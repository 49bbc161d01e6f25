/**
 * The output while it grows: `<out>.partial/` holds the files so far and a journal of the chunks that are whole in them.
 *
 * A chunk counts when its line is in the journal, and its line is written after its bytes are on the disk. So whatever
 * ends the process, the next one cuts the files back to the last line and goes on. The final names appear by renames
 * only, of files that are whole and synced.
 *
 * Everything here is synchronous, because it runs on the output thread; it is the only code that touches these files.
 */
import * as system from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { BelfryError, show } from '../errors.js';
import type { Encoded, OutputFormat, WrittenChunk } from './chunk.js';

const JOURNAL = 'journal';
const READ_BYTES = 1 << 22;

/** What a job is made of, by name: two jobs with the same facts write the same bytes. */
export type JobFacts = Readonly<Record<string, string | number | boolean | null>>;

/** The journal's lines: the facts of the job, the chunks, and that the files are whole. */
type Line = { readonly facts: JobFacts } | ChunkLine | { readonly whole: true };

interface ChunkLine {
  readonly hits: number;
  /** Of each file: where the chunk ends, and the CRC-32 of its bytes. */
  readonly ends: readonly number[];
  readonly sums: readonly number[];
  readonly note: unknown;
}

/** The system calls by which the output grows; tests hand in ones that fail. */
export type FileSystem = Pick<typeof system, 'writeSync' | 'fsyncSync' | 'renameSync'>;

export interface PartialOptions {
  readonly folder: string;
  /** Final path of each file, the one that says "complete" last. */
  readonly finals: readonly string[];
  readonly format: OutputFormat;
  readonly facts: JobFacts;
  /** Begin anew, whatever is there. */
  readonly restart: boolean;
  readonly files?: FileSystem;
}

/** Errors: BELFRY_RESUME_MISMATCH, BELFRY_DISK_SPACE; system errors as they come. */
export class PartialOutput {
  readonly #options: PartialOptions;
  readonly #system: FileSystem;
  readonly #starts: number[];
  readonly #written: WrittenChunk[] = [];
  #ends: number[] = [];
  #files: number[] = [];
  #journal = -1;
  #journalEnd = 0;
  /** All that remains is renaming. */
  #isWhole = false;

  private constructor(options: PartialOptions) {
    this.#options = options;
    this.#system = options.files ?? system;
    this.#starts = options.format.begin().map((bytes) => bytes.length);
  }

  /** Takes up what a job with the same facts has left, or begins. */
  static open(options: PartialOptions): PartialOutput {
    const output = new PartialOutput(options);
    try {
      output.#open();
    } catch (error) {
      output.close();
      throw explain(error, options.finals);
    }
    return output;
  }

  /** Chunks that are safe on disk. */
  get chunks(): number {
    return this.#written.length;
  }

  get hits(): number {
    return this.#written.reduce((sum, { hits }) => sum + hits, 0);
  }

  get bytes(): number {
    return this.#ends.reduce((sum, end) => sum + end, 0);
  }

  /** When this returns, the chunk survives a kill and a power cut. */
  append({ pieces, hits, note }: Encoded): void {
    try {
      const starts = [...this.#ends];
      const sums = pieces.map((list) => list.reduce((sum, piece) => crc32(piece, sum), 0));
      this.#write(pieces);
      this.#log({ hits, ends: this.#ends, sums, note });
      this.#written.push({ starts, hits, note });
    } catch (error) {
      throw explain(error, this.#options.finals);
    }
  }

  /** Ends the files and gives them their names; what stood under these names is replaced. Returns their bytes. */
  publish(): number {
    try {
      if (!this.#isWhole) {
        this.#write(this.#options.format.end(this.#written));
        this.#log({ whole: true });
      }
      const { finals, folder } = this.#options;
      // The last name says that all are there, so an old file of that name goes first.
      if (finals.length > 1 && system.existsSync(this.#path(finals.at(-1)!)))
        system.rmSync(finals.at(-1)!, { force: true });
      for (const path of finals) {
        // A publish that was ended between two renames has done some of them.
        if (system.existsSync(this.#path(path))) this.#system.renameSync(this.#path(path), path);
      }
      syncFolder(dirname(finals[0]!));
      system.rmSync(join(folder, JOURNAL));
      return finals.reduce((sum, path) => sum + system.statSync(path).size, 0);
    } catch (error) {
      throw explain(error, this.#options.finals);
    }
  }

  close(): void {
    for (const file of [...this.#files, this.#journal]) if (file >= 0) system.closeSync(file);
    this.#files = [];
    this.#journal = -1;
  }

  #path(final: string): string {
    return join(this.#options.folder, basename(final));
  }

  #open(): void {
    const { folder, finals, restart } = this.#options;
    const journalPath = join(folder, JOURNAL);
    if (restart)
      for (const path of [journalPath, ...finals.map((one) => this.#path(one))]) system.rmSync(path, { force: true });
    const { lines, bytes } = readJournal(journalPath);
    this.#checkFacts(lines[0]);
    // Whole files of which one is gone from either place were taken away after a publish: that job is over.
    const isThere = (path: string) => system.existsSync(this.#path(path)) || system.existsSync(path);
    this.#isWhole = lines.some((line) => 'whole' in line) && finals.every(isThere);
    const chunks = lines.filter((line) => 'ends' in line);
    if (this.#isWhole) {
      for (const chunk of chunks) this.#keep(chunk);
      return;
    }
    this.#files = finals.map((path) => openToWrite(this.#path(path)));
    if (lines.length > 0) this.#keepSound(chunks);
    this.#journal = openToWrite(journalPath);
    // Cut back to what is kept: a torn line, lines of chunks whose bytes are not what they were, an end of the files.
    this.#journalEnd = lines.length === 0 ? 0 : bytes[1 + this.#written.length]!;
    system.ftruncateSync(this.#journal, this.#journalEnd);
    this.#files.forEach((file, i) => system.ftruncateSync(file, this.#ends[i] ?? 0));
    if (lines.length > 0) return;
    this.#write(this.#options.format.begin().map((bytes) => [bytes]));
    this.#log({ facts: this.#options.facts });
    syncFolder(folder);
    syncFolder(dirname(folder));
  }

  #checkFacts(first: Line | undefined): void {
    if (first === undefined) return;
    if (!('facts' in first)) throw mismatch(this.#options, 'its journal does not begin as one of Belfry does');
    const different = differences(first.facts, this.#options.facts);
    if (different.length > 0) throw mismatch(this.#options, different.join('; '));
  }

  /** Compares the files with the journal and keeps the chunks up to the first that differs. */
  #keepSound(chunks: readonly ChunkLine[]): void {
    this.#ends = this.#starts;
    const begin = this.#options.format.begin();
    if (!this.#files.every((file, i) => sumOf(file, 0, this.#starts[i]!) === crc32(begin[i]!))) {
      this.#ends = [];
      this.#write(begin.map((bytes) => [bytes]));
      return;
    }
    for (const chunk of chunks) {
      if (!this.#files.every((file, i) => sumOf(file, this.#ends[i]!, chunk.ends[i]!) === chunk.sums[i])) return;
      this.#keep(chunk);
    }
  }

  #keep({ hits, note, ends }: ChunkLine): void {
    this.#written.push({ starts: this.#written.length === 0 ? this.#starts : this.#ends, hits, note });
    this.#ends = [...ends];
  }

  #write(pieces: readonly (readonly Uint8Array[])[]): void {
    const ends = pieces.map((list, i) => {
      const at = list.reduce((to, piece) => this.#writeAt(this.#files[i]!, piece, to), this.#ends[i] ?? 0);
      this.#system.fsyncSync(this.#files[i]!);
      return at;
    });
    this.#ends = ends;
  }

  /** Returns where the bytes end. A write may stop short, for one at 2 GiB. */
  #writeAt(file: number, bytes: Uint8Array, at: number): number {
    for (let done = 0; done < bytes.length;)
      done += this.#system.writeSync(file, bytes, done, bytes.length - done, at + done);
    return at + bytes.length;
  }

  #log(line: Line): void {
    const text = JSON.stringify(line);
    const bytes = Buffer.from(`${crc32(text).toString(16)} ${text}\n`);
    this.#journalEnd = this.#writeAt(this.#journal, bytes, this.#journalEnd);
    this.#system.fsyncSync(this.#journal);
  }
}

/** For reading and writing at any place; made where it is not there. */
function openToWrite(path: string): number {
  return system.openSync(path, system.constants.O_RDWR | system.constants.O_CREAT, 0o666);
}

/** The lines up to the first that is torn, and how many bytes the first n of them take. */
function readJournal(path: string): { lines: Line[]; bytes: number[] } {
  const lines: Line[] = [];
  const bytes = [0];
  const text = system.existsSync(path) ? system.readFileSync(path, 'utf8') : '';
  for (const line of text.split('\n').slice(0, -1)) {
    const space = line.indexOf(' ');
    const json = line.slice(space + 1);
    if (space < 0 || crc32(json).toString(16) !== line.slice(0, space)) break;
    lines.push(JSON.parse(json) as Line);
    bytes.push(bytes.at(-1)! + Buffer.byteLength(line) + 1);
  }
  return { lines, bytes };
}

function sumOf(file: number, start: number, end: number): number | undefined {
  const buffer = new Uint8Array(Math.min(READ_BYTES, end - start));
  let sum = 0;
  for (let at = start; at < end;) {
    const count = system.readSync(file, buffer, 0, Math.min(buffer.length, end - at), at);
    if (count === 0) return undefined; // shorter than the journal says
    sum = crc32(buffer.subarray(0, count), sum);
    at += count;
  }
  return sum;
}

function syncFolder(path: string): void {
  const folder = system.openSync(path, 'r');
  try {
    system.fsyncSync(folder);
  } finally {
    system.closeSync(folder);
  }
}

function differences(before: JobFacts, now: JobFacts): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(now)]);
  return [...names]
    .filter((name) => before[name] !== now[name])
    .map((name) => `${name} was ${show(before[name] ?? null)} and is ${show(now[name] ?? null)}`);
}

function mismatch({ folder }: PartialOptions, why: string): BelfryError {
  return new BelfryError(
    'BELFRY_RESUME_MISMATCH',
    `${folder} is of another job: ${why}; go on with the options of that job, or begin anew with --restart`,
    { field: 'out' },
  );
}

/** Out of space is the operator's to mend, and nothing is lost by it. */
function explain(error: unknown, finals: readonly string[]): unknown {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ENOSPC' && code !== 'EDQUOT' && code !== 'EFBIG') return error;
  const out = finals.at(-1)!;
  const what = code === 'EFBIG' ? 'the file system takes no larger file' : 'the disk is full';
  return new BelfryError(
    'BELFRY_DISK_SPACE',
    `${out}: ${what} (${code}); what is done is kept in ${basename(out)}.partial: free some space and run the same command again`,
    { field: 'out', cause: error },
  );
}
