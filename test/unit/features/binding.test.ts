import { Value } from 'typebox/value';
import { describe, expect, it } from 'vitest';
import { type CompileOptions, compileBinding } from '../../../src/features/binding.js';
import { type InputBindings, InputBindingSchema } from '../../../src/features/binding-schema.js';
import type { FeatureColumn } from '../../../src/features/feature-column.js';
import { FeatureTable } from '../../../src/features/feature-table.js';
import { float16Bits } from '../../../src/features/tensor-writer.js';
import { readVocabularyFile } from '../../../src/features/vocabulary.js';
import type { TensorSpec } from '../../../src/types.js';
import { expectError, fileWith } from '../../support/model-fixtures.js';

const id: FeatureColumn = {
  kind: 'string',
  name: 'id',
  codes: Int32Array.from([0, 1, 2]),
  dictionary: ['a', 'b', 'c'],
};
const items = FeatureTable.fromColumns(
  [
    id,
    { kind: 'number', name: 'size', values: Float64Array.from([1, Number.NaN, 2.5]) },
    { kind: 'boolean', name: 'free', values: Uint8Array.from([1, 0, 2]) },
    { kind: 'string', name: 'section', codes: Int32Array.from([0, -1, 1]), dictionary: ['net', 'odd'] },
    {
      kind: 'string_list',
      name: 'tags',
      offsets: Uint32Array.from([0, 3, 3, 4]),
      codes: Int32Array.from([0, 1, 2, 1]),
      dictionary: ['x', 'odd', 'y'],
    },
    {
      kind: 'number_list',
      name: 'weights',
      offsets: Uint32Array.from([0, 2, 2, 3]),
      values: Float64Array.from([5, 6, 7]),
    },
  ],
  { name: 'features/items.parquet' },
);
const vocabularies = {
  file: (path: string) => Promise.resolve(path === 'sections.txt' ? ['net', 'web'] : ['x', 'y', 'z', 'x']),
  ids: () => ['a', 'b', 'c'],
};

function compile(inputs: InputBindings, model: TensorSpec[], options: Partial<CompileOptions> = {}) {
  return compileBinding({ name: 'm@1', inputs, model: { inputs: model }, vocabularies, dims: 2, items, ...options });
}
const spec = (name: string, dtype: TensorSpec['dtype'], ...shape: (number | null)[]): TensorSpec => ({
  name,
  dtype,
  shape,
});
const ROWS = { rows: 4, itemRows: [0, 1, 2, -1] };

/** The bound source alone, in one float64 input. */
async function encoded(
  source: InputBindings[string] & object,
  width: number,
  options: Partial<CompileOptions> = {},
): Promise<number[]> {
  const bound = await compile({ x: source }, [spec('x', 'float64', null, width)], options);
  return Array.from(bound.fill(ROWS).x!.data as Float64Array);
}

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

