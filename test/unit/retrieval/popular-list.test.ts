import { describe, expect, it } from 'vitest';
import { bestRows } from '../../../src/retrieval/popular-list.js';
import { seeded } from '../../support/judge.js';

const ROWS = 40_000;

function fullSort(values: readonly unknown[], length: number): { rows: number[]; scores: number[] } {
  const rows = values.flatMap((value, row) => (typeof value === 'number' && Number.isFinite(value) ? [row] : []));
  const best = rows.sort((a, b) => (values[b] as number) - (values[a] as number) || a - b).slice(0, length);
  return { rows: best, scores: best.map((row) => values[row] as number) };
}

describe('the best rows', () => {
  const random = seeded(3);
  const cases: Record<string, (row: number) => unknown> = {
    'with many ties': () => Math.floor(random() * 5),
    'all equal': () => 7,
    ascending: (row) => row,
    descending: (row) => -row,
    'any, some of them no numbers': () =>
      random() < 0.1
        ? [null, undefined, 'x', Number.NaN, Number.POSITIVE_INFINITY][Math.floor(random() * 5)]
        : random(),
  };
  it.each(Object.keys(cases))('%s: are those of a full sort', async (name) => {
    const values = Array.from({ length: ROWS }, (_, row) => cases[name]!(row));
    for (const length of [1, 100, 2000, ROWS, 2 * ROWS])
      expect(await bestRows(ROWS, length, (row) => values[row])).toEqual(fullSort(values, length));
  });

  it('are none of none', async () => {
    expect(await bestRows(0, 10, () => 1)).toEqual({ rows: [], scores: [] });
    expect(await bestRows(10, 10, () => null)).toEqual({ rows: [], scores: [] });
  });
});
