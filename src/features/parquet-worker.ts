/** Runs in a worker thread: decodes one Parquet file and hands its columns over. */
import { parentPort, workerData } from 'node:worker_threads';
import { asBelfryError } from '../errors.js';
import type { FeatureColumn } from './feature-column.js';
import { readParquet } from './parquet-columns.js';
import type { ParquetReply, ParquetTask } from './parquet-reader.js';

const { path, file } = workerData as ParquetTask;
try {
  const table = await readParquet(path, file);
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
