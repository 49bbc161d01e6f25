import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { answeredAgain, asObjects, shortScore, WrittenAnswer } from '../../../src/retrieval/answer.js';
import { orderByScore } from '../../../src/retrieval/rerank-stage.js';

describe('an answer that is JSON', () => {
  const items = [{ id: 'a', score: 1, retrieval_score: 1, retrieval_rank: 1 }];
  const rest = { generation: 'g', models: {}, degraded: [], returned: 1, timings: { total: 1 } };

  it('has its items as objects too, once they are looked at, and says the same for another reason', () => {
    const answer = new WrittenAnswer(JSON.stringify(items), rest);
    expect(answer.items).toEqual(items);
    expect(answer.items).toBe(answer.items);
    const again = answeredAgain(answer, ['cached']);
    expect(again).toMatchObject({ ...rest, degraded: ['cached'], itemsJson: JSON.stringify(items) });
    expect(again.items).toEqual(items);
    expect(answer.degraded).toEqual([]);
    expect(asObjects(answer)).toStrictEqual({ items, ...rest });
    expect(JSON.parse(JSON.stringify(asObjects(again)))).toEqual({ items, ...rest, degraded: ['cached'] });
    expect(answeredAgain({ items, ...rest }, ['cached'])).toEqual({ items, ...rest, degraded: ['cached'] });
  });
});

describe('scores of an answer', () => {
  it('are short, and still the very 32-bit float', () => {
    expect(shortScore(Math.fround(21.8994522))).toBe(21.8994522);
    fc.assert(
      fc.property(
        fc.float({ noNaN: true, noDefaultInfinity: true }),
        (score) => Math.fround(shortScore(score)) === score,
      ),
    );
  });

  it('order best first; equal ones and those that are not finite keep retrieval order, the latter last', () => {
    expect([...orderByScore(Float32Array.of(1, Number.NaN, 3, 1, Number.POSITIVE_INFINITY, 3))]).toEqual([
      2, 5, 0, 3, 1, 4,
    ]);
    expect([...orderByScore(new Float32Array(0))]).toEqual([]);
    expect([...orderByScore(Float32Array.of(-0, 0, -1, -Infinity, 1e-45, -3e38, 3e38))]).toEqual([6, 4, 0, 1, 2, 5, 3]);
    const some = fc.oneof(fc.float(), fc.constantFrom(1, -1, 0, -0));
    fc.assert(
      fc.property(fc.array(some, { maxLength: 40 }), (values) => {
        const scores = Float32Array.from(values);
        const keys = scores.map((score) => (Number.isFinite(score) ? score : Number.NEGATIVE_INFINITY));
        const sorted = [...keys.keys()].sort((a, b) => (keys[a] === keys[b] ? a - b : keys[b]! - keys[a]!));
        expect([...orderByScore(scores)]).toEqual(sorted);
      }),
    );
  });
});
