/** Recall by score, ranks, NDCG, lists of users and intervals, against figures worked out by hand or by plain definitions. */
import { describe, expect, it } from 'vitest';
import { meanInterval, quantile, ratioInterval } from '../../../src/bench/interval.js';
import { countHits, eachExactRow, type Lists, ndcg, reciprocalRanks } from '../../../src/bench/measures.js';
import { catalogueMeasures, popularityRanks, userMeasures } from '../../../src/bench/quality/list-measures.js';
import { seeded } from '../../support/judge.js';

/** Lists from [row, score] pairs, one array a query. */
function lists(width: number, ...queries: [row: number, score: number][][]): Lists {
  const made = {
    width,
    rows: new Uint32Array(queries.length * width),
    scores: new Float32Array(queries.length * width),
    counts: Uint32Array.from(queries, ({ length }) => length),
  };
  queries.forEach((pairs, q) =>
    pairs.forEach(([row, score], i) => {
      made.rows[q * width + i] = row;
      made.scores[q * width + i] = score;
    }),
  );
  return made;
}

const exact = lists(4, [
  [7, 9],
  [3, 8],
  [5, 8],
  [1, 2],
]);

describe('recall by score', () => {
  it.each<[string, [number, number][], number, number]>([
    [
      'the same rows',
      [
        [7, 9],
        [3, 8],
      ],
      2,
      2,
    ],
    [
      'another row of the score of the k-th',
      [
        [7, 9],
        [5, 8],
      ],
      2,
      2,
    ],
    [
      'a row that the exact list does not hold, of its score',
      [
        [7, 9],
        [99, 8],
      ],
      2,
      2,
    ],
    [
      'one below',
      [
        [7, 9],
        [1, 2],
      ],
      2,
      1,
    ],
    ['too few', [[7, 9]], 2, 1],
    ['none', [], 2, 0],
    [
      'a row twice counts once',
      [
        [7, 9],
        [7, 9],
      ],
      2,
      1,
    ],
    [
      'more rows of the score than are wanted',
      [
        [3, 8],
        [5, 8],
      ],
      1,
      0,
    ],
    [
      'only the first k count',
      [
        [3, 8],
        [7, 9],
      ],
      1,
      0,
    ],
  ])('%s', (_, answers, k, found) => {
    const hits = countHits(lists(4, answers), exact, k);
    expect([...hits.found, ...hits.wanted]).toEqual([found, k]);
  });

  it('wants no more than there is, and counts what is named twice', () => {
    const few = lists(4, [[7, 9]], []);
    const { found, wanted, repeated } = countHits(
      lists(
        4,
        [
          [7, 9],
          [7, 9],
        ],
        [],
      ),
      few,
      3,
    );
    expect([[...found], [...wanted], repeated]).toEqual([[1, 0], [1, 0], 1]);
  });

  it('of single rows: whoever ties may stand in for who ties, and for nobody better', () => {
    const random = seeded(5);
    for (let round = 0; round < 300; round++) {
      const draw = (): [number, number][] => {
        const rows = [...Array(12).keys()].sort(() => random() - 0.5);
        return rows.map((row): [number, number] => [row, row % 4]);
      };
      const order = (pairs: [number, number][]) => pairs.sort((a, b) => b[1] - a[1]).slice(0, 8);
      const truth = lists(8, order(draw()), order(draw()));
      const answers = lists(8, order(draw().slice(0, 9)), order(draw().slice(0, 9)));
      const k = 1 + Math.floor(random() * 8);
      const found = new Uint32Array(2);
      let seen = 0;
      eachExactRow(answers, truth, k, (_, isFound, q) => {
        seen++;
        if (isFound) found[q]!++;
      });
      expect(seen).toBe(2 * k);
      for (const q of [0, 1]) {
        // A tie stands in for a tie: what is found above the k-th score, and of its score at most as many as are wanted.
        const scores = [...answers.scores.subarray(8 * q, 8 * q + Math.min(k, answers.counts[q]!))];
        const wanted = [...truth.scores.subarray(8 * q, 8 * q + k)];
        const last = wanted.at(-1)!;
        const ties = (list: number[]) => list.filter((score) => score === last).length;
        expect(found[q]).toBe(scores.filter((score) => score > last).length + Math.min(ties(scores), ties(wanted)));
        expect(found[q]).toBeLessThanOrEqual(countHits(answers, truth, k).found[q]!);
      }
    }
  });
});

