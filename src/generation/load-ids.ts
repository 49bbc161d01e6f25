/** Ids of a models folder or of a generation, whichever way they are stored. */
import { basename, join } from 'node:path';
import { IdMap } from '../ann/ids.js';
import { BelfryError } from '../errors.js';
import type { IdsReply, IdsTask } from './ids-worker.js';
import { readIds } from './read-ids.js';
import type { Id } from '../types.js';
import type { Manifest } from './manifest.js';
import { runInWorker, type WorkerOptions } from './worker.js';

/** Fewer ids are read in less time than a worker takes to start, and well under a millisecond. */
const ROWS_IN_PLACE = 1_000;

/** Many ids are read in a worker thread. Errors: BELFRY_DUPLICATE_ID, BELFRY_INVALID_ID, BELFRY_COUNT_MISMATCH, BELFRY_NPY_*. */
export async function loadIds(
  folder: string,
  file: string | undefined,
  count: number,
  vectorsFile: string,
  options: Pick<WorkerOptions, 'isBackground' | 'signal'> = {},
): Promise<IdMap> {
  if (file === undefined) return IdMap.ofRows(count);
  const path = join(folder, file);
  const ids =
    count <= ROWS_IN_PLACE
      ? await readIds(path)
      : IdMap.of(await runInWorker<IdsReply>('generation/ids-worker', { path } satisfies IdsTask, options));
  if (ids.size !== count) {
    throw new BelfryError(
      'BELFRY_COUNT_MISMATCH',
      `${basename(file)} holds ${ids.size} ids and ${basename(vectorsFile)} ${count} rows; export both from the same run`,
      { field: file, limit: count },
    );
  }
  return ids;
}

/** Ids of the export, which models know by their places; upserted items that a build has added come after them. */
export function exportedIds(ids: IdMap, { upserts }: Pick<Manifest, 'upserts'>): () => readonly Id[] {
  const added = upserts?.added ?? 0;
  let exported: readonly Id[] | undefined;
  return () => (exported ??= added === 0 ? ids.all() : ids.all().slice(0, ids.size - added));
}
