/** Random filters over random columns: the native evaluation admits the very rows that the judge does. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadAddon } from '../../../src/ann/addon.js';
import type { FeatureColumn } from '../../../src/features/feature-column.js';
import { FeatureTable } from '../../../src/features/feature-table.js';
import type { Condition, FilterClause, FilterGroup, Scalar } from '../../../src/features/filter.js';
import { ItemFilters } from '../../../src/generation/item-filters.js';
import { judgeFilter } from '../../support/filter-judge.js';
import { rowsOf } from '../../support/filter-rows.js';
import { seeded } from '../../support/judge.js';

const NUMBERS = [-0, 0, 1, 2.5, -1e300, 5e-324, 7, 8, 9, 1e300];
const WORDS = Array.from({ length: 40 }, (_, i) => `w${i}`);

/** Every kind twice, once with few values and once with many, so that postings are bitmaps and lists. */
function randomTable(rows: number, seed: number, idsAreNumbers: boolean): FeatureTable {
  const random = seeded(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  // Low ones are much more frequent.
  const skewed = (limit: number) => Math.floor(random() ** 4 * limit);
  const lists = () => {
    const offsets = new Uint32Array(rows + 1);
    for (let row = 0; row < rows; row++) offsets[row + 1] = offsets[row]! + (random() < 0.3 ? 0 : below(5));
    return offsets;
  };
  const tags = lists();
  const years = lists();
  const columns: FeatureColumn[] = [
    idsAreNumbers
      ? { kind: 'number', name: 'id', values: Float64Array.from({ length: rows }, (_, row) => row * 3) }
      : {
          kind: 'string',
          name: 'id',
          codes: Int32Array.from({ length: rows }, (_, row) => row),
          dictionary: Array.from({ length: rows }, (_, row) => `i${row}`),
        },
    {
      kind: 'string',
      name: 'word',
      codes: Int32Array.from({ length: rows }, () => skewed(WORDS.length + 1) - 1),
      dictionary: WORDS,
    },
    {
      kind: 'number',
      name: 'price',
      values: Float64Array.from({ length: rows }, () => (random() < 0.1 ? Number.NaN : NUMBERS[below(10)]!)),
    },
    { kind: 'boolean', name: 'free', values: Uint8Array.from({ length: rows }, () => below(3)) },
    {
      kind: 'string_list',
      name: 'tags',
      offsets: tags,
      codes: Int32Array.from({ length: tags[rows]! }, () => skewed(WORDS.length)),
      dictionary: WORDS,
    },
    {
      kind: 'number_list',
      name: 'years',
      offsets: years,
      values: Float64Array.from({ length: years[rows]! }, () => NUMBERS[below(10)]!),
    },
  ];
  const table = FeatureTable.fromColumns(columns);
  return table.alignTo(table.ids);
}

const word = fc.constantFrom(...WORDS, 'nowhere');
const number = fc.constantFrom(...NUMBERS, 3);
const bound = fc.option(number, { nil: undefined });
const listOf = <T>(value: fc.Arbitrary<T>) => fc.array(value, { minLength: 1, maxLength: 24 });
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

/** Conditions on one field; keys without a value are left out, and one is always there. */
function conditionOn(field: string, value: fc.Arbitrary<Scalar>, hasRanges: boolean): fc.Arbitrary<Condition> {
  return fc
    .record({
      eq: optional(value),
      in: optional(listOf(value)),
      all: optional(fc.array(value, { minLength: 1, maxLength: 3 })),
      exists: optional(fc.boolean()),
      ...(hasRanges ? { lt: bound, lte: bound, gt: bound, gte: bound } : {}),
    })
    .chain((all) => {
      const keys = Object.keys(all).filter((key) => all[key as keyof typeof all] !== undefined);
      return fc
        .subarray(keys, { maxLength: Math.min(3, keys.length) })
        .map((kept) => ({ field, ...Object.fromEntries(kept.map((key) => [key, all[key as keyof typeof all]])) }))
        .map((condition) => (Object.keys(condition).length > 1 ? condition : { field, exists: true }) as Condition);
    });
}

function clauses(id: fc.Arbitrary<Scalar>, idHasRanges: boolean): fc.Arbitrary<FilterGroup> {
  const condition = fc.oneof(
    conditionOn('id', id, idHasRanges),
    conditionOn('word', word, false),
    conditionOn('price', number, true),
    conditionOn('free', fc.boolean(), false),
    conditionOn('tags', word, false),
    conditionOn('years', number, true),
  );
  return fc.letrec<{ group: FilterGroup; clause: FilterClause }>((tie) => ({
    clause: fc.oneof({ depthSize: 'small', withCrossShrink: true }, condition, tie('group')),
    group: fc.record(
      {
        must: fc.array(tie('clause'), { maxLength: 3 }),
        must_not: fc.array(tie('clause'), { maxLength: 2 }),
        should: fc.array(tie('clause'), { maxLength: 3 }),
      },
      { requiredKeys: ['must'] }, // a nested group is told from a condition by its keys
    ),
  })).group;
}

describe('native filters', () => {
  // 1 and 63 to 65: ends of words. 70,001: two blocks.
  it.each([
    [1, false, 60],
    [63, true, 60],
    [64, false, 60],
    [65, true, 60],
    [1000, true, 300],
    [5000, false, 300],
    [70_001, true, 12],
  ])('agree with the judge over %i rows', async (rows, idsAreNumbers, runs) => {
    const table = randomTable(rows, rows, idsAreNumbers);
    const filters = await ItemFilters.open(table, (id) => table.rowOf(id));
    const at = fc.nat({ max: rows + 2 });
    const group = idsAreNumbers
      ? clauses(
          at.map((row) => row * 3),
          true,
        )
      : clauses(
          at.map((row) => `i${row}`),
          false,
        );
    await fc.assert(
      fc.asyncProperty(group, async (filter) => {
        const admitted = await filters.evaluate(filter);
        const expected = judgeFilter(table, filter);
        expect(rowsOf(admitted)).toEqual(expected);
        expect(admitted.count).toBe(expected.length);
      }),
      { numRuns: runs },
    );
    filters.close();
  });

  it('look long lists of numbers up', async () => {
    const table = randomTable(1000, 5, true);
    const filters = await ItemFilters.open(table, (id) => table.rowOf(id));
    const many = Array.from({ length: 1000 }, (_, i) => i * 0.5);
    for (const field of ['price', 'years', 'id']) {
      for (const filter of [
        { must: [{ field, in: many }] },
        { must: [{ field, in: many.slice(0, 3) }] },
        { must: [{ field, in: many }], must_not: [{ field, gt: 5, in: many }] },
      ])
        expect(rowsOf(await filters.evaluate(filter))).toEqual(judgeFilter(table, filter));
    }
  });

  it('refuse programs and columns that are not well-formed', async () => {
    const addon = loadAddon();
    const column = async (kind: 'string' | 'number' | 'string_list', values: Int32Array | Float64Array, words = 0) => {
      const builder = await addon.createColumn({ kind, rows: 3, words, entries: values.length });
      builder.append(values);
      if (kind === 'string_list') builder.appendOffsets(Uint32Array.of(0, 2, 1, 2));
      return builder.finish();
    };
    const messageOf = async (work: Promise<unknown>) =>
      work.then(
        () => 'nothing',
        (error: Error) => error.message,
      );
    expect(await messageOf(column('string', Int32Array.of(0, 1, 2), 2))).toBe(
      'codes: expected codes below 2, received 2',
    );
    expect(await messageOf(column('string_list', Int32Array.of(0, 1), 2))).toBe(
      'offsets: expected numbers that never fall, received 1 after 2',
    );
    expect(await messageOf(column('number', Float64Array.of(1)))).toBe(
      'finish: expected 3 values and 0 offsets, received 1 and 0',
    );
    const columns = [await column('string', Int32Array.of(0, 1, -1), 2)];
    const run = (steps: number[], codes: number[] = [], numbers: number[] = [], rows = 3) =>
      messageOf(
        addon.evaluateFilter({
          rows,
          columns,
          program: {
            steps: Uint32Array.from(steps),
            codes: Uint32Array.from(codes),
            numbers: Float64Array.from(numbers),
          },
        }),
      );
    expect(await run([])).toBe('program.steps: expected 1 to 4096 steps of four numbers, received 0 numbers');
    expect(await run([13, 0, 0, 0])).toBe('program.steps.0: expected an operation below 13, received 13');
    expect(await run([10, 0, 0, 0])).toBe('program.steps.0: expected two bitmaps on the stack, received 0');
    expect(await run([0, 0, 0, 0, 0, 0, 0, 0])).toBe('program.steps.2: expected one bitmap at the end, received 2');
    expect(await run([5, 0, 0, 2], [0])).toBe('program.steps.0: expected values that end at 1 at most, received 2');
    expect(await run([5, 0, 0, 1], [2])).toBe('program.steps.0: expected values below 2, received 2');
    expect(await run([5, 1, 0, 1], [0])).toBe('program.steps.0: expected a column below 1, received 1');
    expect(await run([7, 0, 0, 0], [], [1, 2])).toBe(
      'program.steps.0: expected a column of the kind that the operation is for, received 0',
    );
    expect(await run([0, 0, 0, 0], [], [Number.NaN])).toBe('program.numbers: expected numbers, received NaN');
    expect(await run([0, 0, 0, 0], [], [], 4)).toBe('columns: expected columns of 4 rows, received 3');
    expect(await run(Array.from({ length: 65 }, () => [0, 0, 0, 0]).flat())).toBe(
      'program.steps.64: expected at most 64 bitmaps on the stack, received 65',
    );
    columns[0]!.close();
    expect(await run([2, 0, 0, 0])).toBe('NativeColumn was used after close');
  });
});
