/**
 * Candidates as Parquet. `long`: one row for each hit, columns user_id, rank (1 is the best), item_id, score.
 * `lists`: one row for each user, columns user_id, item_ids, scores (lists, best first; empty for a user without a hit).
 * One row group a chunk; ids are INT64 where the export has integer ids or none, else UTF-8.
 */
import type { KeyValue, SchemaElement } from 'hyparquet';
import { ByteWriter } from 'hyparquet-writer';
import { writeMetadata } from 'hyparquet-writer/src/metadata.js';
import type { Id } from '../types.js';
import { type Chunk, type Encoded, NO_USER, type OutputFormat, type WrittenChunk } from './chunk.js';
import type { PackedIds, WrittenKind } from './packed-ids.js';
import {
  bitWidth,
  type ColumnNote,
  ColumnPages,
  columnChunk,
  levels,
  littleEndian,
  packedIndexes,
  Runs,
} from './parquet-pages.js';

const MAGIC = new Uint8Array(Buffer.from('PAR1'));

export type ParquetLayout = 'long' | 'lists';

export interface ParquetOutputOptions {
  readonly layout: ParquetLayout;
  readonly userKind: WrittenKind;
  readonly items: PackedIds;
  /** Rows of the item matrix. */
  readonly itemRows: number;
  readonly createdBy: string;
  /** Key-value metadata of the file. */
  readonly facts: Readonly<Record<string, string>>;
}

/** What the journal keeps of a row group; null where a chunk has no row. */
type GroupNote = { readonly rows: number; readonly columns: readonly ColumnNote[] } | null;

/** The hits of a chunk without gaps. */
interface Packed {
  readonly hits: number;
  readonly items: Uint8Array;
  readonly itemCount: number;
  readonly itemIndexes: Uint32Array;
  readonly scores: Float32Array;
}

export class ParquetOutput implements OutputFormat {
  /** Item row → its place in the dictionary of the current chunk, plus 1. */
  readonly #places: Uint32Array;

  constructor(private readonly options: ParquetOutputOptions) {
    this.#places = new Uint32Array(options.itemRows);
  }

  begin(): Uint8Array[] {
    return [MAGIC];
  }

  encode(chunk: Chunk): Encoded {
    const packed = this.#pack(chunk);
    const group = this.options.layout === 'long' ? this.#long(chunk, packed) : this.#lists(chunk, packed);
    if (group === undefined) return { pieces: [[]], hits: 0, note: null };
    const note: GroupNote = { rows: group.rows, columns: group.columns.map(({ note: one }) => one) };
    return { pieces: [group.columns.flatMap(({ pages }) => pages.pieces)], hits: packed.hits, note };
  }

  end(chunks: readonly WrittenChunk[]): Uint8Array[][] {
    const schema = schemaOf(this.options.layout, this.options.userKind, this.options.items.kind);
    const leaves = leavesOf(schema);
    let rows = 0;
    const groups = chunks.flatMap(({ starts, note }) => {
      const group = note as GroupNote;
      if (group === null) return [];
      rows += group.rows;
      let at = starts[0]!;
      const columns = group.columns.map((one, place) => {
        const column = columnChunk(one, at, leaves[place]!);
        at += one.bytes;
        return column;
      });
      const uncompressed = group.columns.reduce((sum, one) => sum + one.uncompressedBytes, 0);
      return [
        {
          columns,
          num_rows: BigInt(group.rows),
          total_byte_size: BigInt(uncompressed),
          total_compressed_size: BigInt(at - starts[0]!),
          file_offset: BigInt(starts[0]!),
        },
      ];
    });
    const writer = new ByteWriter();
    const key_value_metadata: KeyValue[] = Object.entries(this.options.facts).map(([key, value]) => ({ key, value }));
    writeMetadata(writer, {
      version: 2,
      created_by: this.options.createdBy,
      schema,
      num_rows: BigInt(rows),
      row_groups: groups,
      key_value_metadata,
      metadata_length: 0, // of files that are read
    });
    return [[new Uint8Array(writer.getBuffer()), MAGIC]];
  }

