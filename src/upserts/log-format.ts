/**
 * The bytes of the write-ahead log. A segment file is a header of 32 bytes and then commits; a commit is a header of 32
 * bytes and one or more changes that became durable together. Little-endian.
 *
 *     segment header   "BELFRYUP", version u32, 0 u32, first sequence u64, 0 u32, CRC u32 of the 28 bytes before
 *     commit header    "BUPC", payload bytes u32, first sequence u64, changes u32, CRC u32 of the payload, 0 u32,
 *                      CRC u32 of the 28 bytes before
 *     payload          per change: JSON bytes u32, dims u32, JSON, dims x f32; after the last a line feed
 *
 * The header has a CRC of its own, so a damaged length is never followed and never taken for the end of the file. The line
 * feed makes the last byte of a whole file other than zero, which is what a file system leaves of a write that power loss cut.
 * CRC-32 of zlib: every Node that Belfry runs on has it, in native code.
 */
import { crc32 } from 'node:zlib';
import { LIMITS } from '../config/schema.js';
import type { Features, Id } from '../types.js';

export interface ItemPut {
  readonly op: 'put';
  readonly id: Id;
  /** Milliseconds since 1970 of the process that took it. */
  readonly time: number;
  /** Which training the vector is of: see spaceOf in item-space.ts. */
  readonly space: string;
  /** dims finite values. */
  readonly embedding: Float32Array;
  /** What the vector was made of by an item tower, to make it again by another; absent when the vector was sent. */
  readonly features?: Features;
  /** Columns of the item table; a column that is absent is null. */
  readonly metadata: Features;
}

export interface ItemDelete {
  readonly op: 'delete';
  readonly id: Id;
  readonly time: number;
}

export type ItemChange = ItemPut | ItemDelete;

/** A change and its place in the order of all changes, from 1 on. */
export interface LoggedChange {
  readonly sequence: number;
  readonly change: ItemChange;
}

export const HEADER_BYTES = 32;
/** The longest payload that is written, or believed: a group of changes is far below, a single one is a request body. */
export const PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;
const VERSION = 1;
const SEGMENT_MAGIC = Buffer.from('BELFRYUP');
const COMMIT_MAGIC = Buffer.from('BUPC');
const LINE_FEED = 10;
const NO_VALUES = new Float32Array(0);

export function encodeSegmentHeader(firstSequence: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  SEGMENT_MAGIC.copy(header);
  header.writeUInt32LE(VERSION, 8);
  header.writeBigUInt64LE(BigInt(firstSequence), 16);
  header.writeUInt32LE(crc32(header.subarray(0, 28)), 28);
  return header;
}

/** What is wrong with the header of the segment that begins with `firstSequence`; undefined when nothing is. */
export function segmentProblem(header: Buffer, firstSequence: number): string | undefined {
  if (header.length < HEADER_BYTES) return `it is ${header.length} bytes long, shorter than its header`;
  if (!header.subarray(0, 8).equals(SEGMENT_MAGIC)) return 'it does not begin as a log of item changes';
  if (crc32(header.subarray(0, 28)) !== header.readUInt32LE(28)) return 'the checksum of its header does not fit';
  const version = header.readUInt32LE(8);
  if (version !== VERSION) return `it is of version ${version}; this Belfry reads version ${VERSION}`;
  const first = header.readBigUInt64LE(16);
  if (first !== BigInt(firstSequence)) return `its header says first change ${first}, its name ${firstSequence}`;
  return undefined;
}

/** One change as it stands in a payload. */
export function encodeChange(change: ItemChange): Buffer {
  const { embedding = NO_VALUES, ...rest } = change as Partial<ItemPut>;
  const json = Buffer.from(JSON.stringify(rest));
  const bytes = Buffer.alloc(8 + json.length + 4 * embedding.length);
  bytes.writeUInt32LE(json.length, 0);
  bytes.writeUInt32LE(embedding.length, 4);
  json.copy(bytes, 8);
  for (let i = 0; i < embedding.length; i++) bytes.writeFloatLE(embedding[i]!, 8 + json.length + 4 * i);
  return bytes;
}

