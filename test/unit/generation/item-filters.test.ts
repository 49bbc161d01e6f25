import { beforeAll, describe, expect, it } from 'vitest';
import type { FeatureColumn } from '../../../src/features/feature-column.js';
import { FeatureTable } from '../../../src/features/feature-table.js';
import type { FilterGroup } from '../../../src/features/filter.js';
import { ItemFilters } from '../../../src/generation/item-filters.js';
import { expectError } from '../../support/expect-error.js';
import { rowsOf } from '../../support/filter-rows.js';

const columns: FeatureColumn[] = [
  { kind: 'string', name: 'id', codes: Int32Array.of(0, 1, 2, 3), dictionary: ['a', 'b', 'c', 'd'] },
  { kind: 'string', name: 'section', codes: Int32Array.of(0, 1, 0, -1), dictionary: ['net', 'web'] },
  { kind: 'number', name: 'price', values: Float64Array.of(1, 2.5, Number.NaN, 20) },
  { kind: 'boolean', name: 'free', values: Uint8Array.of(1, 0, 2, 1) },
  {
    kind: 'string_list',
    name: 'tags',
    offsets: Uint32Array.of(0, 2, 3, 3, 4),
    codes: Int32Array.of(0, 1, 1, 2),
    dictionary: ['x', 'y', 'z'],
  },
  {
    kind: 'number_list',
    name: 'years',
    offsets: Uint32Array.of(0, 2, 2, 3, 3),
    values: Float64Array.of(1999, 2020, 2005),
  },
];
const table = FeatureTable.fromColumns(columns, { name: 'features/items.parquet' }).alignTo(['a', 'b', 'c', 'd']);
let filters: ItemFilters;
beforeAll(async () => {
  filters = await ItemFilters.open(table, (id) => table.rowOf(id));
});

const rows = async (filter: FilterGroup) => rowsOf(await filters.evaluate(filter));

const names = (count: number) => Array.from({ length: count }, (_, i) => `v${i}`);

