/** The JSON that the core writes of hits, against what JSON.stringify makes of the same items. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadAddon } from '../../../src/ann/addon.js';
import { IdMap } from '../../../src/ann/ids.js';
import { shortScore } from '../../../src/retrieval/answer.js';
import type { Id } from '../../../src/types.js';
import { expectError } from '../../support/expect-error.js';

const usual = fc
  .float({ noNaN: true, noDefaultInfinity: true, min: -1e5, max: 1e5 })
  .filter((score) => Math.abs(score) >= 1e-3 || score === 0);
const any = fc.float({ noNaN: true, noDefaultInfinity: true });
const ids = fc.oneof(
  fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' }), { minLength: 1, maxLength: 20 }),
  fc.uniqueArray(fc.maxSafeNat(), { minLength: 1, maxLength: 20 }),
) as fc.Arbitrary<Id[]>;

function mapOf(list: readonly Id[]): IdMap {
  return IdMap.fromList(list, 'test');
}

describe('items as JSON', () => {
  it('are what JSON.stringify makes of them, to the last character for usual scores', () => {
    fc.assert(
      fc.property(ids, fc.infiniteStream(usual), fc.boolean(), fc.nat(25), (list, stream, isReranked, count) => {
        const scores = Float32Array.from(list, () => stream.next().value as number);
        const reranked = isReranked ? Float32Array.from(list, () => stream.next().value as number) : undefined;
        const order = isReranked ? Uint32Array.from(list.keys()).reverse() : undefined;
        const rows = Uint32Array.from(list.keys());
        const wanted = Array.from({ length: Math.min(count, list.length) }, (_, place) => {
          const at = order?.[place] ?? place;
          return {
            id: list[at],
            score: shortScore((reranked ?? scores)[at]!),
            retrieval_score: shortScore(scores[at]!),
            retrieval_rank: at + 1,
          };
        });
        const written = mapOf(list).itemsJson({ rows, scores }, count, order, reranked)!;
        expect(JSON.parse(written)).toEqual(wanted);
        if (list.every((id) => typeof id === 'number' || /^[^\p{Cc}]*$/u.test(id)))
          expect(written).toBe(JSON.stringify(wanted));
      }),
    );
  });

  it('name the very 32-bit float, of any size', () => {
    fc.assert(
      fc.property(any, (score) => {
        const written = IdMap.ofRows(1).itemsJson({ rows: Uint32Array.of(0), scores: Float32Array.of(score) }, 1)!;
        const [item] = JSON.parse(written) as { score: number }[];
        expect(Math.fround(item!.score)).toBe(score === 0 ? 0 : score);
      }),
      { numRuns: 5000 },
    );
  });

  it('have the retrieval score where a reranker gave none', () => {
    const hits = { rows: Uint32Array.of(0, 1), scores: Float32Array.of(2, 1) };
    const written = IdMap.ofRows(2).itemsJson(hits, 2, Uint32Array.of(1, 0), Float32Array.of(Number.NaN, 9))!;
    expect(JSON.parse(written)).toEqual([
      { id: 1, score: 9, retrieval_score: 1, retrieval_rank: 2 },
      { id: 0, score: 2, retrieval_score: 2, retrieval_rank: 1 },
    ]);
  });

  it('are not written where one has no id among these, or no finite score', () => {
    const two = mapOf(['a', 'b']);
    expect(two.itemsJson({ rows: Uint32Array.of(2), scores: Float32Array.of(1) }, 1)).toBeUndefined();
    expect(two.itemsJson({ rows: Uint32Array.of(1), scores: Float32Array.of(Infinity) }, 1)).toBeUndefined();
    expect(two.itemsJson({ rows: Uint32Array.of(2), scores: Float32Array.of(1) }, 0)).toBe('[]');
  });

  it('refuses arrays that do not fit', async () => {
    const { itemsJson, copyRows } = loadAddon();
    const rows = Uint32Array.of(0, 1);
    const scores = Float32Array.of(1, 2);
    const call = (more: Partial<Record<'scores' | 'order' | 'reranked' | 'size', unknown>>) => () =>
      itemsJson(
        undefined,
        undefined,
        (more.size ?? 2) as number,
        rows,
        (more.scores ?? scores) as Float32Array,
        more.order as Uint32Array | undefined,
        more.reranked as Float32Array | undefined,
        2,
      );
    expect(call({})()).toMatch(/^\[\{"id":0,/);
    for (const [field, value] of Object.entries({
      scores: new Float32Array(1),
      order: new Uint32Array(3),
      reranked: new Float32Array(1),
      size: -1,
    }))
      await expectError(call({ [field]: value }), 'BELFRY_INVALID_ARGUMENT', field);
    const out = new Int32Array(4);
    const copy = (rowsOf: Int32Array, stride: number) => () =>
      copyRows(Int32Array.of(1, 2, 3, 4), 2, rowsOf, out, stride, 0, 1);
    await expectError(copy(Int32Array.of(2), 2), 'BELFRY_INVALID_ARGUMENT', 'rows');
    await expectError(copy(Int32Array.of(0, 1), 3), 'BELFRY_INVALID_ARGUMENT', 'rows');
    expect([...out]).toEqual([0, 0, 0, 0]);
    copy(Int32Array.of(1, -1), 2)();
    expect([...out]).toEqual([3, 4, 0, 0]);
  });
});
