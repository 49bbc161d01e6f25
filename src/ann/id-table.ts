/**
 * Ids and the way back from an id to its row, as plain shared memory: worker threads fill and read it without a copy, and
 * a million ids are a few arrays to the garbage collector, not a million strings.
 */
import { isAscii } from 'node:buffer';
import { BelfryError, show } from '../errors.js';
import type { Id, Row } from '../types.js';

export const ID_LENGTH_MAX = 256;

/** What crosses between threads. Every array lies in a SharedArrayBuffer. */
export interface IdTableData {
  /** Integers from 0 to 2^53 - 1, or UTF-8, one id behind the other: id r ends before byte ends[r]. */
  readonly values: { readonly integers: Float64Array } | { readonly bytes: Uint8Array; readonly ends: Uint32Array };
  /** Row + 1, or 0 for a free place; collisions go to the next place. A power of two, at most half full. */
  readonly places: Uint32Array;
  /** Random, so that nobody can write ids that all meet in one place. */
  readonly seed: number;
  /** Of text: plain ASCII, as most ids are, is read in half the time of UTF-8. */
  readonly isAscii: boolean;
}

const encoder = new TextEncoder();
/** UTF-8 of the id that is looked up: three bytes a UTF-16 unit at most. */
const sought = new Uint8Array(3 * ID_LENGTH_MAX);

export class IdTable {
  readonly size: number;
  private readonly integers: Float64Array | undefined;
  private readonly bytes: Buffer;
  private readonly encoding: 'latin1' | 'utf8';
  private readonly ends: Uint32Array;

  constructor(readonly data: IdTableData) {
    const { values } = data;
    this.integers = 'integers' in values ? values.integers : undefined;
    const bytes = 'bytes' in values ? values.bytes : new Uint8Array(0);
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.encoding = data.isAscii ? 'latin1' : 'utf8';
    this.ends = 'ends' in values ? values.ends : new Uint32Array(0);
    this.size = this.integers?.length ?? this.ends.length;
  }

  /** `file` is what the error calls the source. Error: BELFRY_DUPLICATE_ID. */
  static build(values: IdTableData['values'], file: string): IdTable {
    const size = 'integers' in values ? values.integers.length : values.ends.length;
    let places = 2;
    while (places < size * 2) places *= 2;
    const seed = Math.floor(Math.random() * 2 ** 32);
    const table = new IdTable({
      values,
      places: new Uint32Array(new SharedArrayBuffer(4 * places)),
      seed,
      isAscii: 'bytes' in values && isAscii(values.bytes),
    });
    for (let row = 0; row < size; row++) table.insert(row, file);
    return table;
  }

  get isText(): boolean {
    return this.integers === undefined;
  }

  idOf(row: Row): Id {
    if (this.integers !== undefined) return this.integers[row]!;
    return this.bytes.toString(this.encoding, this.startOf(row), this.ends[row]);
  }

  rowOf(id: Id): Row | undefined {
    if (this.integers !== undefined) return typeof id === 'number' ? this.find(this.placeOfInteger(id)) : undefined;
    if (typeof id !== 'string') return undefined;
    const length = encode(id);
    return length < 0 ? undefined : this.find(this.placeOfText(sought, 0, length));
  }

  private insert(row: Row, file: string): void {
    const place =
      this.integers === undefined
        ? this.placeOfText(this.bytes, this.startOf(row), this.ends[row]!)
        : this.placeOfInteger(this.integers[row]!);
    const earlier = this.find(place);
    if (earlier !== undefined) {
      throw new BelfryError(
        'BELFRY_DUPLICATE_ID',
        `${file}: id ${show(this.idOf(row))} stands in row ${earlier} and in row ${row}; each id must be there once`,
        { field: file },
      );
    }
    this.data.places[place] = row + 1;
  }

  private find(place: number): Row | undefined {
    const held = this.data.places[place]!;
    return held === 0 ? undefined : held - 1;
  }

  private startOf(row: Row): number {
    return row === 0 ? 0 : this.ends[row - 1]!;
  }

  /** Where the id is, or where it would be. */
  private placeOfText(from: Uint8Array, start: number, end: number): number {
    const { places, seed } = this.data;
    const { bytes, ends } = this;
    const mask = places.length - 1;
    let hash = seed;
    for (let at = start; at < end; at++) hash = Math.imul(hash ^ from[at]!, 0x01000193); // FNV-1a
    for (let place = mixed(hash) & mask; ; place = (place + 1) & mask) {
      const held = places[place]!;
      if (held === 0) return place;
      const first = this.startOf(held - 1);
      if (ends[held - 1]! - first !== end - start) continue;
      let same = 0;
      while (start + same < end && bytes[first + same] === from[start + same]) same++;
      if (start + same === end) return place;
    }
  }

  private placeOfInteger(id: number): number {
    const { places, seed } = this.data;
    const mask = places.length - 1;
    const hash = Math.imul(mixed((id ^ seed) | 0) ^ (id / 2 ** 32), 0x01000193); // both halves of the 53 bits
    for (let place = mixed(hash) & mask; ; place = (place + 1) & mask) {
      const held = places[place]!;
      if (held === 0 || this.integers![held - 1] === id) return place;
    }
  }
}

/** The finish of MurmurHash3: FNV's low bits alone hardly see the high bits of a byte. */
function mixed(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

/** Into `sought`; its length in bytes, or -1 for what cannot be an id. */
function encode(id: string): number {
  if (id.length > ID_LENGTH_MAX) return -1;
  for (let at = 0; at < id.length; at++) {
    const unit = id.charCodeAt(at);
    // Half a surrogate pair would be written as U+FFFD, which another id may hold in earnest.
    if (unit > 0x7f) return /\p{Surrogate}/u.test(id) ? -1 : encoder.encodeInto(id, sought).written;
    sought[at] = unit;
  }
  return id.length;
}
