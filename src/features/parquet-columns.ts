/**
 * Parquet → feature columns, one column at a time, so that the peak is one decoded column and not the whole file as
 * objects. The file is user input: what its header claims is bounded before it is believed.
 */
import {
  asyncBufferFromFile,
  type FileMetaData,
  parquetMetadataAsync,
  parquetRead,
  parquetSchema,
  type SchemaTree,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { BelfryError, show } from '../errors.js';
import { type ColumnKind, Dictionary, type FeatureColumn } from './feature-column.js';

export const PARQUET_LIMITS = {
  /** Rows of one table: codes and offsets are 32-bit. */
  rowsMax: 200_000_000,
  columnsMax: 2_000,
  /** One decompressed page; writers make pages of about 1 MiB. */
  pageBytesMax: 256 * 1024 * 1024,
} as const;

export interface IgnoredColumn {
  readonly name: string;
  readonly reason: string;
}

export interface ParquetColumns {
  readonly columns: readonly FeatureColumn[];
  readonly rows: number;
  /** Columns of a type that cannot be a feature (maps, structs, nested lists, raw bytes, times of day). */
  readonly ignored: readonly IgnoredColumn[];
}

interface Plan {
  readonly name: string;
  readonly kind: ColumnKind;
  readonly isTime: boolean;
}

/** `file` is what messages call the table. */
export async function readParquet(path: string, file: string): Promise<ParquetColumns> {
  let buffer: Awaited<ReturnType<typeof asyncBufferFromFile>>;
  try {
    buffer = await asyncBufferFromFile(path);
  } catch (error) {
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `${file}: ${(error as Error).message}`, {
      field: file,
      cause: error,
    });
  }
  const metadata = await guarded(file, 'its footer', () => parquetMetadataAsync(buffer));
  const rows = checkMetadata(metadata, file, buffer.byteLength);
  const { plans, ignored } = planColumns(parquetSchema(metadata), file);
  const columns: FeatureColumn[] = [];
  for (const plan of plans) {
    const chunks: { rowStart: number; data: ArrayLike<unknown> }[] = [];
    await guarded(file, `column ${plan.name}`, () =>
      parquetRead({
        file: buffer,
        metadata,
        columns: [plan.name],
        compressors: boundedCompressors,
        // A JSON column is a string to us.
        parsers: { jsonFromBytes: (bytes: Uint8Array) => bytes && new TextDecoder().decode(bytes) },
        geoparquet: false,
        onChunk: ({ rowStart, columnData }) => chunks.push({ rowStart, data: columnData as ArrayLike<unknown> }),
      }),
    );
    chunks.sort((a, b) => a.rowStart - b.rowStart);
    const found = chunks.reduce((sum, chunk) => sum + chunk.data.length, 0);
    if (found !== rows)
      throw invalidTable(file, `column ${plan.name} has ${found} rows, the footer says ${rows}; write the file again`);
    columns.push(buildColumn(plan, rows, cellsOf(chunks), file));
  }
  return { columns, rows, ignored };
}

export function invalidTable(
  file: string,
  reason: string,
  details: { cause?: unknown; column?: string } = {},
): BelfryError {
  return new BelfryError('BELFRY_FEATURES_INVALID', `${file}: ${reason}`, {
    field: details.column === undefined ? file : `${file}:${details.column}`,
    ...(details.cause === undefined ? {} : { cause: details.cause }),
  });
}

