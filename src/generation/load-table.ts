/** Feature tables of a generation, read, checked and ordered in a worker thread: a million rows hold up no request. */
import { IdMap } from '../ann/ids.js';
import type { FeatureColumn } from '../features/feature-column.js';
import { FeatureTable, type TableIds } from '../features/feature-table.js';
import { invalidTable } from '../features/parquet-columns.js';
import { PARQUET_READER_DEFAULTS } from '../features/parquet-reader.js';
import type { TableReply, TableTask, WordsQuestion } from './table-worker.js';
import { withWorker, type WorkerOptions } from './worker.js';

/** Words that are made into strings between two turns of the event loop. */
const WORDS_AT_ONCE = 4_096;

/**
 * In the order of `alignTo`, where ids without a row become nulls; without it in the order of the file. Errors:
 * BELFRY_FEATURES_INVALID, BELFRY_FILE_UNREADABLE.
 */
export function loadTable(
  path: string,
  name: string,
  alignTo: IdMap | undefined,
  options: Pick<WorkerOptions, 'isBackground' | 'signal'> = {},
): Promise<FeatureTable> {
  const task: TableTask = { path, name, ...(alignTo === undefined ? {} : { alignTo: alignTo.data }) };
  const limits = {
    ...PARQUET_READER_DEFAULTS,
    explain: (reason: string, cause?: unknown) =>
      invalidTable(name, `reading it: ${reason}; it is damaged, or larger than the limit allows`, { cause }),
  };
  return withWorker<TableReply, FeatureTable>(
    'generation/table-worker',
    task,
    { ...limits, ...options },
    async ({ columns, words, ignored, ids }, ask) => {
      const whole: FeatureColumn[] = [];
      for (const [at, column] of columns.entries()) {
        if (!('dictionary' in column)) {
          whole.push(column);
          continue;
        }
        const dictionary = new Array<string>(words[at]!);
        for (let start = 0; start < dictionary.length; start += WORDS_AT_ONCE) {
          const question: WordsQuestion = { column: at, start, end: start + WORDS_AT_ONCE };
          for (const [offset, word] of (await ask<string[]>(question)).entries()) dictionary[start + offset] = word;
        }
        whole.push({ ...column, dictionary });
      }
      const order: TableIds = alignTo ?? IdMap.of(ids!);
      return FeatureTable.of(order, whole, { name, ignored });
    },
  );
}
