/** Ids ↔ rows. Row numbers are what the core works with; ids are what callers see. */
import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { BelfryError } from '../errors.js';
import type { Id, Row } from '../types.js';
import { loadAddon } from './addon.js';
import { ID_LENGTH_MAX, IdTable, type IdTableData } from './id-table.js';

export { ID_LENGTH_MAX } from './id-table.js';

export type IdKind = 'row' | 'integer' | 'string';

/** An IdMap as what crosses between threads without a copy. */
export interface IdMapData {
  readonly kind: IdKind;
  readonly size: number;
  readonly table?: IdTableData;
}

const NEWLINE = 10;
const RETURN = 13;
const BYTE_ORDER_MARK = '\uFEFF';

export class IdMap {
  private listed: WeakRef<readonly Id[]> | undefined;

  private constructor(
    readonly kind: IdKind,
    readonly size: number,
    /** Undefined when ids are row numbers: nothing needs to be held. */
    private readonly table: IdTable | undefined,
  ) {}

  /** Ids are the row numbers 0 to count-1. */
  static ofRows(count: number): IdMap {
    return new IdMap('row', count, undefined);
  }

  static of({ kind, size, table }: IdMapData): IdMap {
    return new IdMap(kind, size, table === undefined ? undefined : new IdTable(table));
  }

  /** One id a line, UTF-8; a last line may end without a newline. Holds up its thread. */
  static async fromText(path: string): Promise<IdMap> {
    const file = basename(path);
    const read = await readFile(path);
    if (!isUtf8(read)) {
      // Bytes that are not UTF-8 decode to U+FFFD, which an id may also hold in earnest.
      const text = read.toString('utf8');
      const line = text.slice(0, text.indexOf('\uFFFD')).split('\n').length;
      throw new BelfryError('BELFRY_INVALID_ID', `${file}: line ${line} is not UTF-8`, { field: file });
    }
    const mark = Buffer.from(BYTE_ORDER_MARK); // no part of the first id
    return IdMap.ofTable(
      IdTable.build(splitLines(read.subarray(read.indexOf(mark) === 0 ? mark.length : 0), file), file),
    );
  }

  /** Integer ids; each must be one that JSON carries without loss. Holds up its thread. */
  static fromIntegers(values: BigInt64Array, path: string): IdMap {
    const file = basename(path);
    const integers = new Float64Array(new SharedArrayBuffer(8 * values.length));
    for (let row = 0; row < values.length; row++) {
      const value = values[row] as bigint;
      if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
        throw new BelfryError(
          'BELFRY_INVALID_ID',
          `${file}: row ${row}: expected an integer from 0 to ${Number.MAX_SAFE_INTEGER}, received ${value}; use string ids (.txt) for others`,
          { field: file, limit: Number.MAX_SAFE_INTEGER },
        );
      }
      integers[row] = Number(value);
    }
    return IdMap.ofTable(IdTable.build({ integers }, file));
  }

  /** Distinct ids of one type that were checked before. Holds up its thread. */
  static fromList(ids: readonly Id[], file: string): IdMap {
    if (typeof ids[0] === 'number') {
      const integers = new Float64Array(new SharedArrayBuffer(8 * ids.length));
      integers.set(ids as number[]);
      return IdMap.ofTable(IdTable.build({ integers }, file));
    }
    const text = Buffer.from((ids as string[]).join(''));
    const bytes = new Uint8Array(new SharedArrayBuffer(text.length));
    bytes.set(text);
    const ends = new Uint32Array(new SharedArrayBuffer(4 * ids.length));
    for (let row = 0, end = 0; row < ids.length; row++) ends[row] = end += Buffer.byteLength(ids[row] as string);
    return IdMap.ofTable(IdTable.build({ bytes, ends }, file));
  }

  private static ofTable(table: IdTable): IdMap {
    return new IdMap(table.isText ? 'string' : 'integer', table.size, table);
  }

  get data(): IdMapData {
    const { kind, size, table } = this;
    return { kind, size, ...(table === undefined ? {} : { table: table.data }) };
  }

  idOf(row: Row): Id {
    return this.table === undefined ? row : this.table.idOf(row);
  }

  /** Undefined when the id is not there (also when it is of the other type: `"42"` is not 42). */
  rowOf(id: Id): Row | undefined {
    if (this.table !== undefined) return this.table.rowOf(id);
    return typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < this.size ? id : undefined;
  }

  /**
   * The first `count` hits as the JSON of an answer's items: by `order` and with the scores of `reranked`, where there are any. Written
   * by the core, for ids, objects and numbers made one by one take longer than a search. Undefined where a row is beyond these ids.
   */
  itemsJson(
    { rows, scores }: { readonly rows: Uint32Array; readonly scores: Float32Array },
    count: number,
    order?: Uint32Array,
    reranked?: Float32Array,
  ): string | undefined {
    const values = this.table?.data.values;
    const [ids, ends] = values === undefined || 'integers' in values ? [values?.integers] : [values.bytes, values.ends];
    return loadAddon().itemsJson(ids, ends, this.size, rows, scores, order, reranked, count);
  }

  /** All ids in row order: the list that was made before, while somebody holds it. Strings of a large table hold up the thread for a while. */
  all(): readonly Id[] {
    const known = this.listed?.deref();
    if (known !== undefined) return known;
    const ids = Array.from({ length: this.size }, (_, row) => this.idOf(row));
    this.listed = new WeakRef(ids);
    return ids;
  }
}

/** Lines of UTF-8 without what ends them. Error: BELFRY_INVALID_ID. */
function splitLines(read: Uint8Array, file: string): { bytes: Uint8Array; ends: Uint32Array } {
  let lines = read.length > 0 && read.at(-1) !== NEWLINE ? 1 : 0;
  for (let at = 0; at < read.length; at++) if (read[at] === NEWLINE) lines++;
  const bytes = new Uint8Array(new SharedArrayBuffer(read.length));
  const ends = new Uint32Array(new SharedArrayBuffer(4 * lines));
  let start = 0;
  let end = 0;
  for (let row = 0, at = 0; row < lines; row++, at++) {
    for (; at < read.length && read[at] !== NEWLINE; at++) bytes[end++] = read[at]!;
    if (end > start && bytes[end - 1] === RETURN) end--;
    // A UTF-16 unit takes one byte at least, so that most lines need not be decoded.
    const isShort = end - start <= ID_LENGTH_MAX;
    const length = isShort ? end - start : Buffer.from(bytes.subarray(start, end)).toString('utf8').length;
    if (length === 0 || length > ID_LENGTH_MAX) {
      throw new BelfryError(
        'BELFRY_INVALID_ID',
        `${file}: line ${row + 1}: expected 1 to ${ID_LENGTH_MAX} characters, received ${length}`,
        { field: file, limit: ID_LENGTH_MAX },
      );
    }
    ends[row] = start = end;
  }
  return { bytes: bytes.subarray(0, end), ends };
}