describe('filter', () => {
  it.each<[FilterGroup, number[]]>([
    [{}, [0, 1, 2, 3]],
    [{ must: [] }, [0, 1, 2, 3]],
    [{ must: [{ field: 'section', eq: 'net' }] }, [0, 2]],
    [{ must: [{ field: 'section', in: ['web', 'unknown'] }] }, [1]],
    [{ must_not: [{ field: 'section', eq: 'net' }] }, [1, 3]],
    [{ must: [{ field: 'price', lte: 2.5 }] }, [0, 1]],
    [{ must: [{ field: 'price', gt: 1, lt: 20 }] }, [1]],
    [{ must: [{ field: 'price', gte: 20 }] }, [3]],
    [{ must: [{ field: 'price', exists: false }] }, [2]],
    [{ must: [{ field: 'section', exists: true }] }, [0, 1, 2]],
    [{ must: [{ field: 'free', eq: true }] }, [0, 3]],
    [{ must: [{ field: 'free', exists: false }] }, [2]],
    [{ must: [{ field: 'tags', in: ['y'] }] }, [0, 1]],
    [{ must: [{ field: 'tags', all: ['x', 'y'] }] }, [0]],
    [{ must: [{ field: 'tags', exists: false }] }, [2]],
    [{ must: [{ field: 'years', gte: 2000, lt: 2010 }] }, [2]],
    [{ must: [{ field: 'id', in: ['b', 'd', 'zz'] }] }, [1, 3]],
    [
      {
        should: [
          { field: 'section', eq: 'web' },
          { field: 'price', eq: 20 },
        ],
      },
      [1, 3],
    ],
    [
      {
        must: [{ field: 'free', eq: true }],
        should: [{ field: 'section', eq: 'web' }, { must_not: [{ field: 'price', lt: 20 }] }],
      },
      [3],
    ],
    [{ must: [{ field: 'tags', all: ['x', 'nowhere'] }] }, []],
    [{ must: [{ field: 'years', all: [2020, 1999, 2020] }] }, [0]],
    [{ must: [{ field: 'section', all: ['net', 'net'] }] }, [0, 2]],
    [{ must: [{ field: 'section', all: ['net', 'web'] }] }, []],
    [{ must: [{ field: 'years', gte: 2000, lt: 2000 }] }, []],
    [{ must: [{ field: 'tags', eq: 'x', in: ['y'] }] }, []],
  ])('%j', async (filter, expected) => {
    expect(await rows(filter)).toEqual(expected);
    expect((await filters.evaluate(filter)).count).toBe(expected.length);
  });

  it('answers the same from its cache', async () => {
    const filter = { must: [{ field: 'section', eq: 'net' }] };
    expect(await filters.evaluate(filter)).toBe(await filters.evaluate({ ...filter }));
  });

  it.each<[unknown, RegExp]>([
    [{ must: [{ field: 'price', lte: '5' }] }, /filter\.must\.0\.lte: expected a number, received "5"/],
    [
      { must: [{ field: 'price', eq: '5' }] },
      /filter\.must\.0\.eq: expected a number \(as in column price\), received "5"/,
    ],
    [
      { must: [{ field: 'section', lt: 5 }] },
      /filter\.must\.0\.lt: expected a column of numbers \(section holds strings\)/,
    ],
    [{ must: [{ field: 'section' }] }, /filter\.must\.0: expected a condition on "section"/],
    [{ must: [{ section: 'net' }] }, /filter\.must\.0\.section: expected one of the keys field, eq, in/],
    [{ must: [{ field: 'section', in: [] }] }, /filter\.must\.0\.in: expected a list of 1 to 1024/],
    [{ must: [{ field: 'section', in: [null] }] }, /filter\.must\.0\.in: expected a list of 1 to 1024/],
    [{ must: [{ field: 'section', exists: 1 }] }, /filter\.must\.0\.exists: expected true or false, received 1/],
    [{ must: [7] }, /filter\.must\.0: expected a condition or a group, received 7/],
    [{ must: { field: 'section' } }, /filter\.must: expected a list of clauses/],
    [{ must: [{ must: [], mist: [] }] }, /filter\.must\.0\.mist: expected one of the keys must, must_not, should/],
  ])('refuses %j', async (filter, message) => {
    await expectError(() => filters.evaluate(filter as FilterGroup), 'BELFRY_INVALID_ARGUMENT', message);
  });

  it('names the columns there are', async () => {
    await expectError(
      () => filters.evaluate({ must: [{ field: 'sektion', eq: 'x' }] }),
      'BELFRY_UNKNOWN_FIELD',
      'filter.must.0.field: no column "sektion" in features/items.parquet; known: id, section, price, free, tags, years',
    );
  });

  it('Q1: caps clauses and depth', async () => {
    const many = { must: Array.from({ length: 257 }, () => ({ field: 'price', lt: 1 })) };
    expect(
      (await expectError(() => filters.evaluate(many), 'BELFRY_INVALID_ARGUMENT', /at most 256 clauses/)).limit,
    ).toBe(256);
    let deep: FilterGroup = { must: [] };
    for (let i = 0; i < 1000; i++) deep = { must: [deep] };
    expect(
      (await expectError(() => filters.evaluate(deep), 'BELFRY_INVALID_ARGUMENT', /at most 16 nested groups/)).limit,
    ).toBe(16);
  });

  it('Q3: refuses what nests deeper than the stack', async () => {
    const depth = 200_000;
    for (const [text, message] of [
      [`${'{"must":['.repeat(depth)}${']}'.repeat(depth)}`, /at most 16 nested groups/],
      [
        `{"must":[{"field":"price","eq":${'['.repeat(depth)}${']'.repeat(depth)}}]}`,
        /filter\.must\.0\.eq: expected a string, a number or a boolean/,
      ],
    ] as const) {
      await expectError(() => filters.evaluate(JSON.parse(text)), 'BELFRY_INVALID_ARGUMENT', message);
    }
  });

  it('lets the event loop turn, and stops when nobody waits for it', async () => {
    const count = 200_000;
    const wide = FeatureTable.fromColumns([
      { kind: 'string', name: 'id', codes: Int32Array.from({ length: count }, (_, i) => i), dictionary: names(count) },
      {
        kind: 'string_list',
        name: 'tags',
        offsets: Uint32Array.from({ length: count + 1 }, (_, i) => i),
        codes: new Int32Array(count),
        dictionary: ['x'],
      },
    ]);
    // What one request may hold; a look at each row for each of its 1,024 values would take minutes.
    const values = ['x', ...names(1023)];
    const hostile = { should: Array.from({ length: 256 }, () => ({ field: 'tags', in: values })) };
    const slow = { must_not: [{ must: Array.from({ length: 200 }, () => ({ field: 'id', in: values })) }] };
    const filters = await ItemFilters.open(wide, (id) => wide.rowOf(id));
    let turns = 0;
    const counting = setInterval(() => turns++, 0);
    expect((await filters.evaluate(hostile)).count).toBe(count);
    expect(turns).toBeGreaterThan(0);
    const started = performance.now();
    await expectError(
      () => filters.evaluate(slow, () => 1 - (performance.now() - started)),
      'BELFRY_DEADLINE_EXCEEDED',
      'filter: the deadline passed while it was evaluated',
    );
    clearInterval(counting);
  });
});
