/**
 * Runs in a worker thread: reads a feature table, checks it and brings it into the order it is used in. Columns are handed
 * over without a copy; words of their dictionaries are asked for in pieces, since they are made into strings over there.
 */
import { IdMap, type IdMapData } from '../ann/ids.js';
import type { FeatureColumn } from '../features/feature-column.js';
import { FeatureTable } from '../features/feature-table.js';
import type { IgnoredColumn } from '../features/parquet-columns.js';
import { readTable } from '../features/read-table.js';
import { answerQuestions, answerTask } from './worker-task.js';

export interface TableTask {
  readonly path: string;
  /** What messages call the file. */
  readonly name: string;
  /** The order of the rows; without it that of the file. */
  readonly alignTo?: IdMapData;
}

export interface TableReply {
  /** Dictionaries are empty: see `words`. */
  readonly columns: readonly FeatureColumn[];
  /** Of each column, in order; 0 for those without a dictionary. */
  readonly words: readonly number[];
  readonly ignored: readonly IgnoredColumn[];
  /** The ids of the file, where its own order stands. */
  readonly ids?: IdMapData;
}

export interface WordsQuestion {
  readonly column: number;
  readonly start: number;
  readonly end: number;
}

let dictionaries: (readonly string[])[] = [];

await answerTask(
  async ({ path, name, alignTo }: TableTask): Promise<TableReply> => {
    const read = await readTable(path, name);
    const table = FeatureTable.fromColumns(read.columns, { name, ignored: read.ignored });
    const columns = alignTo === undefined ? ownColumns(table) : alignedColumns(table, IdMap.of(alignTo));
    dictionaries = columns.map((column) => ('dictionary' in column ? column.dictionary : []));
    return {
      columns: columns.map((column) => ('dictionary' in column ? { ...column, dictionary: [] } : column)),
      words: dictionaries.map(({ length }) => length),
      ignored: read.ignored,
      ...(alignTo === undefined ? { ids: IdMap.fromList(table.ids, name).data } : {}),
    };
  },
  ({ columns }) => columns.flatMap(buffersOf),
);
answerQuestions(({ column, start, end }: WordsQuestion) => dictionaries[column]!.slice(start, end));

function ownColumns(table: FeatureTable): FeatureColumn[] {
  return table.columns.map(({ name }) => table.column(name)!);
}

function alignedColumns(table: FeatureTable, ids: IdMap): FeatureColumn[] {
  const rows = new Int32Array(ids.size).fill(-1);
  for (let row = 0; row < table.rows; row++) {
    const to = ids.rowOf(table.idOf(row));
    if (to !== undefined) rows[to] = row;
  }
  return table.gather(rows);
}

function buffersOf(column: FeatureColumn): ArrayBuffer[] {
  return Object.values(column)
    .filter((value) => ArrayBuffer.isView(value))
    .map((view) => view.buffer as ArrayBuffer);
}
