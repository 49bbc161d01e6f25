import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { shortScore } from '../../../src/retrieval/answer.js';
import { orderByScore } from '../../../src/retrieval/rerank-stage.js';

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
  });
});