describe('order', () => {
  it('reciprocal rank of the first answer, ties sharing the best rank', () => {
    const answers = lists(1, [[7, 9]], [[5, 8]], [[1, 2]], [[0, -1]], []);
    const same = lists(
      4,
      ...Array.from(
        { length: 5 },
        () =>
          [
            [7, 9],
            [3, 8],
            [5, 8],
            [1, 2],
          ] as [number, number][],
      ),
    );
    expect([...reciprocalRanks(answers, same)]).toEqual([1, 1 / 2, 1 / 4, 0, 0]);
  });

  it('NDCG is 1 for the exact list and for ties in another order', () => {
    expect(ndcg(exact, exact, 3)[0]).toBe(1);
    expect(
      ndcg(
        lists(4, [
          [7, 9],
          [5, 8],
          [3, 8],
        ]),
        exact,
        3,
      )[0],
    ).toBe(1);
  });

  it('NDCG by its definition', () => {
    // Ranks 1, 2, 2 at k 3 gain 3, 2, 2; the answer has rank 2 first, then the best, then rank 4, which gains nothing.
    const gain = (parts: number[]) => parts.reduce((sum, part, i) => sum + part / Math.log2(i + 2), 0);
    expect(
      ndcg(
        lists(4, [
          [3, 8],
          [7, 9],
          [1, 2],
        ]),
        exact,
        3,
      )[0],
    ).toBeCloseTo(gain([2, 3, 0]) / gain([3, 2, 2]), 14);
    expect(
      ndcg(
        lists(4, [
          [7, 9],
          [7, 9],
          [3, 8],
        ]),
        exact,
        3,
      )[0],
    ).toBeCloseTo(gain([3, 0, 2]) / gain([3, 2, 2]), 14);
  });
});

describe('intervals', () => {
  it('hold the truth about 95 times in 100', () => {
    const random = seeded(9);
    let held = 0;
    for (let round = 0; round < 200; round++) {
      const { low, high } = meanInterval(Array.from({ length: 200 }, () => (random() < 0.3 ? 1 : 0)));
      if (low <= 0.3 && high >= 0.3) held++;
    }
    expect(held).toBeGreaterThan(180);
    expect(held).toBeLessThan(200);
  });

  it('are the value itself where nothing varies, and the same every time', () => {
    expect(ratioInterval([2, 2, 2], [4, 4, 4])).toEqual({ value: 0.5, low: 0.5, high: 0.5 });
    expect(meanInterval([1, 2, 3, 9])).toEqual(meanInterval([1, 2, 3, 9]));
    expect(meanInterval([]).value).toBeNaN();
  });

  it('quantiles lie between their neighbours', () => {
    expect([0, 0.25, 0.5, 1].map((share) => quantile([1, 2, 3, 5], share))).toEqual([1, 1.75, 2.5, 5]);
  });
});

describe('lists of users', () => {
  it.each<[string, number[], number[], number, [hit: number, recall: number, ndcg: number, mrr: number]]>([
    ['first', [4, 5], [4], 2, [1, 1, 1, 1]],
    ['second', [5, 4], [4], 2, [1, 1, 1 / Math.log2(3), 1 / 2]],
    ['behind k', [5, 6, 4], [4], 2, [0, 0, 0, 0]],
    ['one of two', [5, 4, 6], [4, 9], 3, [1, 0.5, 1 / Math.log2(3) / (1 + 1 / Math.log2(3)), 1 / 2]],
    ['more held out than k', [4], [4, 9, 8], 1, [1, 1 / 3, 1, 1]],
    ['an empty list', [], [4], 2, [0, 0, 0, 0]],
  ])('%s', (_, list, heldOut, k, [hit, recall, gain, mrr]) => {
    const found = userMeasures(list, new Set(heldOut), k);
    expect([found.hit, found.recall, found.mrr]).toEqual([hit, recall, mrr]);
    expect(found.ndcg).toBeCloseTo(gain, 14);
  });

  it('coverage, and Gini by its definition over all pairs of items', () => {
    const random = seeded(2);
    for (const catalogue of [5, 40]) {
      const made = Array.from({ length: 30 }, () =>
        Array.from({ length: 3 }, () => Math.floor(random() ** 3 * catalogue)),
      );
      const counts = Array.from({ length: catalogue }, (_, row) => made.flat().filter((one) => one === row).length);
      let apart = 0;
      for (const a of counts) for (const b of counts) apart += Math.abs(a - b);
      const { coverage, gini } = catalogueMeasures(made, 3, catalogue);
      expect(gini).toBeCloseTo(apart / (2 * catalogue * 90), 12);
      expect(coverage).toBe(counts.filter((count) => count > 0).length / catalogue);
    }
    expect(catalogueMeasures([[0], [1], [2]], 1, 3)).toEqual({ coverage: 1, gini: expect.closeTo(0, 12) });
    expect(catalogueMeasures([[1, 2]], 1, 4).coverage).toBe(0.25);
  });

  it('popularity ranks go from the most to the least popular', () => {
    expect([...popularityRanks(Float64Array.of(5, 50, 0, 50))]).toEqual([0.75, 0.25, 1, 0.5]);
  });
});