export function encodeCommit(firstSequence: number, changes: readonly Buffer[]): Buffer {
  const payload = Buffer.concat([...changes, Buffer.of(LINE_FEED)]);
  const header = Buffer.alloc(HEADER_BYTES);
  COMMIT_MAGIC.copy(header);
  header.writeUInt32LE(payload.length, 4);
  header.writeBigUInt64LE(BigInt(firstSequence), 8);
  header.writeUInt32LE(changes.length, 16);
  header.writeUInt32LE(crc32(payload), 20);
  header.writeUInt32LE(crc32(header.subarray(0, 28)), 28);
  return Buffer.concat([header, payload]);
}

export interface Scan {
  readonly changes: readonly LoggedChange[];
  /** Bytes of the whole commits. */
  readonly end: number;
  /** Set when the bytes end inside a commit: how many it takes from `end` on, as far as is known. */
  readonly wanted?: number;
  /** Set when what follows `end` is no commit. */
  readonly problem?: string;
}

/** Reads commits from the beginning of `bytes`; the first must begin with change `sequence`. */
export function scanCommits(bytes: Buffer, sequence: number): Scan {
  const changes: LoggedChange[] = [];
  let end = 0;
  while (end < bytes.length) {
    if (bytes.length - end < HEADER_BYTES) return { changes, end, wanted: HEADER_BYTES };
    const header = bytes.subarray(end, end + HEADER_BYTES);
    const next = sequence + changes.length;
    const problem = commitProblem(header, next);
    if (problem !== undefined) return { changes, end, problem };
    const total = HEADER_BYTES + header.readUInt32LE(4);
    if (bytes.length - end < total) return { changes, end, wanted: total };
    const payload = bytes.subarray(end + HEADER_BYTES, end + total);
    if (crc32(payload) !== header.readUInt32LE(20))
      return { changes, end, problem: `the checksum of change ${next} does not fit` };
    const decoded = decodePayload(payload, header.readUInt32LE(16), next);
    if (decoded === undefined) return { changes, end, problem: `change ${next} cannot be read` };
    changes.push(...decoded);
    end += total;
  }
  return { changes, end };
}

function commitProblem(header: Buffer, sequence: number): string | undefined {
  if (!header.subarray(0, 4).equals(COMMIT_MAGIC)) return `change ${sequence} is expected there, and something else is`;
  if (crc32(header.subarray(0, 28)) !== header.readUInt32LE(28))
    return `the checksum of the header of change ${sequence} does not fit`;
  const first = header.readBigUInt64LE(8);
  if (first !== BigInt(sequence)) return `change ${sequence} is expected there, and change ${first} is`;
  if (header.readUInt32LE(4) > PAYLOAD_BYTES_MAX) return `change ${sequence} is longer than any that was written`;
  return undefined;
}

/** Undefined when the bytes are no changes, though their checksum fits: written by something else. */
function decodePayload(payload: Buffer, count: number, sequence: number): LoggedChange[] | undefined {
  const changes: LoggedChange[] = [];
  let at = 0;
  while (changes.length < count) {
    if (payload.length - at < 8) return undefined;
    const jsonBytes = payload.readUInt32LE(at);
    const dims = payload.readUInt32LE(at + 4);
    at += 8;
    if (dims > LIMITS.dims.max || jsonBytes + 4 * dims > payload.length - at) return undefined;
    const change = parseChange(payload.toString('utf8', at, at + jsonBytes));
    if (change === undefined) return undefined;
    at += jsonBytes;
    if (change.op === 'put') {
      const embedding = Float32Array.from({ length: dims }, (_, i) => payload.readFloatLE(at + 4 * i));
      changes.push({ sequence: sequence + changes.length, change: { ...change, embedding } });
    } else changes.push({ sequence: sequence + changes.length, change });
    at += 4 * dims;
  }
  return at === payload.length - 1 && payload[at] === LINE_FEED ? changes : undefined;
}

function parseChange(text: string): ItemChange | undefined {
  try {
    const change = JSON.parse(text) as Partial<ItemPut> | null;
    const isChange =
      (change?.op === 'put' && typeof change.metadata === 'object') || (change?.op as string) === 'delete';
    const hasId = typeof change?.id === 'string' || typeof change?.id === 'number';
    return isChange && hasId && typeof change?.time === 'number' ? (change as ItemChange) : undefined;
  } catch {
    return undefined; // the caller says which change it is
  }
}