  #pack({ users, k, counts, rows, scores }: Chunk): Packed {
    let hits = 0;
    for (let user = 0; user < users; user++) if (counts[user] !== NO_USER) hits += counts[user]!;
    const places = this.#places;
    const itemIndexes = new Uint32Array(hits);
    const packedScores = new Float32Array(hits);
    const dictionary: number[] = [];
    let to = 0;
    for (let user = 0; user < users; user++) {
      const count = counts[user] === NO_USER ? 0 : counts[user]!;
      for (let at = user * k; at < user * k + count; at++) {
        const row = rows[at]!;
        let place = places[row]!;
        if (place === 0) places[row] = place = dictionary.push(row);
        itemIndexes[to] = place - 1;
        packedScores[to++] = scores[at]!;
      }
    }
    for (const row of dictionary) places[row] = 0;
    const items = this.options.items.plain(Uint32Array.from(dictionary));
    return { hits, items, itemCount: dictionary.length, itemIndexes, scores: packedScores };
  }

  #long({ users, counts, ids }: Chunk, packed: Packed): Group | undefined {
    const { hits } = packed;
    if (hits === 0) return undefined;
    const kept: Id[] = [];
    let most = 0;
    for (let user = 0; user < users; user++) {
      const count = counts[user]!;
      if (count === NO_USER || count === 0) continue;
      kept.push(ids[user]!);
      most = Math.max(most, count);
    }
    const userWidth = bitWidth(kept.length);
    const userRuns = new Runs(userWidth);
    const ranks = new Uint32Array(hits);
    let place = 0;
    let at = 0;
    for (let user = 0; user < users; user++) {
      const count = counts[user]!;
      if (count === NO_USER || count === 0) continue;
      userRuns.add(place++, count);
      for (let rank = 0; rank < count; rank++) ranks[at++] = rank;
    }
    const user = new ColumnPages();
    const plain = plainIds(kept, this.options.userKind);
    user.dictionary(plain.bytes, kept.length);
    user.data([Uint8Array.of(userWidth), userRuns.finish()], hits, 'RLE_DICTIONARY');

    // The same short pattern over and over: a hundredth of its size when compressed.
    const rank = new ColumnPages(true);
    const names = Int32Array.from({ length: most }, (_, one) => one + 1);
    rank.dictionary(new Uint8Array(names.buffer), most);
    rank.data([packedIndexes(ranks, bitWidth(most))], hits, 'RLE_DICTIONARY');

    const [item, score] = valuePages(packed, [], hits);
    const columns = [
      { pages: user, note: user.note(plain) },
      { pages: rank, note: rank.note({ min: littleEndian(1), max: littleEndian(most) }) },
      { pages: item, note: item.note() },
      { pages: score, note: score.note() },
    ];
    return { rows: hits, columns };
  }

  #lists({ users, counts, ids }: Chunk, packed: Packed): Group | undefined {
    const kept: Id[] = [];
    let slots = 0; // values and empty lists: what the levels count
    const repetition = new Runs(1);
    const definition = new Runs(1);
    for (let user = 0; user < users; user++) {
      const count = counts[user]!;
      if (count === NO_USER) continue;
      kept.push(ids[user]!);
      slots += Math.max(1, count);
      repetition.add(0, 1); // a new list
      if (count > 1) repetition.add(1, count - 1);
      if (count === 0) definition.add(0, 1);
      else definition.add(1, count);
    }
    if (kept.length === 0) return undefined;
    const plain = plainIds(kept, this.options.userKind);
    const user = new ColumnPages();
    user.data([plain.bytes], kept.length, 'PLAIN');
    const [item, score] = valuePages(packed, [...levels(repetition), ...levels(definition)], slots);
    const columns = [
      { pages: user, note: user.note(plain) },
      { pages: item, note: item.note() },
      { pages: score, note: score.note() },
    ];
    return { rows: kept.length, columns };
  }
}

interface Group {
  readonly rows: number;
  readonly columns: readonly { readonly pages: ColumnPages; readonly note: ColumnNote }[];
}

function valuePages(packed: Packed, before: readonly Uint8Array[], values: number): [ColumnPages, ColumnPages] {
  const item = new ColumnPages();
  item.dictionary(packed.items, packed.itemCount);
  item.data([...before, packedIndexes(packed.itemIndexes, bitWidth(packed.itemCount))], values, 'RLE_DICTIONARY');
  const score = new ColumnPages();
  score.data([...before, new Uint8Array(packed.scores.buffer)], values, 'PLAIN');
  return [item, score];
}

/** User ids in PLAIN encoding, with the least and the greatest, by which readers skip row groups. */
function plainIds(ids: readonly Id[], kind: WrittenKind): { bytes: Uint8Array; min?: Uint8Array; max?: Uint8Array } {
  if (kind === 'integer') {
    const values = BigInt64Array.from(ids, (id) => BigInt(id));
    const numbers = ids as readonly number[];
    const bytesOf = (value: number) => new Uint8Array(BigInt64Array.of(BigInt(value)).buffer);
    const min = numbers.reduce((least, one) => Math.min(least, one), Infinity);
    const max = numbers.reduce((most, one) => Math.max(most, one), 0);
    return { bytes: new Uint8Array(values.buffer), min: bytesOf(min), max: bytesOf(max) };
  }
  const texts = ids.map((id) => Buffer.from(String(id)));
  const sorted = (least: boolean) =>
    texts.reduce((one, other) => (Buffer.compare(other, one) < 0 === least ? other : one));
  const bytes = Buffer.concat(texts.flatMap((text) => [littleEndian(text.length), text]));
  return { bytes, min: sorted(true), max: sorted(false) };
}

function schemaOf(layout: ParquetLayout, users: WrittenKind, items: WrittenKind): SchemaElement[] {
  const id = (name: string, kind: WrittenKind): SchemaElement =>
    kind === 'integer'
      ? { name, type: 'INT64', repetition_type: 'REQUIRED' }
      : {
          name,
          type: 'BYTE_ARRAY',
          converted_type: 'UTF8',
          logical_type: { type: 'STRING' },
          repetition_type: 'REQUIRED',
        };
  const float = (name: string): SchemaElement => ({ name, type: 'FLOAT', repetition_type: 'REQUIRED' });
  if (layout === 'long') {
    return [
      { name: 'root', num_children: 4 },
      id('user_id', users),
      { name: 'rank', type: 'INT32', repetition_type: 'REQUIRED' },
      id('item_id', items),
      float('score'),
    ];
  }
  const list = (name: string, element: SchemaElement): SchemaElement[] => [
    { name, num_children: 1, converted_type: 'LIST', logical_type: { type: 'LIST' }, repetition_type: 'REQUIRED' },
    { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
    element,
  ];
  return [
    { name: 'root', num_children: 3 },
    id('user_id', users),
    ...list('item_ids', id('element', items)),
    ...list('scores', float('element')),
  ];
}

function leavesOf(schema: readonly SchemaElement[]): { path: string[]; type: NonNullable<SchemaElement['type']> }[] {
  const leaves: { path: string[]; type: NonNullable<SchemaElement['type']> }[] = [];
  let group: string[] = [];
  for (const { name, type, num_children } of schema.slice(1)) {
    if (num_children !== undefined) group = [...group, name];
    else {
      leaves.push({ path: [...group, name], type: type! });
      group = [];
    }
  }
  return leaves;
}
