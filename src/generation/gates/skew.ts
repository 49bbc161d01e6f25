/**
 * The build's check of the models: they load, their bindings fit, and the towers reproduce what the export says its users
 * and items look like. A tower of another training has the same shapes and names; only its behaviour tells.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { loadAddon } from '../../ann/addon.js';
import type { IdMap } from '../../ann/ids.js';
import { cosine } from '../../ann/vectors.js';
import { FeatureTable } from '../../features/feature-table.js';
import { exportedIds, loadIds } from '../load-ids.js';
import type { Manifest, VectorSection } from '../manifest.js';
import { type ModelContext, type OpenModels, openModels } from '../models.js';
import { recordTower, type RecordedTower } from './canaries.js';
import type { Gatekeeper } from './gate.js';
import { type ItemSkew, measureItemSkew } from './item-skew.js';
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
  const itemTable = await tableOf(manifest.itemFeatures);
  const items = itemTable.alignTo(itemIds.all());
  const section = manifest.users;
  const userIds = section && (await loadIds(folder, section.idsFile, section.count, section.file));
  const context: ModelContext = {
    folder,
    rows: manifest.models,
    dims: manifest.items.dims,
    users,
    items,
    itemIds: exportedIds(itemIds, manifest),
    userIds: () => userIds?.all() ?? users.ids,
    hasChangedItems: manifest.upserts !== undefined,
  };
  const models = await openModels(context);
  try {
    const { tower } = models;
    const ofUsers = await measureUserSkew({ folder, section, userIds, models, users });
    const ofItems = await measureItemSkew(context, manifest, itemTable);
    judge(ofUsers, ofItems, gates, limits);
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

interface UserSkew {
  readonly tower: string;
  readonly users: number;
  readonly least: number;
  readonly mean: number;
  /** Row of the least. */
  readonly row: number;
}

/** A sentence where nothing can be measured. */
async function measureUserSkew({
  folder,
  section,
  userIds,
  models: { tower, towerProblem },
  users,
}: {
  readonly folder: string;
  readonly section: VectorSection | undefined;
  readonly userIds: IdMap | undefined;
  readonly models: OpenModels;
  readonly users: FeatureTable;
}): Promise<UserSkew | string> {
  if (tower === undefined) return towerProblem ?? 'the folder has no user tower';
  if (section === undefined || userIds === undefined) return 'the export has no user embeddings';
  if (users.rows === 0) return 'the export has no features/users.parquet';
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
  if (stored.length === 0) return 'no user of features/users.parquet is in user_ids';

  const expected = await readRows(join(folder, section.file), stored);
  const actual = (await tower.embedRows(tableRows)).data;
  const { dims } = section;
  const cosines = stored.map((_, i) => {
    const part = [i * dims, (i + 1) * dims] as const;
    return cosine(expected.subarray(...part), actual.subarray(...part));
  });
  const least = Math.min(...cosines);
  const mean = cosines.reduce((sum, one) => sum + one, 0) / cosines.length;
  return { tower: tower.name, users: stored.length, least, mean, row: stored[cosines.indexOf(least)]! };
}

function judge(
  ofUsers: UserSkew | string,
  ofItems: ItemSkew | undefined,
  gates: Gatekeeper,
  { gate_skew_cosine: min }: GateThresholds,
): void {
  if (typeof ofUsers === 'string' && ofItems === undefined) return gates.skip('skew', ofUsers);
  const users =
    typeof ofUsers === 'string'
      ? { detail: ofUsers, measurements: [] }
      : {
          detail: `${ofUsers.tower} on ${ofUsers.users} users: cosine to user_embeddings.npy mean ${ofUsers.mean.toFixed(4)}, least ${ofUsers.least.toFixed(4)} (row ${ofUsers.row})`,
          measurements: [
            { what: 'least cosine', value: ofUsers.least, min },
            { what: 'mean cosine', value: ofUsers.mean },
          ],
        };
  const items =
    ofItems === undefined
      ? { detail: '', measurements: [] }
      : {
          detail: `; on ${ofItems.items} items: nine of ten have cosine ${ofItems.tenth.toFixed(4)} or more to item_embeddings.npy`,
          measurements: [{ what: 'cosine of items, lowest tenth', value: ofItems.tenth, min }],
        };
  gates.judge('skew', {
    detail: `${users.detail}${items.detail}`,
    measurements: [...users.measurements, ...items.measurements],
    cure: 'the tower and the embeddings are of different trainings or features, export both again',
    field: typeof ofUsers === 'string' ? ofItems!.tower : ofUsers.tower,
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
