/** Pins: items at fixed places. They pass by scores and caps, never by what a request may not be answered with. */
import { scoreOf } from '../../ann/vectors.js';
import type { Id, Row } from '../../types.js';
import type { Pass } from '../pass.js';
import type { Query } from '../query-vector.js';
import type { Selected } from '../search-stage.js';
import type { PinnedRow } from './listing.js';
import type { Pin } from './rules.js';

export interface Pinned {
  readonly rows: readonly PinnedRow[];
  /** Items that do not exist, or that the filter or an exclusion forbids. */
  readonly leftOut: readonly Id[];
}

/** Pins past the end of the list are none of this request. */
export function resolvePins({ request, view }: Pass, pins: readonly Pin[], { filter, exclude }: Selected): Pinned {
  const rows: PinnedRow[] = [];
  const leftOut: Id[] = [];
  for (const { id, position } of pins) {
    if (position > request.k) continue;
    const row = view.rowOf(id);
    const isAllowed =
      row !== undefined &&
      !exclude.includes(row) &&
      (filter === undefined || view.allows(filter, Uint32Array.of(row))[0] === 1);
    if (isAllowed) rows.push({ row, position });
    else leftOut.push(id);
  }
  return { rows, leftOut };
}

/** Retrieval scores of rows that no search returned. */
export async function scoreRows({ view }: Pass, { vector }: Query, rows: readonly Row[]): Promise<Float32Array> {
  const { dims, metric } = view.generation.index.info;
  const values = await view.readVectors(Uint32Array.from(rows));
  return Float32Array.from(rows, (_, at) => scoreOf(metric, vector, values.subarray(at * dims, (at + 1) * dims)));
}
