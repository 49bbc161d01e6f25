/** Where each item stood before re-ranking and where it stands after: pure arithmetic, drawn by slope-chart.ts. */
import type { Id, RetrievedItem } from './contract.js';

export type Direction = 'up' | 'down' | 'same';

/** Slots count rows from the top of the board; slot `shown` is the divider between the top k and what is below it. */
export interface Line {
  readonly id: Id;
  readonly from: number;
  readonly to: number;
  readonly fromSlot: number;
  readonly toSlot: number;
  readonly direction: Direction;
}

export interface Slope {
  /** Rows of the answer. */
  readonly shown: number;
  /** Items of the answer that retrieval had below the cut, by retrieval rank. */
  readonly entered: readonly RetrievedItem[];
  /** Items that retrieval had above the cut and re-ranking put below it, by their new place. */
  readonly left: readonly { readonly item: RetrievedItem; readonly place: number }[];
  /** Retrieval order of the first `shown` ranks; undefined where it is not known (yet). */
  readonly before: readonly (Id | undefined)[];
  readonly lines: readonly Line[];
  /** Rows on each side: the answer, the divider and the entered ones. */
  readonly slots: number;
}

export function directionOf(from: number, to: number): Direction {
  return from === to ? 'same' : from > to ? 'up' : 'down';
}

/**
 * `items` is the answer in its new order. `full`, when it is there, is the same request answered down to the last
 * candidate: it knows who left the top, and where to.
 */
export function slopeOf(items: readonly RetrievedItem[], full?: readonly RetrievedItem[]): Slope {
  const shown = items.length;
  const before: (Id | undefined)[] = new Array<Id | undefined>(shown).fill(undefined);
  for (const item of items) if (item.retrieval_rank <= shown) before[item.retrieval_rank - 1] = item.id;
  const entered = items
    .filter((item) => item.retrieval_rank > shown)
    .sort((a, b) => a.retrieval_rank - b.retrieval_rank);

  const answered = new Set(items.map(({ id }) => id));
  const left: { item: RetrievedItem; place: number }[] = [];
  full?.forEach((item, at) => {
    if (item.retrieval_rank > shown || answered.has(item.id)) return;
    before[item.retrieval_rank - 1] = item.id;
    left.push({ item, place: at + 1 });
  });

  const below = shown + 1;
  const lines: Line[] = items.map((item, at) => ({
    id: item.id,
    from: item.retrieval_rank,
    to: at + 1,
    fromSlot: item.retrieval_rank <= shown ? item.retrieval_rank - 1 : below + entered.indexOf(item),
    toSlot: at,
    direction: directionOf(item.retrieval_rank, at + 1),
  }));
  left.forEach(({ item, place }, at) => {
    const from = item.retrieval_rank;
    lines.push({ id: item.id, from, to: place, fromSlot: from - 1, toSlot: below + at, direction: 'down' });
  });
  return { shown, entered, left, before, lines, slots: entered.length === 0 ? shown : below + entered.length };
}

export function countMoves(items: readonly RetrievedItem[]): Readonly<Record<Direction, number>> {
  const counts = { up: 0, down: 0, same: 0 };
  items.forEach((item, at) => {
    counts[directionOf(item.retrieval_rank, at + 1)]++;
  });
  return counts;
}
