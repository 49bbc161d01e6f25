/** Rows written in place are those that are encoded number by number. */
import { describe, expect, it } from 'vitest';
import type { FeatureSource, InputBindings } from '../../../src/features/binding-schema.js';
import type { CandidateWriter } from '../../../src/features/candidate-rows.js';
import { RowTables } from '../../../src/features/row-tables.js';
import type { BindableDtype } from '../../../src/features/tensor-writer.js';
import type { TensorSpec } from '../../../src/types.js';
import { compile, ROWS, spec } from '../../support/binding-fixtures.js';

const vocabulary = { values: ['net', 'web', 'x', 'y'] };
const SOURCES: FeatureSource[] = [
  { source: 'user.age', missing: 7 },
  { source: 'user.tags', width: 4, vocabulary, offset: 1, oov: 'skip', pad: 0 },
  { source: 'context.hour' },
  { source: 'constant', value: 3 },
  { source: 'item.section', vocabulary, offset: 1, oov: 0, missing: 5 },
  { source: 'item.free', missing: 1 },
  { source: 'item.tags', width: 3, vocabulary, offset: 1, oov: 'skip', pad: 9 },
  { source: 'item.tags', width: 1, vocabulary, offset: 1, oov: 2, truncate: 'last', missing: 8 },
  { source: 'item.tags', width: 2, vocabulary, offset: 1, oov: 'skip', truncate: 'last', missing: 6, pad: 4 },
  { source: 'item.weights', width: 2, missing: 3, pad: 1 },
  { source: 'item.nothing', width: 2, missing: 2, pad: 1 },
  { source: 'item.nothing', missing: 2 },
  { source: 'retrieval.rank' },
];
const DTYPES: BindableDtype[] = ['float32', 'float64', 'int32', 'int64', 'float16'];
const given = {
  ...ROWS,
  user: { age: 30, tags: ['y', 'odd', 'net'] },
  context: { hour: 5 },
  retrievalScores: [9, 8, 7.5, 7],
  retrievalRanks: [1, 2, 3, 4],
  itemEmbeddings: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8),
};

/**
 * Both ways: features of changed items, though there are none, send the rows number by number. Those of candidates come from
 * tables of rows, those of other models from the columns.
 */
async function bothWays(inputs: InputBindings, model: TensorSpec[]) {
  const bound = await compile(inputs, model);
  const tabled = await compile(inputs, model, { isPerCandidate: true });
  const fast = bound.fill(given);
  expect(tabled.fill(given)).toEqual(fast);
  return [fast, bound.fill({ ...given, itemFeatures: [] })] as const;
}

describe('rows of candidates', () => {
  it.each(DTYPES)('%s: all sources in one matrix, and each alone', async (dtype) => {
    const width = SOURCES.reduce((sum, source) => sum + (source.width ?? 1), 0);
    const [fast, slow] = await bothWays({ x: { pack: SOURCES } }, [spec('x', dtype, null, width)]);
    expect(fast).toEqual(slow);
    for (const source of SOURCES) {
      const [one, other] = await bothWays({ x: source }, [spec('x', dtype, null, source.width ?? 1)]);
      expect(one, source.source).toEqual(other);
    }
  });

  it('numbers with a sign or beyond 32 bits keep their high half', async () => {
    const sources: FeatureSource[] = [
      { source: 'item.long' },
      { source: 'item.section', vocabulary, missing: -1 },
      { source: 'item.tags', width: 3, vocabulary, oov: 'skip', pad: -2 },
      { source: 'user.age', missing: -5 },
      { source: 'constant', value: -(2 ** 40) },
    ];
    for (const pack of [sources, ...sources.map((source) => [source])]) {
      const width = pack.reduce((sum, source) => sum + (source.width ?? 1), 0);
      const [fast, slow] = await bothWays({ x: { pack } }, [spec('x', 'int64', null, width)]);
      expect(fast).toEqual(slow);
    }
    const [{ x }] = await bothWays({ x: { source: 'constant', value: -(2 ** 40) } }, [spec('x', 'int64', null)]);
    expect(x!.data).toEqual(BigInt64Array.from({ length: 4 }, () => -(2n ** 40n)));
  });

  it('embeddings and scores beside other columns', async () => {
    const pack = [{ source: 'item_embedding' }, { source: 'retrieval.score' }, { source: 'item.size', missing: -1 }];
    for (const dtype of ['float32', 'float64'] as const) {
      const [fast, slow] = await bothWays({ x: { pack } }, [spec('x', dtype, null, 4)]);
      expect(fast).toEqual(slow);
      expect([...(fast.x!.data as Float32Array)].slice(0, 8)).toEqual([1, 2, 9, 1, 3, 4, 8, -1]);
    }
  });
});

describe('tables of rows', () => {
  const slot = (column: number, writes = true) => ({
    slot: { width: 1 },
    side: 'item',
    column,
    encoder: (rows: ArrayLike<number>, out: Float64Array, stride: number, at: number) => {
      for (let i = 0; i < rows.length; i++) out[at + i * stride] = 100 * rows[i]! + column;
    },
    writer: writes ? () => undefined : null,
  });
  const written = (writer: CandidateWriter) => {
    const out = new Float32Array(8).fill(-1);
    writer(Int32Array.of(299, -1), out, 4, 1, 1);
    return [...out];
  };

  it('join what lies side by side; beyond their bytes, columns write', async () => {
    const tables = new RowTables(300, 300 * 2 * 4 + 4);
    const slots = [slot(1), slot(2), slot(3, false), slot(4)];
    const [first, second, third, fourth] = await tables.joined(slots, 'float32');
    expect(written(first!.writer!)).toEqual([-1, 29901, 29902, -1, -1, -1, -1, -1]);
    expect(written(second!.writer!)).toEqual(Array(8).fill(-1));
    expect(third).toBe(slots[2]);
    expect(fourth).toBe(slots[3]);
  });
});
