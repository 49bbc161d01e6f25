/** Ids of a models folder or of a generation, whichever way they are stored. */
import { basename, join } from 'node:path';
import { loadAddon } from '../ann/addon.js';
import { IdMap } from '../ann/ids.js';
import { BelfryError } from '../errors.js';

/** Errors: BELFRY_DUPLICATE_ID, BELFRY_INVALID_ID, BELFRY_COUNT_MISMATCH, BELFRY_NPY_*. */
export async function loadIds(
  folder: string,
  file: string | undefined,
  count: number,
  vectorsFile: string,
): Promise<IdMap> {
  if (file === undefined) return IdMap.ofRows(count);
  const path = join(folder, file);
  const ids = file.endsWith('.txt')
    ? await IdMap.fromText(path)
    : IdMap.fromIntegers(await loadAddon().readIds(path), path);
  if (ids.size !== count) {
    throw new BelfryError(
      'BELFRY_COUNT_MISMATCH',
      `${basename(file)} holds ${ids.size} ids and ${basename(vectorsFile)} ${count} rows; export both from the same run`,
      { field: file, limit: count },
    );
  }
  return ids;
}
