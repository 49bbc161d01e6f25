/**
 * Column chunks of a Parquet file as bytes (https://parquet.apache.org/docs/file-format/data-pages/encodings/).
 *
 * hyparquet-writer encodes any value that JavaScript has, at about 2 µs a row; the columns of candidates are three
 * simple cases, which take about 20 ns a row here. Page headers and the footer stay the library's.
 */
import { gzipSync } from 'node:zlib';
import type { ColumnChunk, PageHeader, ParquetType } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer';
import { writePageHeader } from 'hyparquet-writer/src/datapage.js';

/** What the footer says of a column chunk, as JSON; `dictionary` and `data` are offsets from the start of the chunk. */
export interface ColumnNote {
  readonly values: number;
  readonly bytes: number;
  readonly uncompressedBytes: number;
  readonly dictionary?: number;
  readonly data: number;
  readonly gzip: boolean;
  /** PLAIN bytes of the least and the greatest value, as base64. */
  readonly min?: string;
  readonly max?: string;
}

/** The pages of one column chunk, one after the other. */
export class ColumnPages {
  readonly pieces: Uint8Array[] = [];
  #bytes = 0;
  #uncompressedBytes = 0;
  #dictionary: number | undefined;
  #data = 0;
  #values = 0;

  constructor(private readonly gzip = false) {}

  /** `plain`: the values in PLAIN encoding. */
  dictionary(plain: Uint8Array, values: number): void {
    this.#dictionary = this.#bytes;
    const dictionary_page_header = { num_values: values, encoding: 'PLAIN' } as const;
    this.#page('DICTIONARY_PAGE', { dictionary_page_header }, [plain]);
  }

  /** One page (version 1, which every reader knows): `parts` are levels, where there are any, and then the values. */
  data(parts: readonly Uint8Array[], values: number, encoding: 'PLAIN' | 'RLE_DICTIONARY'): void {
    this.#data = this.#bytes;
    this.#values = values;
    const data_page_header = {
      num_values: values,
      encoding,
      definition_level_encoding: 'RLE',
      repetition_level_encoding: 'RLE',
    } as const;
    this.#page('DATA_PAGE', { data_page_header }, parts);
  }

  note(bounds: { min?: Uint8Array; max?: Uint8Array } = {}): ColumnNote {
    const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
    return {
      values: this.#values,
      bytes: this.#bytes,
      uncompressedBytes: this.#uncompressedBytes,
      ...(this.#dictionary === undefined ? {} : { dictionary: this.#dictionary }),
      data: this.#data,
      gzip: this.gzip,
      ...(bounds.min === undefined ? {} : { min: base64(bounds.min) }),
      ...(bounds.max === undefined ? {} : { max: base64(bounds.max) }),
    };
  }

  #page(type: PageHeader['type'], header: Partial<PageHeader>, parts: readonly Uint8Array[]): void {
    const size = parts.reduce((sum, part) => sum + part.length, 0);
    const body = this.gzip ? [gzipSync(Buffer.concat(parts), { level: 1 })] : parts;
    const stored = body.reduce((sum, part) => sum + part.length, 0);
    const writer = new ByteWriter();
    writePageHeader(writer, { type, uncompressed_page_size: size, compressed_page_size: stored, ...header });
    this.pieces.push(new Uint8Array(writer.getBuffer()), ...body);
    this.#bytes += writer.offset + stored;
    this.#uncompressedBytes += writer.offset + size;
  }
}

/** The footer's entry of a chunk that begins at byte `start` of the file. */
export function columnChunk(
  note: ColumnNote,
  start: number,
  column: { readonly path: readonly string[]; readonly type: ParquetType },
): ColumnChunk {
  // The library wants values, not bytes; of strings it takes bytes, and shortens them as the format allows.
  const decode = (text: string): bigint | number | Uint8Array => {
    const bytes = Buffer.from(text, 'base64');
    if (column.type === 'INT64') return bytes.readBigInt64LE();
    return column.type === 'INT32' ? bytes.readInt32LE() : bytes;
  };
  return {
    file_offset: BigInt(start),
    meta_data: {
      type: column.type,
      encodings: note.dictionary === undefined ? ['PLAIN', 'RLE'] : ['PLAIN', 'RLE', 'RLE_DICTIONARY'],
      path_in_schema: [...column.path],
      codec: note.gzip ? 'GZIP' : 'UNCOMPRESSED',
      num_values: BigInt(note.values),
      total_uncompressed_size: BigInt(note.uncompressedBytes),
      total_compressed_size: BigInt(note.bytes),
      data_page_offset: BigInt(start + note.data),
      ...(note.dictionary === undefined ? {} : { dictionary_page_offset: BigInt(start + note.dictionary) }),
      ...(note.min === undefined || note.max === undefined
        ? {}
        : { statistics: { null_count: 0n, min_value: decode(note.min), max_value: decode(note.max) } }),
    },
  };
}

/** Bits that tell `count` values apart; at least one, because some readers take no page of zero bits. */
export function bitWidth(count: number): number {
  return Math.max(1, 32 - Math.clz32(Math.max(0, count - 1)));
}

/** Runs of equal values: the RLE half of the RLE / bit-packing hybrid. */
export class Runs {
  #bytes = new Uint8Array(1024);
  #size = 0;
  #value = 0;
  #count = 0;
  readonly #valueBytes: number;

  constructor(width: number) {
    this.#valueBytes = Math.ceil(width / 8);
  }

  add(value: number, count: number): void {
    if (value !== this.#value) this.#flush();
    this.#value = value;
    this.#count += count;
  }

  finish(): Uint8Array {
    this.#flush();
    return this.#bytes.subarray(0, this.#size);
  }

  #flush(): void {
    if (this.#count === 0) return;
    if (this.#size + 10 > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#size = putVarint(this.#bytes, this.#size, this.#count * 2);
    for (let shift = 0; shift < this.#valueBytes; shift++) this.#bytes[this.#size++] = this.#value >>> (8 * shift);
    this.#count = 0;
  }
}

/** Dictionary indexes as a data page holds them: their width, then one bit-packed run. `width` at most 24. */
export function packedIndexes(values: Uint32Array, width: number): Uint8Array {
  const groups = Math.ceil(values.length / 8);
  const out = new Uint8Array(1 + 5 + groups * width);
  out[0] = width;
  let to = putVarint(out, 1, groups * 2 + 1);
  const end = to + groups * width;
  let bits = 0;
  let held = 0;
  for (let i = 0; i < values.length; i++) {
    bits |= values[i]! << held;
    held += width;
    while (held >= 8) {
      out[to++] = bits;
      bits >>>= 8;
      held -= 8;
    }
  }
  if (held > 0) out[to] = bits;
  return out.subarray(0, end); // the last group is filled with zeros
}

/** Levels of version 1 pages: their length, then the runs. */
export function levels(runs: Runs): Uint8Array[] {
  const bytes = runs.finish();
  return [littleEndian(bytes.length), bytes];
}

export function littleEndian(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

function putVarint(out: Uint8Array, at: number, value: number): number {
  let to = at;
  let rest = value;
  while (rest > 127) {
    out[to++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[to++] = rest;
  return to;
}
