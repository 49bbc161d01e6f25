/** Ids ↔ rows. Row numbers are what the core works with; ids are what callers see. */
import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { BelfryError, show } from '../errors.js';
import type { Id, Row } from '../types.js';

export const ID_LENGTH_MAX = 256;

/** V8 refuses more than 2^24 entries in one Map; half of that leaves its last doubling out. */
const ROWS_PER_MAP = 2 ** 23;

export type IdKind = 'row' | 'integer' | 'string';

export class IdMap {
  /** Undefined when ids are row numbers: nothing needs to be held. */
  private readonly rows: readonly Map<Id, Row>[] | undefined;

  private constructor(
    readonly kind: IdKind,
    private readonly ids: readonly Id[] | undefined,
    readonly size: number,
    file: string,
  ) {
    if (ids === undefined) return;
    const maps: Map<Id, Row>[] = [];
    this.rows = maps;
    let map = new Map<Id, Row>();
    for (let row = 0; row < ids.length; row++) {
      const id = ids[row] as Id;
      if (row % ROWS_PER_MAP === 0) maps.push((map = new Map()));
      const earlier = this.rowOf(id);
      if (earlier !== undefined) {
        throw new BelfryError(
          'BELFRY_DUPLICATE_ID',
          `${file}: id ${show(id)} stands in row ${earlier} and in row ${row}; each id must be there once`,
          {
            field: file,
          },
        );
      }
      map.set(id, row);
    }
  }

  /** Ids are the row numbers 0 to count-1. */
  static ofRows(count: number): IdMap {
    return new IdMap('row', undefined, count, '');
  }

  /** One id a line, UTF-8; a last line may end without a newline. */
  static async fromText(path: string): Promise<IdMap> {
    const file = basename(path);
    const bytes = await readFile(path);
    const read = bytes.toString('utf8');
    const text = read.startsWith('\uFEFF') ? read.slice(1) : read; // a byte order mark is not part of the first id
    // Bytes that are not UTF-8 decode to U+FFFD, which an id may also hold in earnest.
    if (!isUtf8(bytes)) {
      const line = text.slice(0, text.indexOf('\uFFFD')).split('\n').length;
      throw new BelfryError('BELFRY_INVALID_ID', `${file}: line ${line} is not UTF-8`, { field: file });
    }
    const lines = text.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
    if (lines.at(-1) === '') lines.pop();
    for (let row = 0; row < lines.length; row++) {
      const length = (lines[row] as string).length;
      if (length === 0 || length > ID_LENGTH_MAX) {
        throw new BelfryError(
          'BELFRY_INVALID_ID',
          `${file}: line ${row + 1}: expected 1 to ${ID_LENGTH_MAX} characters, received ${length}`,
          {
            field: file,
            limit: ID_LENGTH_MAX,
          },
        );
      }
    }
    return new IdMap('string', lines, lines.length, file);
  }

  /** Integer ids; each must be one that JSON carries without loss. */
  static fromIntegers(values: BigInt64Array, path: string): IdMap {
    const file = basename(path);
    const ids = new Array<Id>(values.length);
    for (let row = 0; row < values.length; row++) {
      const value = values[row] as bigint;
      if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
        throw new BelfryError(
          'BELFRY_INVALID_ID',
          `${file}: row ${row}: expected an integer from 0 to ${Number.MAX_SAFE_INTEGER}, received ${value}; use string ids (.txt) for others`,
          { field: file, limit: Number.MAX_SAFE_INTEGER },
        );
      }
      ids[row] = Number(value);
    }
    return new IdMap('integer', ids, ids.length, file);
  }

  idOf(row: Row): Id {
    return this.ids === undefined ? row : (this.ids[row] as Id);
  }

  /** Undefined when the id is not there (also when it is of the other type: `"42"` is not 42). */
  rowOf(id: Id): Row | undefined {
    if (this.rows !== undefined) {
      for (const map of this.rows) {
        const row = map.get(id);
        if (row !== undefined) return row;
      }
      return undefined;
    }
    return typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < this.size ? id : undefined;
  }

  /** All ids in row order. */
  all(): readonly Id[] {
    return this.ids ?? Array.from({ length: this.size }, (_, row) => row);
  }
}
