/**
 * Do users like what they liked? A retrained model moves every vector and changes many answers, but an item that a user's
 * model of yesterday put first still scores above most others today. Vectors under wrong ids do not: they score like any
 * others. See docs/decisions/0006-canaries.md for what was measured.
 */
import { spread } from '../../ann/build-graph.js';
import type { IdMap } from '../../ann/ids.js';
import { readRows } from '../../ann/read-rows.js';
import { scoreOf } from '../../ann/vectors.js';
import type { Metric, Row } from '../../types.js';
import { type Canaries, exactAnswers, type RecordedCanary } from './canaries.js';
import type { GateSubject } from './subject.js';

/** Items that those of an answer are compared with. */
const OTHERS = 1000;
/** Fewer requests or items in common are no evidence. */
const REQUESTS_MIN = 20;
const ITEMS_MIN = 50;

export interface Agreement {
  /** Requests of the generation before that could be asked again. */
  readonly requests: number;
  /** Share of pairs (an item answered before, any other item) that the new generation orders the same way; chance is 0.5. */
  readonly pairs: number;
  /** Share of the items answered before that are answered again. */
  readonly kept: number;
}

/** Undefined when too few ids are in common. */
export async function agreement(
  subject: GateSubject,
  { recorded, k }: Canaries,
  metric: Metric,
): Promise<Agreement | undefined> {
  const { items, users, itemIds, userIds, skippedItems, skippedUsers, index } = subject;
  const [matrix, ids, skipped] =
    recorded[0]?.by === 'user' ? [users, userIds, skippedUsers] : [items, itemIds, skippedItems];
  if (matrix === undefined || ids === undefined) return undefined;
  const asked = recorded.flatMap((canary) => {
    const row = ids.rowOf(canary.id);
    const expected = knownRows(canary, itemIds, skippedItems);
    return row === undefined || skipped.has(row) || expected.length === 0 ? [] : [{ row, expected }];
  });
  const others = spread(items.rows, [...skippedItems], Math.min(OTHERS, items.rows - skippedItems.size));
  if (asked.length < REQUESTS_MIN || others.length < ITEMS_MIN) return undefined;

  const { dims } = index.info;
  const queries = await readRows(
    matrix,
    Uint32Array.from(asked, ({ row }) => row),
  );
  const otherVectors = await readRows(items, others);
  const answers = await exactAnswers(index, queries, Math.min(k, others.length), skippedItems);
  let [pairs, kept] = [0, 0];
  for (const [q, { expected }] of asked.entries()) {
    const query = queries.subarray(q * dims, (q + 1) * dims);
    const scores = (vectors: Float32Array): Float64Array =>
      Float64Array.from({ length: vectors.length / dims }, (_, i) =>
        scoreOf(metric, query, vectors.subarray(i * dims, (i + 1) * dims)),
      );
    pairs += shareAbove(scores(await readRows(items, expected)), scores(otherVectors).sort());
    const answered = new Set(answers[q]!.rows);
    kept += expected.filter((row) => answered.has(row)).length / expected.length;
  }
  return { requests: asked.length, pairs: pairs / asked.length, kept: kept / asked.length };
}

/** Items that are still there. An item is always near itself, whatever is wrong. */
function knownRows({ by, id, expect }: RecordedCanary, itemIds: IdMap, skipped: ReadonlySet<Row>): Uint32Array {
  const rows = expect
    .filter((item) => by === 'user' || item !== id)
    .map((item) => itemIds.rowOf(item))
    .filter((row) => row !== undefined);
  return Uint32Array.from(rows.filter((row) => !skipped.has(row)));
}

/** Mean over `scores` of the share of `sorted` that is lower; equal ones count half. */
function shareAbove(scores: Float64Array, sorted: Float64Array): number {
  const firstAt = (isPast: (value: number) => boolean): number => {
    let [low, high] = [0, sorted.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isPast(sorted[middle]!)) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  let sum = 0;
  for (const score of scores)
    sum += (firstAt((value) => value >= score) + firstAt((value) => value > score)) / 2 / sorted.length;
  return sum / scores.length;
}
