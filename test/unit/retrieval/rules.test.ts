/** The list of rules without a server: places, costs, sets of the settings. */
import { describe, expect, it } from 'vitest';
import { Allowance, Capping } from '../../../src/retrieval/arrange/capping.js';
import { type Placement, takeInOrder, weave } from '../../../src/retrieval/arrange/listing.js';
import { fillRules, NamedRules } from '../../../src/retrieval/arrange/rules.js';
import { loadSettings } from '../../../src/config/load.js';
import type { ItemView } from '../../../src/upserts/item-view.js';
import { errorOf } from '../../support/errors.js';
import { temporaryFolder } from '../../support/folders.js';

const place = (row: number): Placement => ({ row, score: -row, retrievalScore: -row, rank: row + 1 });
const rowsOf = (list: readonly Placement[]) => list.map(({ row }) => row);

/** Items of which row r has the section r % sections; counts how often a cell is read. */
function viewOf(sections: number): { view: ItemView; reads: () => number } {
  let reads = 0;
  const view = {
    generation: { itemTable: { name: 'items', columns: [{ name: 'section', kind: 'number' }] } },
    valueAt: (row: number) => {
      reads++;
      return row % sections;
    },
  } as unknown as ItemView;
  return { view, reads: () => reads };
}

describe('caps', () => {
  it('cost one look at a candidate, however many are taken', () => {
    for (const count of [100, 1000, 4000]) {
      const { view, reads } = viewOf(10);
      const allowance = new Allowance(new Capping([{ field: 'section', max: 3 }], view));
      const candidates = Array.from({ length: count }, (_, row) => place(row));
      const { taken, refused } = takeInOrder(candidates, count, allowance);
      expect([taken.length, refused]).toEqual([30, count - 30]);
      expect(reads()).toBe(count);
    }
  });

  it('tell which groups are full, as clauses that a filter takes', () => {
    const { view } = viewOf(3000);
    const capping = new Capping([{ field: 'section', max: 1 }], view);
    const allowance = new Allowance(capping);
    for (let row = 0; row < 2500; row++) expect(allowance.take(row)).toBe(true);
    const clauses = allowance.fullGroups();
    expect(clauses.map((clause) => clause.in!.length)).toEqual([1024, 1024, 452]);
    expect(new Set(clauses.flatMap((clause) => clause.in!)).size).toBe(2500);
  });
});

describe('pins', () => {
  it('stand at their places, in any number, and close up behind a short list', () => {
    const others = [0, 1, 2].map(place);
    const pin = (row: number, position: number) => ({ row, position });
    const pins = [pin(90, 1), pin(91, 3), pin(92, 9)];
    expect(
      rowsOf(
        weave(
          others,
          pins,
          pins.map(({ row }) => place(row)),
        ),
      ),
    ).toEqual([90, 0, 91, 1, 2, 92]);
    expect(
      rowsOf(
        weave(
          [],
          pins,
          pins.map(({ row }) => place(row)),
        ),
      ),
    ).toEqual([90, 91, 92]);
    expect(rowsOf(weave(others, [], []))).toEqual([0, 1, 2]);
  });
});

describe('sets of rules', () => {
  it('nothing to apply is nothing', () => {
    expect(fillRules({})).toBeUndefined();
    expect(fillRules({ diversity: 0, caps: [], boosts: [], pins: [] })).toBeUndefined();
    expect(new NamedRules().of({})).toBeUndefined();
    expect(new NamedRules().of({ rules: 'none' })).toBeUndefined();
  });

  it('come from a file and from the environment, and are checked at the start', async () => {
    const load = (rules: string) =>
      loadSettings({
        workingDirectory: temporaryFolder(),
        flags: { models: '.' },
        environment: { BELFRY_RULES: rules },
      });
    expect(load('{"home": {"diversity": 0.5}}').rules).toEqual({ home: { diversity: 0.5 } });
    expect(await errorOf(() => load('{"home": {"diversity": 2}}'))).toContain(
      'rules.home.diversity: expected at most 1',
    );
    expect(await errorOf(() => load('{"home": '))).toContain('rules: expected');
    expect(await errorOf(() => new NamedRules({ home: { boosts: [{ filter: {}, add: 1, multiply: 2 }] } }))).toContain(
      'settings: rules.home.boosts.0: expected either add or multiply, received "both"',
    );
    expect(await errorOf(() => new NamedRules({ none: {} }))).toContain('rules.none.none: expected another name');
  });
});
