/** A feature and metadata table keyed by id: users.parquet or items.parquet of a models folder. */
import { basename } from 'node:path';
import { show } from '../errors.js';
import type { Features, FeatureValue, Id } from '../types.js';
import { type ColumnKind, type FeatureColumn, gatherColumn, valueAt } from './feature-column.js';
import { type IgnoredColumn, invalidTable } from './parquet-columns.js';
import { type ParquetReaderOptions, readParquetInWorker } from './parquet-reader.js';

export interface FeatureTableOptions {
  /** What messages call the file, for example `features/items.parquet`. */
  readonly name?: string;
}

const ID_COLUMN = 'id';

/** The ids of a table, wherever they are held: row → id and back. */
export interface TableIds {
  readonly size: number;
  idOf(row: number): Id;
  rowOf(id: Id): number | undefined;
  all(): readonly Id[];
}

export class FeatureTable {
  readonly name: string;
  readonly rows: number;
  /** Columns of the file that cannot be features, with the reason; for the log and `inspect`. */
  readonly ignored: readonly IgnoredColumn[];
  readonly #columns: ReadonlyMap<string, FeatureColumn>;
  readonly #ids: TableIds;
  #idColumn: FeatureColumn | undefined;

  private constructor(
    name: string,
    ids: TableIds,
    columns: readonly FeatureColumn[],
    ignored: readonly IgnoredColumn[] = [],
  ) {
    this.name = name;
    this.rows = ids.size;
    this.#ids = ids;
    this.ignored = ignored;
    this.#columns = new Map(columns.map((column) => [column.name, column]));
  }

  /** Without a path: a table of no rows and no columns, so that callers need no second case. */
  static async open(
    path: string | undefined,
    options: FeatureTableOptions & ParquetReaderOptions = {},
  ): Promise<FeatureTable> {
    if (path === undefined) return new FeatureTable(options.name ?? 'no table', new ListedIds([]), []);
    const name = options.name ?? basename(path);
    const { columns, ignored } = await readParquetInWorker(path, name, options);
    return FeatureTable.fromColumns(columns, { name, ignored });
  }

  /** `columns` hold the `id` column among them, all of one length. */
  static fromColumns(
    columns: readonly FeatureColumn[],
    options: FeatureTableOptions & { ignored?: readonly IgnoredColumn[] } = {},
  ): FeatureTable {
    const name = options.name ?? 'table';
    const idColumn = columns.find((column) => column.name === ID_COLUMN);
    if (idColumn === undefined) {
      throw invalidTable(
        name,
        `it has no column ${ID_COLUMN}; expected one that equals the ids of the embeddings, found ${columns.map((column) => column.name).join(', ') || 'none'}`,
      );
    }
    const ids = new ListedIds(idsOf(idColumn, name), name);
    return FeatureTable.of(
      ids,
      columns.filter((column) => column !== idColumn),
      { ...options, name },
    );
  }

  /** `columns` are without the ids, in their order. */
  static of(
    ids: TableIds,
    columns: readonly FeatureColumn[],
    options: FeatureTableOptions & { ignored?: readonly IgnoredColumn[] } = {},
  ): FeatureTable {
    return new FeatureTable(options.name ?? 'table', ids, columns, options.ignored);
  }

  /** In row order; see IdMap.all. */
  get ids(): readonly Id[] {
    return this.#ids.all();
  }

  idOf(row: number): Id {
    return this.#ids.idOf(row);
  }