async function guarded<T>(file: string, what: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw invalidTable(
      file,
      `${what} cannot be read as Parquet: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}

const boundedCompressors = Object.fromEntries(
  Object.entries(compressors).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, outputBytes: number): Uint8Array => {
      if (!(outputBytes >= 0 && outputBytes <= PARQUET_LIMITS.pageBytesMax)) {
        throw new Error(`a page of ${outputBytes} bytes is over the limit of ${PARQUET_LIMITS.pageBytesMax}`);
      }
      return decompress!(input, outputBytes);
    },
  ]),
);

function checkMetadata(metadata: FileMetaData, file: string, fileBytes: number): number {
  const rows = Number(metadata.num_rows);
  if (!(rows >= 0 && rows <= PARQUET_LIMITS.rowsMax)) {
    throw invalidTable(file, `it says ${rows} rows; expected 0 to ${PARQUET_LIMITS.rowsMax}`);
  }
  for (const group of metadata.row_groups) {
    for (const column of group.columns) {
      const meta = column.meta_data;
      if (column.file_path) throw invalidTable(file, 'its columns lie in other files; write one self-contained file');
      if (meta === undefined)
        throw invalidTable(file, 'a column chunk has no metadata; encrypted files are not supported');
      const start = Number(meta.dictionary_page_offset ?? meta.data_page_offset);
      if (!(start >= 0 && start + Number(meta.total_compressed_size) <= fileBytes)) {
        throw invalidTable(
          file,
          `column ${meta.path_in_schema.join('.')} lies past the end of the file; copy it again`,
        );
      }
    }
  }
  return rows;
}

function planColumns(schema: SchemaTree, file: string): { plans: Plan[]; ignored: IgnoredColumn[] } {
  if (schema.children.length > PARQUET_LIMITS.columnsMax) {
    throw invalidTable(file, `it has ${schema.children.length} columns; expected at most ${PARQUET_LIMITS.columnsMax}`);
  }
  const plans: Plan[] = [];
  const ignored: IgnoredColumn[] = [];
  for (const node of schema.children) {
    const { name } = node.element;
    if (plans.some((plan) => plan.name === name))
      throw invalidTable(file, `column ${name} stands twice`, { column: name });
    const leaf = listLeaf(node) ?? node;
    const isList = leaf !== node || node.element.repetition_type === 'REPEATED';
    const scalar = leaf.children.length > 0 ? null : scalarKind(leaf);
    if (scalar === null || (isList && scalar === 'boolean')) {
      ignored.push({ name, reason: 'not a string, number, boolean, or list of strings or numbers' });
      continue;
    }
    const kind = isList ? (scalar === 'number' ? 'number_list' : 'string_list') : scalar === 'time' ? 'string' : scalar;
    plans.push({ name, kind, isTime: scalar === 'time' });
  }
  return { plans, ignored };
}

/** `optional group tags (LIST) { repeated group list { optional element } }`, or the older two-level form. */
function listLeaf(node: SchemaTree): SchemaTree | null {
  const isList = node.element.converted_type === 'LIST' || node.element.logical_type?.type === 'LIST';
  const repeated = node.children[0];
  if (!isList || repeated === undefined || node.children.length !== 1) return null;
  if (repeated.children.length === 0) return repeated;
  return repeated.children.length === 1 && repeated.children[0]!.children.length === 0 ? repeated.children[0]! : null;
}

function scalarKind({ element }: SchemaTree): 'number' | 'boolean' | 'string' | 'time' | null {
  const { type, converted_type: converted, logical_type: logical } = element;
  if (
    converted === 'DATE' ||
    converted?.startsWith('TIMESTAMP') ||
    logical?.type === 'DATE' ||
    logical?.type === 'TIMESTAMP' ||
    type === 'INT96'
  )
    return 'time';
  if (converted?.startsWith('TIME') || logical?.type === 'TIME' || converted === 'INTERVAL' || converted === 'BSON')
    return null;
  if (converted === 'DECIMAL' || logical?.type === 'FLOAT16') return 'number';
  if (type === 'BOOLEAN') return 'boolean';
  if (type === 'INT32' || type === 'INT64' || type === 'FLOAT' || type === 'DOUBLE') return 'number';
  if (type === 'BYTE_ARRAY' || logical?.type === 'UUID') return 'string';
  return null;
}

function* cellsOf(chunks: readonly { data: ArrayLike<unknown> }[]): Generator<unknown> {
  for (const { data } of chunks) for (let i = 0; i < data.length; i++) yield data[i];
}

function buildColumn(
  { name, kind, isTime }: Plan,
  rows: number,
  cells: Iterable<unknown>,
  file: string,
): FeatureColumn {
  const dictionary = new Dictionary();
  let row = 0;
  const bad = (expected: string, received: unknown): BelfryError =>
    invalidTable(
      file,
      `column ${name}, row ${row}: expected ${expected}, received ${show(received)}; correct the export`,
      { column: name },
    );
  const number = (cell: unknown): number => {
    if (cell === null || cell === undefined) return Number.NaN;
    const value = Number(cell);
    if (typeof cell === 'bigint' && !Number.isSafeInteger(value))
      throw bad('an integer up to 2^53 (write larger ones as strings)', cell);
    if (value === Number.POSITIVE_INFINITY || value === Number.NEGATIVE_INFINITY)
      throw bad('a finite number or null', cell);
    return value;
  };
  const code = (cell: unknown): number => {
    if (isTime && cell instanceof Date)
      return dictionary.encode(Number.isNaN(cell.getTime()) ? 'invalid' : cell.toISOString());
    if (typeof cell !== 'string') throw bad('a string', cell);
    return dictionary.encode(cell);
  };
  if (kind === 'number') {
    const values = new Float64Array(rows);
    for (const cell of cells) {
      values[row] = number(cell);
      row++;
    }
    return { kind, name, values };
  }
  if (kind === 'boolean') {
    const values = new Uint8Array(rows);
    for (const cell of cells) values[row++] = cell === null || cell === undefined ? 2 : cell ? 1 : 0;
    return { kind, name, values };
  }
  if (kind === 'string') {
    const codes = new Int32Array(rows);
    for (const cell of cells) {
      codes[row] = cell === null || cell === undefined ? -1 : code(cell);
      row++;
    }
    return { kind, name, codes, dictionary: dictionary.values };
  }
  const offsets = new Uint32Array(rows + 1);
  const entries: number[] = [];
  for (const cell of cells) {
    // Entries that are null inside a list carry nothing: they are dropped.
    for (const entry of (cell ?? []) as Iterable<unknown>) {
      if (entry !== null && entry !== undefined) entries.push(kind === 'string_list' ? code(entry) : number(entry));
    }
    offsets[++row] = entries.length;
  }
  return kind === 'string_list'
    ? { kind, name, offsets, codes: Int32Array.from(entries), dictionary: dictionary.values }
    : { kind, name, offsets, values: Float64Array.from(entries) };
}
