/**
 * The build's check of the models: they load, their bindings fit, and the user tower reproduces what the export says
 * its users look like. A tower of another training has the same shapes and names; only its behaviour tells.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { loadAddon } from '../../ann/addon.js';
import type { IdMap } from '../../ann/ids.js';
import { cosine } from '../../ann/vectors.js';
import { FeatureTable } from '../../features/feature-table.js';
import type { UserTower } from '../../tower/user-tower.js';
import { exportedIds, loadIds } from '../load-ids.js';
import type { Manifest, VectorSection } from '../manifest.js';
import { openModels } from '../models.js';
import { recordTower, type RecordedTower } from './canaries.js';
import type { Gatekeeper } from './gate.js';
import type { GateThresholds } from './thresholds.js';

/** Users whose stored row is compared with what the tower makes of their features. */
const SKEW_USERS = 256;

export interface CheckedModels {
  /** What the tower made of some users, for the canaries. */
  readonly tower?: RecordedTower;
  /** SHA-256 over names and kinds of the feature columns and the bindings of all models. */
  readonly featureSchema: string;
}

/** Errors: those of openModels, and BELFRY_SKEW. */
export async function checkModels(
  folder: string,
  manifest: Pick<Manifest, 'items' | 'users' | 'itemFeatures' | 'userFeatures' | 'upserts' | 'models'>,
  gates: Gatekeeper,
  limits: GateThresholds,
): Promise<CheckedModels> {
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
    itemIds: exportedIds(itemIds, manifest),
    userIds: () => userIds?.all() ?? users.ids,
  });
  try {
    const { tower } = models;
    if (tower === undefined) gates.skip('skew', models.towerProblem ?? 'the folder has no user tower');
    else if (section === undefined || userIds === undefined) gates.skip('skew', 'the export has no user embeddings');
    else if (users.rows === 0) gates.skip('skew', 'the export has no features/users.parquet');
    else await checkSkew({ folder, section, userIds, tower, users, gates, limits });
    const recorded = tower && (await recordTower(tower, users));
    const featureSchema = hashOf({
      users: users.columns,
      items: items.columns,
      bindings: manifest.models.map(({ name, version, inputs, output }) => ({ name, version, inputs, output })),
    });
    return { featureSchema, ...(recorded === undefined ? {} : { tower: recorded }) };
  } finally {
    await Promise.all([models.tower?.close(), ...models.rerankers.map((reranker) => reranker.close())]);
  }
}

interface SkewCheck {
  readonly folder: string;
  readonly section: VectorSection;
  readonly userIds: IdMap;
  readonly tower: UserTower;
  readonly users: FeatureTable;
  readonly gates: Gatekeeper;
  readonly limits: GateThresholds;
}

async function checkSkew({ folder, section, userIds, tower, users, gates, limits }: SkewCheck): Promise<void> {
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
  if (stored.length === 0) return gates.skip('skew', 'no user of features/users.parquet is in user_ids');

  const expected = await readRows(join(folder, section.file), stored);
  const actual = (await tower.embedRows(tableRows)).data;
  const { dims } = section;
  const cosines = stored.map((_, i) => {
    const part = [i * dims, (i + 1) * dims] as const;
    return cosine(expected.subarray(...part), actual.subarray(...part));
  });
  const least = Math.min(...cosines);
  const mean = cosines.reduce((sum, one) => sum + one, 0) / cosines.length;
  gates.judge('skew', {
    detail: `${tower.name} on ${stored.length} users: cosine to user_embeddings.npy mean ${mean.toFixed(4)}, least ${least.toFixed(4)} (row ${stored[cosines.indexOf(least)]})`,
    measurements: [
      { what: 'least cosine', value: least, min: limits.gate_skew_cosine },
      { what: 'mean cosine', value: mean },
    ],
    cure: 'the tower and the embeddings are of different trainings or features, export both again',
    field: tower.name,
  });
}

async function readRows(path: string, rows: readonly number[]): Promise<Float32Array> {
  const matrix = await loadAddon().openMatrix(path);
  try {
    return matrix.readRows(Uint32Array.from(rows));
  } finally {
    matrix.close();
  }
}

function hashOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}