  get columns(): { readonly name: string; readonly kind: ColumnKind }[] {
    return [...this.#columns.values()].map(({ name, kind }) => ({ name, kind }));
  }

  /** `id` is a column too: a model may embed it, a filter may name it. */
  column(name: string): FeatureColumn | undefined {
    if (name === ID_COLUMN && this.rows > 0) {
      this.#idColumn ??= columnOfIds(this.ids);
      return this.#idColumn;
    }
    return this.#columns.get(name);
  }

  rowOf(id: Id): number | undefined {
    return this.#ids.rowOf(id);
  }

  /** Null for an unknown column, as for a null cell. */
  valueAt(row: number, name: string): FeatureValue {
    const column = this.column(name);
    return column === undefined ? null : valueAt(column, row);
  }

  /** Non-null values of one row; `names` limits them. */
  featuresAt(row: number, names: Iterable<string> = this.#columns.keys()): Features {
    const features: Record<string, FeatureValue> = {};
    for (const name of names) {
      const value = this.valueAt(row, name);
      if (value !== null) features[name] = value;
    }
    return features;
  }

  featuresOf(id: Id): Features | undefined {
    const row = this.rowOf(id);
    return row === undefined ? undefined : this.featuresAt(row);
  }

  /** The same columns in the row order of `ids` (that of the embeddings); ids without a row become nulls. */
  alignTo(ids: readonly Id[]): FeatureTable {
    const rows = Int32Array.from(ids, (id) => this.#ids.rowOf(id) ?? -1);
    return new FeatureTable(this.name, new ListedIds(ids), this.gather(rows), this.ignored);
  }

  /** The columns with row i taken from `rows[i]`; -1 makes nulls. */
  gather(rows: Int32Array): FeatureColumn[] {
    return [...this.#columns.values()].map((column) => gatherColumn(column, rows));
  }

  /** How many of `ids` have a row: a table whose ids are of the other type covers none, which is worth a warning. */
  coverage(ids: readonly Id[]): number {
    return ids.reduce<number>((count, id) => count + (this.#ids.rowOf(id) === undefined ? 0 : 1), 0);
  }
}

/** Ids as a list, for tables that are made in memory. */
class ListedIds implements TableIds {
  readonly size: number;
  #rows: Map<Id, number> | undefined;

  /** With a `table` the ids are looked at now, and one that stands twice is an error of that table. */
  constructor(
    private readonly ids: readonly Id[],
    table?: string,
  ) {
    this.size = ids.length;
    if (table !== undefined) this.#rows = indexOf(ids, table);
  }

  idOf(row: number): Id {
    return this.ids[row]!;
  }

  // Built on first use: an aligned table is addressed by row and mostly needs none.
  rowOf(id: Id): number | undefined {
    this.#rows ??= indexOf(this.ids, 'table');
    return this.#rows.get(id);
  }

  all(): readonly Id[] {
    return this.ids;
  }
}

function indexOf(ids: readonly Id[], table: string): Map<Id, number> {
  const rows = new Map<Id, number>();
  ids.forEach((id, row) => {
    const earlier = rows.get(id);
    if (earlier !== undefined) {
      throw invalidTable(table, `id ${show(id)} stands in row ${earlier} and in row ${row}; keep one of them`, {
        column: ID_COLUMN,
      });
    }
    rows.set(id, row);
  });
  return rows;
}

function columnOfIds(ids: readonly Id[]): FeatureColumn {
  if (ids.every((id) => typeof id === 'number'))
    return { kind: 'number', name: ID_COLUMN, values: Float64Array.from(ids) };
  const codes = new Int32Array(ids.length);
  for (let row = 0; row < codes.length; row++) codes[row] = row;
  const dictionary = ids.every((id) => typeof id === 'string') ? ids : ids.map(String);
  return { kind: 'string', name: ID_COLUMN, codes, dictionary };
}

function idsOf(column: FeatureColumn, name: string): Id[] {
  const bad = (row: number, received: unknown) =>
    invalidTable(
      name,
      `column ${ID_COLUMN}, row ${row}: expected a string or a whole number up to 2^53, received ${show(received)}; correct the export`,
      { column: ID_COLUMN },
    );
  if (column.kind === 'string') {
    return Array.from(column.codes, (code, row) => {
      if (code < 0 || column.dictionary[code] === '') throw bad(row, code < 0 ? null : '');
      return column.dictionary[code]!;
    });
  }
  if (column.kind === 'number') {
    return Array.from(column.values, (value, row) => {
      if (!Number.isSafeInteger(value) || value < 0) throw bad(row, Number.isNaN(value) ? null : value);
      return value;
    });
  }
  throw invalidTable(name, `column ${ID_COLUMN} is a ${column.kind}; expected strings or whole numbers`, {
    column: ID_COLUMN,
  });
}
