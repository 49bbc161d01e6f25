/** What a user has: a list of items in the user's features. */
import type { Features, FeatureValue, Id, Row } from '../types.js';
import type { Generation } from './generation.js';

/** Whatever knows the rows of items: the ids of a generation, or a view with its changes. */
export interface ItemRows {
  rowOf(id: Id): Row | undefined;
}

/** Columns that list what a user has, best first. */
export const SEEN_COLUMNS: readonly string[] = ['seen', 'history'];

/** Items of the user's history, and whether some of its names are no items. */
export function historyOf(features: Features, items: ItemRows): { seen: Uint32Array; hasUnknown: boolean } {
  return itemsOf((name) => features[name], items);
}

/** The history that the users table holds of a user; empty without one. */
export function storedHistory(id: Id, { userTable }: Generation, items: ItemRows): Uint32Array {
  const row = userTable.rowOf(id);
  return row === undefined ? new Uint32Array(0) : itemsOf((name) => userTable.valueAt(row, name), items).seen;
}

function itemsOf(
  valueOf: (column: string) => FeatureValue | undefined,
  items: ItemRows,
): { seen: Uint32Array; hasUnknown: boolean } {
  const ids = SEEN_COLUMNS.map(valueOf).find((value) => Array.isArray(value)) as readonly Id[] | undefined;
  const rows: Row[] = [];
  for (const id of ids ?? []) {
    const row = items.rowOf(id);
    if (row !== undefined) rows.push(row);
  }
  return { seen: Uint32Array.from(rows), hasUnknown: rows.length < (ids?.length ?? 0) };
}
