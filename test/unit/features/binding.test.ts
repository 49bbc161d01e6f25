import { describe, expect, it, vi } from 'vitest';
import { type InputBindings } from '../../../src/features/binding-schema.js';
import { FeatureTable } from '../../../src/features/feature-table.js';
import { Slices } from '../../../src/features/slices.js';
import { float16Bits } from '../../../src/features/tensor-writer.js';
import type { TensorSpec } from '../../../src/types.js';
import { compile, encoded, ROWS, items, spec, vocabularies } from '../../support/binding-fixtures.js';
import { expectError } from '../../support/expect-error.js';

describe('a binding that others are answered beside', () => {
  const rows = 5_000;
  const ids = Array.from({ length: rows }, (_, row) => `item-${row}`);
  const column = { kind: 'string' as const, name: 'id', codes: Int32Array.from(ids.keys()), dictionary: ids };
  const many = FeatureTable.fromColumns([column], { name: 'features/items.parquet' });
  const numbers = async (isBackground: boolean): Promise<number[]> => {
    const bound = await compile(
      { x: { source: 'item.id', vocabulary: { ids: 'items' }, offset: 1 } },
      [spec('x', 'int64', null)],
      { items: many, isPerCandidate: true, isBackground, vocabularies: { ...vocabularies, ids: () => [...ids] } },
    );
    const { data } = bound.fill({ rows: 3, itemRows: [0, 4_321, -1] }).x!;
    return Array.from(data as BigInt64Array, Number);
  };

  it('takes rests, and is the same', async () => {
    const rests = vi.spyOn(Slices, 'withRests');
    expect(await numbers(false)).toEqual([1, 4_322, 0]);
    expect(rests).not.toHaveBeenCalled();
    expect(await numbers(true)).toEqual([1, 4_322, 0]);
    expect(rests).toHaveBeenCalledTimes(3); // the vocabulary, the column, the table of rows
    rests.mockRestore();
  });
});

describe('item columns', () => {
  it.each<[string, InputBindings[string], number, number[]]>([
    ['numbers', { source: 'item.size' }, 1, [1, 0, 2.5, 0]],
    ['numbers with a missing value', { source: 'item.size', missing: -1 }, 1, [1, -1, 2.5, -1]],
    ['booleans', { source: 'item.free', missing: 9 }, 1, [1, 0, 9, 9]],
    [
      'words: known + offset, null, unknown, absent row',
      { source: 'item.section', vocabulary: { file: 'sections.txt' }, offset: 1, oov: 7, missing: 8 },
      1,
      [1, 8, 7, 8],
    ],
    [
      'words to skip are missing',
      { source: 'item.section', vocabulary: { file: 'sections.txt' }, oov: 'skip', missing: 8 },
      1,
      [0, 8, 8, 8],
    ],
    [
      'lists: skip, pad',
      { source: 'item.tags', width: 3, vocabulary: { values: ['x', 'y'] }, offset: 1, oov: 'skip', pad: -1 },
      3,
      [1, 2, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1],
    ],
    [
      'lists: unknown words encoded',
      { source: 'item.tags', width: 3, vocabulary: { values: ['x', 'y'] }, offset: 1, oov: 9 },
      3,
      [1, 9, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0],
    ],
    [
      'lists: cut at the end',
      { source: 'item.tags', width: 1, vocabulary: { values: ['x', 'y'] }, offset: 1, oov: 'skip' },
      1,
      [1, 0, 0, 0],
    ],
    [
      'lists: cut at the front',
      { source: 'item.tags', width: 1, vocabulary: { values: ['x', 'y'] }, offset: 1, oov: 'skip', truncate: 'last' },
      1,
      [2, 0, 0, 0],
    ],
    [
      'lists: the last of them, in order, padded behind',
      {
        source: 'item.tags',
        width: 4,
        vocabulary: { values: ['x', 'y'] },
        offset: 1,
        oov: 'skip',
        truncate: 'last',
        pad: 5,
      },
      4,
      [1, 2, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5],
    ],
    [
      'lists: missing',
      { source: 'item.tags', width: 2, vocabulary: { values: ['x', 'y'] }, offset: 1, oov: 9, missing: 4 },
      2,
      [1, 9, 4, 0, 9, 0, 4, 0],
    ],
    ['lists of numbers', { source: 'item.weights', width: 2, pad: -1 }, 2, [5, 6, -1, -1, 7, -1, -1, -1]],
    ['ids', { source: 'item.id', vocabulary: { ids: 'items' }, offset: 1 }, 1, [1, 2, 3, 0]],
    ['constants', { source: 'constant', value: 0.25, width: 2 }, 2, new Array<number>(8).fill(0.25)],
    ['an absent column that may be missing', { source: 'item.nope', missing: 3 }, 1, [3, 3, 3, 3]],
  ])('%s', async (_, source, width, wanted) => {
    expect(await encoded(source, width)).toEqual(wanted);
  });
});

