/** The list that an answer shows: candidates cut, chosen and put in their places. Pure of requests and searches. */
import type { Row } from '../../types.js';
import type { Allowance } from './capping.js';

/** A pinned item, and its place from 1. */
export interface PinnedRow {
  readonly row: Row;
  readonly position: number;
}

/** An item of the answer. */
export interface Placement {
  readonly row: Row;
  /** What the list is ordered by. */
  readonly score: number;
  readonly retrievalScore: number;
  /** From 1; undefined for what the search of the first depth did not return. */
  readonly rank: number | undefined;
  readonly isPinned?: boolean;
}

/** Greedy: one after another, best first, those that the caps leave; O(candidates x groups of one). */
export function takeInOrder(
  candidates: readonly Placement[],
  count: number,
  allowance: Allowance | undefined,
): { readonly taken: Placement[]; readonly refused: number } {
  const taken: Placement[] = [];
  let refused = 0;
  for (const candidate of candidates) {
    if (taken.length === count) break;
    if (allowance === undefined || allowance.take(candidate.row)) taken.push(candidate);
    else refused++;
  }
  return { taken, refused };
}

/** Pinned items at their positions, the others in their order around them; without a gap where those run out. */
export function weave(
  others: readonly Placement[],
  pins: readonly PinnedRow[],
  pinned: readonly Placement[],
): Placement[] {
  const list = [...others];
  // By ascending position, so that each insertion leaves the earlier ones in place.
  for (const [at, { position }] of pins.entries()) list.splice(position - 1, 0, pinned[at]!);
  return list;
}
