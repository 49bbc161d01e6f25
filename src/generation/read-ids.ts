/** Ids of a file, read in the calling thread. */
import { loadAddon } from '../ann/addon.js';
import { IdMap } from '../ann/ids.js';

/** Errors: BELFRY_DUPLICATE_ID, BELFRY_INVALID_ID, BELFRY_NPY_*. */
export async function readIds(path: string): Promise<IdMap> {
  return path.endsWith('.txt') ? IdMap.fromText(path) : IdMap.fromIntegers(await loadAddon().readIds(path), path);
}