describe('the rest of a request', () => {
  it('repeats user, context and user embedding, and takes scores, ranks and item embeddings per candidate', async () => {
    const bound = await compile(
      {
        packed: {
          pack: [
            { source: 'user.age' },
            { source: 'context.hour', missing: 24 },
            { source: 'user_embedding' },
            { source: 'item_embedding' },
            { source: 'retrieval.score' },
            { source: 'retrieval.rank' },
          ],
        },
      },
      [spec('packed', 'float32', null, 8)],
    );
    expect(bound.needs).toEqual({
      user: ['age'],
      item: [],
      context: ['hour'],
      userEmbedding: true,
      itemEmbedding: true,
    });
    const batch = {
      rows: 2,
      itemRows: [0, 1],
      user: { age: 30 },
      userEmbedding: Float32Array.from([0.5, 0.25]),
      itemEmbeddings: Float32Array.from([1, 2, 3, 4]),
      retrievalScores: [10, 9],
      retrievalRanks: [1, 2],
    };
    expect(bound.fill(batch).packed).toEqual({
      dtype: 'float32',
      dims: [2, 8],
      data: Float32Array.from([30, 24, 0.5, 0.25, 1, 2, 10, 1, 30, 24, 0.5, 0.25, 3, 4, 9, 2]),
    });
    expect((bound.fill({ ...batch, context: { hour: 7 } }).packed!.data as Float32Array)[9]).toBe(7);
    await expectError(
      () => bound.fill({ ...batch, itemEmbeddings: new Float32Array(3) }),
      'BELFRY_INTERNAL',
      'item_embedding needs 4 values, the caller gave 3',
    );
  });

  it('encodes a user from the table as it does from typed features', async () => {
    const inputs: InputBindings = {
      x: {
        pack: [
          { source: 'user.size', missing: -2 },
          { source: 'user.free', missing: 5 },
          { source: 'user.section', vocabulary: { file: 'sections.txt' }, offset: 1, oov: 9, missing: 8 },
          {
            source: 'user.tags',
            width: 2,
            vocabulary: { values: ['x', 'y'] },
            offset: 1,
            oov: 'skip',
            missing: 6,
            truncate: 'last',
          },
          { source: 'user.weights', width: 3, pad: -1 },
        ],
      },
    };
    const bound = await compile(inputs, [spec('x', 'float32', null, 8)], { users: items });
    const rows = [0, 1, 2];
    const typed = bound.fill({ rows: 3, users: rows.map((row) => items.featuresAt(row)) });
    expect(typed).toEqual(bound.fill({ rows: 3, userRows: rows }));
    expect(typed.x!.data.slice(0, 8)).toEqual(Float32Array.from([1, 1, 1, 1, 2, 5, 6, -1]));
  });

  it('writes every dtype', async () => {
    const values = [0, 1, -1, 2 ** 33 + 5, -(2 ** 33) - 5];
    const fill = async (dtype: TensorSpec['dtype']) =>
      (await compile({ x: { source: 'retrieval.score' } }, [spec('x', dtype, null)])).fill({
        rows: 5,
        itemRows: [],
        retrievalScores: values,
      }).x!;
    expect(await fill('int64')).toEqual({ dtype: 'int64', dims: [5], data: BigInt64Array.from(values, BigInt) });
    expect((await fill('float64')).data).toEqual(Float64Array.from(values));
    expect((await fill('bool')).data).toEqual(Uint8Array.from([0, 1, 1, 1, 1]));
    expect((await fill('int32')).data.slice(0, 3)).toEqual(Int32Array.from([0, 1, -1]));
    expect((await fill('float16')).data.slice(0, 3)).toEqual(Uint16Array.from([0, 0x3c00, 0xbc00]));
  });

  it.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [Number.NEGATIVE_INFINITY, 0xfc00],
    [2 ** -14, 0x0400],
    [2 ** -24, 0x0001],
    [2 ** -25, 0],
    [1.5 * 2 ** -24, 0x0002],
    [1 + 2 ** -11, 0x3c00],
    [1 + 3 * 2 ** -11, 0x3c02],
    [0.1, 0x2e66],
    [Number.NaN, 0x7e00],
  ])('rounds %f to the float16 that NumPy gives', (value, bits) => {
    expect(float16Bits(value)).toBe(bits);
  });
});

describe('the bag form of DLRM', () => {
  const inputs: InputBindings = {
    dense_x: { pack: [{ source: 'item.size' }, { source: 'retrieval.score' }] },
    offsets: { offsets_of: ['indices_0', 'indices_1'] },
    indices_0: { layout: 'bag', source: 'item.tags', width: 10, vocabulary: { values: ['x', 'y'] }, oov: 'skip' },
    indices_1: { layout: 'bag', source: 'user.section', vocabulary: { file: 'sections.txt' }, missing: 0 },
  };
  const model = [
    spec('dense_x', 'float32', null, 2),
    spec('offsets', 'int64', 2, null),
    spec('indices_0', 'int64', null),
    spec('indices_1', 'int64', null),
  ];

  it('puts lists end to end and says where each starts', async () => {
    const bound = await compile(inputs, model);
    const feeds = bound.fill({ ...ROWS, user: { section: 'web' }, retrievalScores: [4, 3, 2, 1] });
    expect(feeds.indices_0).toEqual({ dtype: 'int64', dims: [2], data: BigInt64Array.from([0n, 1n]) });
    expect(feeds.indices_1).toEqual({ dtype: 'int64', dims: [4], data: BigInt64Array.from([1n, 1n, 1n, 1n]) });
    expect(feeds.offsets).toEqual({
      dtype: 'int64',
      dims: [2, 4],
      data: BigInt64Array.from([0n, 2n, 2n, 2n, 0n, 1n, 2n, 3n]),
    });
  });

  it('needs offsets that name the bags', async () => {
    await expectError(
      compile({ ...inputs, offsets: { offsets_of: ['indices_0', 'dense_x'] } }, model),
      'BELFRY_BINDING_MISMATCH',
      /offsets_of names dense_x, which is not an input with `layout: bag`\n.*input indices_1: `layout: bag` needs an input with `offsets_of` that names it/,
    );
  });
});