describe('bindings that do not fit (fault M3)', () => {
  it.each<[string, InputBindings, TensorSpec[], string]>([
    [
      'an input of another name',
      { y: { source: 'item.size' } },
      [spec('x', 'float32', null)],
      'input y: bound, but the model has no such input; it has x\n  - input x float32 [N]: not bound; add it under `inputs:` in registry.yaml',
    ],
    [
      'another dtype',
      { x: { dtype: 'int64', source: 'item.size' } },
      [spec('x', 'float32', null, 1)],
      'input x: bound as int64, the model wants float32 [N, 1]',
    ],
    [
      'a dtype that no binding feeds',
      { x: { source: 'item.size' } },
      [spec('x', 'string', null)],
      'input x: the model wants string, which no binding can feed; cast inside the graph',
    ],
    [
      'another width',
      { x: { pack: [{ source: 'item.size' }, { source: 'item.free' }] } },
      [spec('x', 'float32', null, 3)],
      'input x: bound with width 2, the model wants float32 [N, 3]',
    ],
    [
      'another rank',
      { x: { source: 'item.size' } },
      [spec('x', 'float32', null, 1, 1)],
      'input x: bound with width 1, the model wants float32 [N, 1, 1]',
    ],
    [
      'a list for a flat input',
      { x: { source: 'item.tags', width: 2, vocabulary: { values: ['x'] } } },
      [spec('x', 'float32', null)],
      'input x: bound with width 2, the model wants float32 [N]',
    ],
    [
      'no such column',
      { x: { source: 'item.sise' } },
      [spec('x', 'float32', null)],
      'input x, source item.sise: there is no such item column; columns: size, free, section, tags, weights; set `missing:` if the model may run without it',
    ],
    [
      'strings without a vocabulary',
      { x: { source: 'item.section' } },
      [spec('x', 'float32', null)],
      'column section of features/items.parquet does not fit: it holds strings, so it needs a vocabulary',
    ],
    [
      'a scalar column with a width',
      { x: { source: 'item.size', width: 3 } },
      [spec('x', 'float32', null, 3)],
      'column size of features/items.parquet does not fit: it is a number column, and width 3 needs a list',
    ],
    [
      'fractions in an integer input',
      { x: { source: 'item.size' } },
      [spec('x', 'int64', null)],
      'does not fit: it holds 2.5, and the input takes whole numbers',
    ],
    [
      'a constant without a value',
      { x: { source: 'constant' } },
      [spec('x', 'float32', null)],
      'source constant: needs `value`',
    ],
    [
      'a value that is no constant',
      { x: { source: 'item.size', value: 1 } },
      [spec('x', 'float32', null)],
      '`value` belongs to `source: constant`',
    ],
    [
      'an embedding of other dims',
      { x: { source: 'item_embedding', width: 3 } },
      [spec('x', 'float32', null, 3)],
      'source item_embedding: has 2 dims, bound with width 3',
    ],
    [
      'a vocabulary for a number',
      { x: { source: 'retrieval.score', vocabulary: { ids: 'items' } } },
      [spec('x', 'float32', null)],
      'is a number, so it takes no vocabulary',
    ],
    [
      'indices that float16 cannot hold',
      { x: { source: 'item.section', vocabulary: { file: 'sections.txt' }, offset: 5000 } },
      [spec('x', 'float16', null)],
      'index 5001 is not exact in float16 (up to 2048)',
    ],
    [
      'a vocabulary with a word twice',
      { x: { source: 'item.tags', vocabulary: { file: 'twice.txt' } } },
      [spec('x', 'float32', null)],
      'twice.txt: "x" stands at position 0 and at 3; each word must be there once',
    ],
  ])('%s', async (_, inputs, model, message) => {
    const error = await expectError(compile(inputs, model), 'BELFRY_BINDING_MISMATCH', message);
    if (!message.includes('twice.txt'))
      expect(error.message).toMatch(/^model m@1 does not fit its binding:\n {2}- input /);
  });

  it('tells all of them at once', async () => {
    const error = await expectError(
      compile({ a: { source: 'item.nope' }, b: { dtype: 'int32', source: 'item.size' } }, [
        spec('a', 'float32', null),
        spec('b', 'float32', null),
        spec('c', 'int64', null, 2),
      ]),
      'BELFRY_BINDING_MISMATCH',
      'm@1',
    );
    expect(error.message.split('\n  - ').length).toBe(4);
  });

  it('reads vocabulary files line by line', async () => {
    const path = fileWith('words.txt', 'net\r\nweb\n\nmail\n');
    expect(await readVocabularyFile(path, 'words.txt')).toEqual(['net', 'web', '', 'mail']);
    await expectError(
      readVocabularyFile(fileWith('bad.txt', Uint8Array.from([0xff, 0xfe])), 'bad.txt'),
      'BELFRY_FILE_UNREADABLE',
      'vocabulary bad.txt: ',
    );
    await expectError(
      readVocabularyFile('/nonexistent/words.txt', 'words.txt'),
      'BELFRY_FILE_UNREADABLE',
      'vocabulary words.txt: ENOENT',
    );
  });
});

describe('the form of a binding in registry.yaml', () => {
  it.each<[boolean, unknown]>([
    [
      true,
      {
        x: {
          source: 'user.history',
          width: 32,
          vocabulary: { file: 'words.txt' },
          offset: 1,
          oov: 'skip',
          pad: 0,
          truncate: 'last',
        },
      },
    ],
    [true, { x: { dtype: 'int64', pack: [{ source: 'retrieval.rank' }, { source: 'constant', value: 1 }] } }],
    [
      true,
      {
        indices: { layout: 'bag', source: 'item.tags', width: 9 },
        offsets: { dtype: 'int64', offsets_of: ['indices'] },
      },
    ],
    [false, { x: { source: 'nobody.age' } }],
    [false, { x: { source: 'retrieval.place' } }],
    [false, { x: { source: 'item.size', witdh: 3 } }],
    [false, { x: { source: 'item.size', width: 0 } }],
    [false, { x: { source: 'item.size', oov: 'drop' } }],
    [false, { x: { dtype: 'int8', source: 'item.size' } }],
    [false, { x: { pack: [] } }],
    [false, { x: { pack: [{ source: 'item.a' }], source: 'item.b' } }],
    [false, { x: { source: 'item.a', vocabulary: { file: 'a', ids: 'items' } } }],
  ])('%j %j', (isFine, value) => {
    expect(Value.Check(InputBindingSchema, value)).toBe(isFine);
  });
});
