/** Vectors of two trainings have the same shape and mean nothing to each other: which training the items of a generation are of. */
import type { Manifest } from '../generation/manifest.js';
import { runsInProcess } from '../generation/sources.js';

/** The SHA-256 of the item tower's file, else of the user tower's; empty where the export has no tower, and nothing tells. */
export function spaceOf({ models }: Pick<Manifest, 'models'>): string {
  const of = (role: string) => models.find((row) => row.role === role && runsInProcess(row))?.sha256;
  return of('item_tower') ?? of('user_tower') ?? '';
}
