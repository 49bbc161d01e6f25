/** Maximal marginal relevance on item vectors, on the core's pool: native/index/mmr.hpp. */
import { loadAddon } from '../../ann/addon.js';
import type { Pass } from '../pass.js';
import type { Capping } from './capping.js';
import type { Placement } from './listing.js';

/** Time kept back for writing the answer. */
const RESERVE_MS = 3;
/** The bound of `NativeAddon.chooseDiverse`. */
const CANDIDATES = 16_384;

/**
 * `count` of the candidates, best first; `pinned` are in the list already, and what is like them counts as such. Undefined
 * when the time was not enough: O(count x candidates x dims).
 */
export async function chooseDiverse(
  { view, deadline }: Pass,
  diversity: number,
  pinned: readonly Placement[],
  candidates: readonly Placement[],
  count: number,
  capping: Capping | undefined,
): Promise<readonly Placement[] | undefined> {
  const all = [...pinned, ...candidates].slice(0, CANDIDATES);
  const rows = Uint32Array.from(all, ({ row }) => row);
  try {
    const order = await loadAddon().chooseDiverse({
      ...view.vectorRows(rows),
      relevance: Float32Array.from(all, ({ score }) => score),
      diversity,
      k: count,
      chosen: pinned.length,
      ...(capping === undefined ? {} : { caps: capping.ofRows(rows) }),
      deadlineMs: deadline.remainingMs - RESERVE_MS,
    });
    return Array.from(order, (at) => all[at]!);
  } catch (error) {
    if ((error as { code?: string }).code === 'BELFRY_DEADLINE_EXCEEDED') return undefined;
    throw error;
  }
}
