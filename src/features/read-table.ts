/** A feature table from disk, in either form: a Parquet file, or a folder of `.npy` files. */
import { stat } from 'node:fs/promises';
import { readNpyFolder } from './npy-columns.js';
import { type ParquetColumns, readParquet } from './parquet-columns.js';

/** `name` is what messages call it. Errors: BELFRY_FEATURES_INVALID, BELFRY_FILE_UNREADABLE. */
export async function readTable(path: string, name: string): Promise<ParquetColumns> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false, // the reader says why
  );
  return isFolder ? readNpyFolder(path, name) : readParquet(path, name);
}
