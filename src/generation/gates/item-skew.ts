/** Whether the item tower, where there is one, reproduces item_embeddings.npy: a shuffled file of items does not. */
import { join } from 'node:path';
import { loadAddon } from '../../ann/addon.js';
import { readRows } from '../../ann/read-rows.js';
import { cosine } from '../../ann/vectors.js';
import { BelfryError } from '../../errors.js';
import type { FeatureTable } from '../../features/feature-table.js';
import type { Manifest } from '../manifest.js';
import { inProduction, type ModelContext, openItemTower } from '../models.js';

const SKEW_ITEMS = 256;

export interface ItemSkew {
  readonly tower: string;
  readonly items: number;
  /** Cosine that nine of ten items reach; a few may have been put with vectors of their own, or lack features. */
  readonly tenth: number;
}

/**
 * Undefined where nothing says how to make vectors of items: no item tower, no declared inputs, no item features. `table`
 * is that of the export, not aligned to the items.
 */
export async function measureItemSkew(
  { folder, rows: models, ...context }: ModelContext,
  { items: section }: Pick<Manifest, 'items'>,
  table: FeatureTable,
): Promise<ItemSkew | undefined> {
  const row = inProduction(models, 'item_tower') ?? inProduction(models, 'user_tower');
  if (row?.inputs === undefined || table.rows === 0) return undefined;
  const skipped = new Set(section.skippedRows);
  const known: number[] = [];
  context.items.ids.forEach((id, item) => {
    if (!skipped.has(item) && table.rowOf(id) !== undefined) known.push(item);
  });
  const count = Math.min(known.length, SKEW_ITEMS);
  if (count === 0) return undefined;
  const chosen = Array.from({ length: count }, (_, i) => known[Math.floor((i * known.length) / count)]!);
  const tower = await openItemTower({ folder, rows: models, ...context }).catch(asNothing);
  if (tower === undefined) return undefined;
  try {
    const made = await tower.embedRows(chosen);
    const stored = await storedRows(join(folder, section.file), chosen);
    const { dims } = section;
    const cosines = chosen.map((_, i) => {
      const part = [i * dims, (i + 1) * dims] as const;
      return cosine(stored.subarray(...part), made.subarray(...part));
    });
    cosines.sort((a, b) => a - b);
    return { tower: `${row.name}@${row.version}`, items: count, tenth: cosines[Math.floor(count / 10)]! };
  } finally {
    await tower.close();
  }
}

async function storedRows(path: string, rows: readonly number[]): Promise<Float32Array> {
  const matrix = await loadAddon().openMatrix(path);
  try {
    return await readRows(matrix, Uint32Array.from(rows));
  } finally {
    matrix.close();
  }
}

/** The file has no item part, or one that cannot be bound: searches do not need it. */
function asNothing(error: unknown): undefined {
  if (error instanceof BelfryError) return undefined;
  throw error;
}
