/**
 * The build's check of the models: they load, their bindings fit, and the user tower reproduces what the export says
 * its users look like. A tower of another training has the same shapes and names; only its behaviour tells.
 */
import { join } from 'node:path';
import { loadAddon } from '../ann/addon.js';
import type { IdMap } from '../ann/ids.js';
import { BelfryError } from '../errors.js';
import { FeatureTable } from '../features/feature-table.js';
import type { UserTower } from '../tower/user-tower.js';
import { loadIds } from './load-ids.js';
import type { CheckResult, Manifest } from './manifest.js';
import { openModels } from './models.js';

/** Users whose stored row is compared with what the tower makes of their features. */
const SKEW_USERS = 256;
export const SKEW_COSINE_MIN = 0.99;

/** Errors: those of openModels, and BELFRY_SKEW. */
export async function checkModels(folder: string, manifest: Manifest): Promise<CheckResult> {
  const itemIds = await loadIds(folder, manifest.items.idsFile, manifest.items.count, manifest.items.file);
  const tableOf = (file: string | undefined) =>
    FeatureTable.open(file === undefined ? undefined : join(folder, file), file === undefined ? {} : { name: file });
  const users = await tableOf(manifest.userFeatures);
  const items = (await tableOf(manifest.itemFeatures)).alignTo(itemIds.all());
  const section = manifest.users;
  const userIds = section && (await loadIds(folder, section.idsFile, section.count, section.file));
  const models = await openModels({
    folder,
    rows: manifest.models,
    dims: manifest.items.dims,
    users,
    items,
    itemIds: () => itemIds.all(),
    userIds: () => userIds?.all() ?? users.ids,
  });
  try {
    if (models.tower === undefined) return notChecked(models.towerProblem ?? 'the folder has no user tower');
    if (section === undefined || userIds === undefined) return notChecked('the export has no user embeddings');
    if (users.rows === 0) return notChecked('the export has no features/users.parquet');
    return await checkSkew(folder, section, userIds, models.tower, users);
  } finally {
    await Promise.all([models.tower?.close(), ...models.rerankers.map((reranker) => reranker.close())]);
  }
}

async function checkSkew(
  folder: string,
  section: NonNullable<Manifest['users']>,
  userIds: IdMap,
  tower: UserTower,
  users: FeatureTable,
): Promise<CheckResult> {
  const skipped = new Set(section.skippedRows);
  // Both first, then spread: the table may hold many users, few of whom have a vector.
  const both: { vectorRow: number; tableRow: number }[] = [];
  users.ids.forEach((id, tableRow) => {
    const vectorRow = userIds.rowOf(id);
    if (vectorRow !== undefined && !skipped.has(vectorRow)) both.push({ vectorRow, tableRow });
  });
  const chosen = Array.from(
    { length: Math.min(both.length, SKEW_USERS) },
    (_, i) => both[Math.floor((i * both.length) / Math.min(both.length, SKEW_USERS))]!,
  );
  const stored = chosen.map(({ vectorRow }) => vectorRow);
  const tableRows = chosen.map(({ tableRow }) => tableRow);
  if (stored.length === 0) return notChecked('no user of features/users.parquet is in user_ids');

  const expected = await readRows(join(folder, section.file), stored);
  const actual = (await tower.embedRows(tableRows)).data;
  let worst = 1;
  let worstRow = 0;
  let sum = 0;
  for (let i = 0; i < stored.length; i++) {
    const cosine = cosineOf(expected, actual, i, section.dims);
    sum += cosine;
    if (cosine < worst) [worst, worstRow] = [cosine, stored[i]!];
  }
  const detail = `${tower.name} on ${stored.length} users: cosine to user_embeddings.npy mean ${(sum / stored.length).toFixed(4)}, least ${worst.toFixed(4)} (row ${worstRow})`;
  if (worst < SKEW_COSINE_MIN) {
    throw new BelfryError(
      'BELFRY_SKEW',
      `${detail}; at least ${SKEW_COSINE_MIN} is expected: the tower and the embeddings are of different trainings or features, export both again`,
      {
        field: tower.name,
        limit: SKEW_COSINE_MIN,
      },
    );
  }
  return { name: 'skew', status: 'passed', detail, value: worst, threshold: SKEW_COSINE_MIN };
}

async function readRows(path: string, rows: readonly number[]): Promise<Float32Array> {
  const matrix = await loadAddon().openMatrix(path);
  try {
    return matrix.readRows(Uint32Array.from(rows));
  } finally {
    matrix.close();
  }
}

function cosineOf(a: Float32Array, b: Float32Array, row: number, dims: number): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = row * dims; i < (row + 1) * dims; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return aa === 0 && bb === 0 ? 1 : dot / (Math.sqrt(aa * bb) || 1);
}

function notChecked(detail: string): CheckResult {
  return { name: 'skew', status: 'not_checked', detail };
}
