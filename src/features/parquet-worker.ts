/** Runs in a worker thread: decodes one feature table and hands its columns over. */
import { parentPort, workerData } from 'node:worker_threads';
import { asBelfryError, type ErrorCode } from '../errors.js';
import type { FeatureColumn } from './feature-column.js';
import type { ParquetColumns } from './parquet-columns.js';
import { readTable } from './read-table.js';

export interface ParquetTask {
  readonly path: string;
  readonly file: string;
}

export type ParquetReply =
  | { readonly table: ParquetColumns }
  | { readonly failure: { readonly code: ErrorCode; readonly message: string; readonly field?: string } };

const { path, file } = workerData as ParquetTask;
try {
  const table = await readTable(path, file);
  post({ table }, table.columns.flatMap(buffersOf));
} catch (error) {
  const { code, message, field } = asBelfryError(error);
  post({ failure: { code, message, ...(field === undefined ? {} : { field }) } }, []);
}

function post(reply: ParquetReply, buffers: ArrayBuffer[]): void {
  parentPort!.postMessage(reply, buffers);
}

function buffersOf(column: FeatureColumn): ArrayBuffer[] {
  return Object.values(column)
    .filter((value) => ArrayBuffer.isView(value))
    .map((view) => view.buffer as ArrayBuffer);
}
