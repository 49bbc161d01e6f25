/** Sweeps, suggestions and buckets of bench recall, on made-up measurements. */
import { describe, expect, it } from 'vitest';
import { byPopularity, byQueryNorm, hubness, popularityColumn } from '../../../src/bench/recall/buckets.js';
import { advice, asField, knee, suggestions } from '../../../src/bench/recall/suggest.js';
import { type Asking, type EffortPoint, paretoFront, sweepOf } from '../../../src/bench/recall/sweep.js';
import type { Lists } from '../../../src/bench/measures.js';
import { FeatureTable } from '../../../src/features/feature-table.js';

const EMPTY: Lists = { width: 0, rows: new Uint32Array(0), scores: new Float32Array(0), counts: new Uint32Array(0) };

function point(asking: Asking, recall: number, p50: number, k = 10): EffortPoint {
  return {
    k,
    asking,
    plan: { effort: { mode: 'walk', ef: 10 }, target: 0.98, why: '' },
    recall: { value: recall, low: recall - 0.002, high: Math.min(1, recall + 0.002) },
    lists: EMPTY,
    p50,
    p95: 2 * p50,
    p99: 3 * p50,
    rounds: [p50],
    perSecond: 1000 / p50,
  };
}

describe('sweep', () => {
  it('asks for targets, efforts and exactness; a scan has no efforts', () => {
    const asked = sweepOf(100, true, 1000).map(({ asking }) => asking);
    expect(asked).toContainEqual({ recall: 0.95 });
    expect(asked.flatMap((one) => ('ef' in one ? one.ef : []))).toEqual([100, 150, 200, 300, 500, 800]);
    expect(asked.at(-1)).toEqual({ exact: true });
    expect(sweepOf(1, true, 4096).flatMap(({ asking }) => ('ef' in asking ? asking.ef : []))[0]).toBe(10);
    expect(sweepOf(10, false, 4096).map(({ asking }) => asking)).toEqual([{ recall: 0.98 }, { exact: true }]);
  });

  it('keeps on the front what nothing beats in both', () => {
    const points = [
      point({ ef: 10 }, 0.9, 1),
      point({ ef: 20 }, 0.95, 3),
      point({ ef: 30 }, 0.94, 4),
      point({ recall: 0.9 }, 0.95, 2),
      point({ exact: true }, 1, 9),
    ];
    expect(paretoFront(points).map(({ recall, p50 }) => [recall.value, p50])).toEqual([
      [0.9, 1],
      [0.95, 2],
      [1, 9],
    ]);
  });
});

describe('suggestions', () => {
  const points = [
    point({ recall: 0.9 }, 0.93, 1),
    point({ ef: 20 }, 0.97, 1.3),
    point({ recall: 0.98 }, 0.985, 1.4),
    point({ recall: 0.99 }, 0.993, 1.9),
    point({ recall: 0.999 }, 0.9995, 20),
    { ...point({ exact: true }, 1, 40), recall: { value: 1, low: 1, high: 1 } },
  ];

  it('the fastest that surely reaches a recall; a plain request before an ef that is no faster', () => {
    expect(suggestions(points).map(({ atLeast, point: { asking } }) => [atLeast, asField(asking)])).toEqual([
      [0.9, '"recall": 0.9'],
      [0.95, '"recall": 0.98'],
      [0.98, '"recall": 0.98'],
      [0.99, '"recall": 0.99'],
      [0.995, '"recall": 0.999'],
      [1, '"exact": true'],
    ]);
  });

  it('the knee is where halving the misses gets dear', () => {
    expect(knee(points, 10)!.asking).toEqual({ recall: 0.99 });
    expect(advice(points, 10)).toContain('"recall": 0.99');
    expect(advice(points, 99)).toBeUndefined();
  });

  it('exactness that costs nothing is advised', () => {
    const cheap = [...points.slice(0, 4), point({ exact: true }, 1, 1.95)];
    expect(advice(cheap, 10)).toContain('"exact": true');
  });
});

describe('buckets', () => {
  it('fifths of the queries by norm, all of them once', () => {
    const norms = Float64Array.from({ length: 50 }, (_, i) => 1 + i);
    const found = Uint32Array.from({ length: 50 }, (_, i) => (i < 10 ? 5 : 10));
    const buckets = byQueryNorm(norms, { found, wanted: new Uint32Array(50).fill(10), repeated: 0 });
    expect(buckets.map(({ size, recall }) => [size, recall.value])).toEqual([
      [10, 0.5],
      [10, 1],
      [10, 1],
      [10, 1],
      [10, 1],
    ]);
    const alike = byQueryNorm(new Float64Array(50).fill(1), {
      found,
      wanted: new Uint32Array(50).fill(10),
      repeated: 0,
    });
    expect(alike.map(({ name, size }) => [name, size])).toEqual([['all norms 1.00', 50]]);
  });

  it('exact rows by the popularity of the item: what is lost is lost in the tail', () => {
    const exact: Lists = {
      width: 2,
      rows: Uint32Array.of(0, 150, 0, 199),
      scores: Float32Array.of(9, 8, 9, 8),
      counts: Uint32Array.of(2, 2),
    };
    const answers: Lists = { ...exact, rows: Uint32Array.of(0, 7, 0, 199), scores: Float32Array.of(9, 1, 9, 8) };
    const popularity = Float64Array.from({ length: 200 }, (_, row) => 1000 - row);
    expect(
      byPopularity(popularity, answers, exact, 2).map(({ name, size, recall }) => [name, size, recall.value]),
    ).toEqual([
      ['head: first 1 %', 2, 1],
      ['tail: last 50 %', 2, 0.5],
    ]);
    expect([...hubness(exact, 1, 3)]).toEqual([2, 0, 0]);
  });

  it('popularity is the column asked for, or one whose name says so', () => {
    const number = (name: string, ...values: number[]) => ({
      kind: 'number' as const,
      name,
      values: Float64Array.from(values),
    });
    const table = FeatureTable.fromColumns([
      number('id', 1, 2),
      number('price', 3, 4),
      number('clicks', 7, Number.NaN),
    ]);
    expect(popularityColumn(table, undefined)).toEqual({ source: 'column clicks', values: Float64Array.of(7, 0) });
    expect(popularityColumn(table, 'price')!.values).toEqual(Float64Array.of(3, 4));
    expect(() => popularityColumn(table, 'colour')).toThrow(
      'popularity: no number column "colour" in table; known: price, clicks',
    );
    expect(popularityColumn(FeatureTable.fromColumns([number('id', 1)]), undefined)).toBeUndefined();
  });
});
