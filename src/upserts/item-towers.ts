/**
 * The item tower of each generation, opened when its first features come. It must reproduce item_embeddings.npy: a tower
 * of another training makes vectors of the right shape that mean nothing beside the others.
 */
import { readRows } from '../ann/read-rows.js';
import { asBelfryError, BelfryError } from '../errors.js';
import { DEFAULTS } from '../config/schema.js';
import type { Generation } from '../generation/generation.js';
import { openItemTower } from '../generation/models.js';
import type { ItemTower } from '../tower/item-tower.js';
import type { Features, Id } from '../types.js';
import { checkItemVector } from './check-item.js';

const SKEW_COSINE_MIN = DEFAULTS.gate_skew_cosine;
/** Items whose stored vector is compared with what the tower makes of their features. */
const CHECKED_ITEMS = 64;

export class ItemTowers {
  private readonly towers = new Map<Generation, Promise<ItemTower>>();

  /**
   * The vector of an item, checked as one that was sent. Errors: BELFRY_NO_ITEM_TOWER, BELFRY_INVALID_FEATURES,
   * BELFRY_INVALID_ITEM_VECTOR, BELFRY_MODEL_FAILED, BELFRY_OVERLOADED.
   */
  async embed(generation: Generation, id: Id, features: Features): Promise<Float32Array> {
    const tower = await this.of(generation);
    return checkItemVector(await tower.embed({ ...features, id }), generation);
  }

  async close(): Promise<void> {
    for (const opening of this.towers.values()) await close(opening);
    this.towers.clear();
  }

  private of(generation: Generation): Promise<ItemTower> {
    const known = this.towers.get(generation);
    if (known !== undefined) return known;
    const opening = open(generation);
    this.towers.set(generation, opening);
    generation.whenClosed(() => {
      this.towers.delete(generation);
      return close(opening);
    });
    return opening;
  }
}

async function close(opening: Promise<ItemTower>): Promise<void> {
  await (await opening.catch(() => undefined))?.close(); // one that failed to open has told its caller
}

async function open(generation: Generation): Promise<ItemTower> {
  const none = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_NO_ITEM_TOWER', `features: ${why}; send an embedding`, { field: 'features', cause });
  let tower: ItemTower | undefined;
  try {
    tower = await openItemTower(generation.modelContext);
  } catch (error) {
    throw none(`the item tower cannot be used: ${asBelfryError(error).message}`, error);
  }
  if (tower === undefined)
    throw none('the models folder has no item_tower.onnx and no two_tower.onnx with an item part');
  try {
    const worst = await leastCosine(generation, tower);
    if (worst >= SKEW_COSINE_MIN) return tower;
    throw none(
      `${tower.name} does not reproduce item_embeddings.npy (least cosine ${worst.toFixed(4)}, expected ${SKEW_COSINE_MIN}): it is of another training or other features`,
    );
  } catch (error) {
    await tower.close();
    throw error;
  }
}

/** Over items spread over the rows; 1 where the export has no item features to compare by. */
async function leastCosine(generation: Generation, tower: ItemTower): Promise<number> {
  const { items, itemTable, manifest, skippedItems } = generation;
  if (manifest.itemFeatures === undefined || itemTable.columns.length === 0) return 1;
  const count = Math.min(items.rows, CHECKED_ITEMS);
  const rows = Array.from({ length: count }, (_, i) => Math.floor((i * items.rows) / count)).filter(
    (row) => !skippedItems.has(row),
  );
  const [stored, made] = [await readRows(items, Uint32Array.from(rows)), await tower.embedRows(rows)];
  let least = 1;
  for (let at = 0; at < rows.length; at++) {
    let [dot, aa, bb] = [0, 0, 0];
    for (let i = at * items.dims; i < (at + 1) * items.dims; i++) {
      dot += stored[i]! * made[i]!;
      aa += stored[i]! ** 2;
      bb += made[i]! ** 2;
    }
    least = Math.min(least, aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb));
  }
  return least;
}
