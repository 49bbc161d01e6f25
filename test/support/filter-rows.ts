import type { NativeFilter } from '../../src/ann/addon.js';

/** The rows that an evaluated filter admits. */
export function rowsOf(filter: NativeFilter): number[] {
  const bytes = filter.toBytes();
  return Array.from({ length: filter.rows }, (_, row) => row).filter((row) => (bytes[row >> 3]! >> (row & 7)) & 1);
}
