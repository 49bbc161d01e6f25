/** What one chunk of the job is, how its answers travel to the output thread, and what an output format is. */
import type { Id } from '../types.js';

/** Hits of one chunk at most: a Parquet row group, a journal entry, and what a kill can lose. */
export const CHUNK_HITS = 1 << 20;
/** Users of one chunk at most, so that small k makes no huge ones. */
export const CHUNK_USERS = 16_384;
/** `counts` of a user that has no query vector: it is left out, which is not the same as no hit. */
export const NO_USER = 0xffff_ffff;

/** Users of every chunk but the last. Follows from k alone, so that how a job was run never shows in its output. */
export function chunkUsers(k: number): number {
  return Math.max(1, Math.min(CHUNK_USERS, Math.floor(CHUNK_HITS / k)));
}

/** The answers of consecutive users, over memory that both threads see. */
export interface Chunk {
  readonly users: number;
  readonly k: number;
  /** users: hits of each user, at most k; or NO_USER. */
  readonly counts: Uint32Array;
  /** users x k: the first counts[u] entries of each user are item rows, best first; what follows means nothing. */
  readonly rows: Uint32Array;
  readonly scores: Float32Array;
  /** Ids of the users; empty for formats that place users by position. */
  readonly ids: readonly Id[];
}

export interface Slot {
  readonly counts: Uint32Array;
  readonly rows: Uint32Array;
  readonly scores: Float32Array;
}

/** Bytes of a slot for chunks of `users` users. */
export function slotBytes(users: number, k: number): number {
  return users * 4 + users * k * 8;
}

export function slotOver(memory: SharedArrayBuffer, users: number, k: number): Slot {
  return {
    counts: new Uint32Array(memory, 0, users),
    rows: new Uint32Array(memory, users * 4, users * k),
    scores: new Float32Array(memory, users * 4 + users * k * 4, users * k),
  };
}

/** What a chunk became: for each file of the output its bytes, and what the end of the file must know of it. */
export interface Encoded {
  readonly pieces: readonly (readonly Uint8Array[])[];
  /** Hits written. */
  readonly hits: number;
  /** JSON; kept in the journal and given back to `end`. */
  readonly note: unknown;
}

/** An entry of the journal as `end` needs it. */
export interface WrittenChunk {
  /** Where the chunk begins in each file. */
  readonly starts: readonly number[];
  readonly hits: number;
  readonly note: unknown;
}

/** One way to write candidates. Deterministic: the same chunks give the same bytes. */
export interface OutputFormat {
  /** What each file begins with. The number of files is the length. */
  begin(): readonly Uint8Array[];
  encode(chunk: Chunk): Encoded;
  /** What each file ends with, after `chunks`. */
  end(chunks: readonly WrittenChunk[]): readonly (readonly Uint8Array[])[];
}
