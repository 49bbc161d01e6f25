import { afterEach, describe, expect, it, vi } from 'vitest';
import { BelfryError } from '../../../src/errors.js';
import type { InputBindings } from '../../../src/features/binding-schema.js';
import { FeatureTable } from '../../../src/features/feature-table.js';
import { MicroBatcher } from '../../../src/inference/micro-batcher.js';
import { UserTower, type UserTowerOptions } from '../../../src/tower/user-tower.js';
import type { Features } from '../../../src/types.js';
import { expectError } from '../../support/expect-error.js';
import { expectClose, expected, modelPath } from '../../support/model-fixtures.js';

const vocabularies = { file: () => Promise.resolve(['a', 'b', 'c', 'd', 'e']), ids: () => ['a', 'b', 'c', 'd', 'e'] };
const PACKED: InputBindings = {
  user_features: {
    dtype: 'float32',
    pack: [
      { source: 'user.history', width: 3, vocabulary: { ids: 'items' }, offset: 1, oov: 'skip' },
      { source: 'user.section', vocabulary: { values: ['net', 'web', 'mail'] }, offset: 1 },
      { source: 'user.size' },
    ],
  },
};
/** The rows that make_models.py recorded, as a caller types them. */
const TYPED: Features[] = [
  { history: ['a', 'b'], section: 'net', size: 0.5 },
  { history: ['e', 'unknown'], section: 'unknown', size: -1 },
  { history: ['c', 'd', 'e', 'a'], section: 'mail', size: 2 },
  { history: [], section: null },
];
const wanted = expected.user_tower![0]!.outputs.user_embedding!.data;

const opened: UserTower[] = [];
afterEach(async () => {
  for (const tower of opened.splice(0)) await tower.close();
});

async function open(file: string, options: Partial<UserTowerOptions> = {}): Promise<UserTower> {
  const tower = await UserTower.open({
    name: 'tower@1',
    modelPath: modelPath(file),
    dims: 4,
    vocabularies,
    ...options,
  });
  opened.push(tower);
  return tower;
}

describe('embedding a user', () => {
  it('packs typed features into what Python was given, one by one and in bulk', async () => {
    const tower = await open('user_tower.onnx', { inputs: PACKED });
    expect(tower.isCut).toBe(false);
    for (const [i, features] of TYPED.slice(0, 3).entries()) {
      const { vector, queueMs, runMs } = await tower.embed(features);
      expectClose(vector, wanted.slice(4 * i, 4 * i + 4));
      expect(queueMs).toBeGreaterThanOrEqual(0);
      expect(runMs).toBeGreaterThan(0);
    }
    const many = await tower.embedMany(TYPED.slice(0, 3));
    expect([many.rows, many.dims]).toEqual([3, 4]);
    expectClose(many.data, wanted.slice(0, 12));
  });

  it('gives 64 concurrent callers what each gets alone, in fewer runs', async () => {
    const batches: number[] = [];
    const tower = await open('user_tower.onnx', { inputs: PACKED, onBatch: (rows) => batches.push(rows) });
    const users = Array.from({ length: 64 }, (_, i): Features => ({ ...TYPED[i % 3], size: i / 7 + 0.1 }));
    const alone: Float32Array[] = [];
    for (const user of users) alone.push((await tower.embed(user)).vector);
    batches.length = 0;
    const together = await Promise.all(users.map((user) => tower.embed(user)));
    together.forEach(({ vector }, i) => expectClose(vector, alone[i]!, 1e-5));
    expect(batches.reduce((sum, rows) => sum + rows, 0)).toBe(64);
    expect(batches.length).toBeLessThan(6);
  });

  it('runs a combined two_tower.onnx without item inputs, and ignores their binding', async () => {
    const tower = await open('two_tower.onnx', {
      dims: 8,
      inputs: {
        user_history: { source: 'user.history', width: 4, vocabulary: { file: 'items.txt' }, offset: 1 },
        user_dense: { pack: [{ source: 'user.x' }, { source: 'user.y' }] },
        item_index: { source: 'item.row' },
      },
    });
    expect(tower.isCut).toBe(true);
    expect(tower.inputs.map((input) => input.name)).toEqual(['user_history', 'user_dense']);
    for (const recorded of expected.two_tower!) {
      const [x, y] = recorded.feeds.user_dense!.data;
      const { vector } = await tower.embed({ history: ['a', 'b', 'c'], x: x!, y: y! });
      expectClose(vector, recorded.outputs.user_embedding!.data);
    }
  });

  it('binds inputs to equally named columns when the registry says nothing', async () => {
    const users = FeatureTable.fromColumns([
      { kind: 'string', name: 'id', codes: Int32Array.from([0, 1]), dictionary: ['u', 'v'] },
      {
        kind: 'number_list',
        name: 'user_features',
        offsets: Uint32Array.from([0, 5, 10]),
        values: Float64Array.from([1, 2, 0, 1, 0.5, 5, 0, 0, 0, -1]),
      },
    ]);
    const tower = await open('user_tower.onnx', { users });
    expect([...tower.knownFeatures]).toEqual(['user_features']);
    expectClose((await tower.embedRows([1, 0])).data, [...wanted.slice(4, 8), ...wanted.slice(0, 4)]);
    await expectError(
      UserTower.open({ name: 'tower@1', modelPath: modelPath('user_tower.onnx'), dims: 4, vocabularies }),
      'BELFRY_BINDING_MISMATCH',
      'model tower@1 has no `inputs:` in registry.yaml and cannot be bound by name:\n  - input user_features float32 [N, 5]: no user feature column has this name',
    );
  });
});

describe('names and numbers of a request', () => {
  const inputs: InputBindings = {
    user_features: {
      pack: [
        { source: 'user.constructor', width: 4, vocabulary: { values: ['a'] }, offset: 1 },
        { source: 'user.code', vocabulary: { values: [10, 20, 'other'] }, oov: 2 },
      ],
    },
  };

  it('does not take what every object inherits for a feature', async () => {
    const tower = await open('user_tower.onnx', { inputs });
    await expectError(
      tower.embed({}),
      'BELFRY_INVALID_FEATURES',
      'features: expected at least one of constructor, code',
    );
    expect((await tower.embed({ code: 'other' })).vector.length).toBe(4);
  });

  it('takes numbers for a vocabulary of numbers that ends in a word', async () => {
    const tower = await open('user_tower.onnx', { inputs });
    expect((await tower.embed({ code: 20 })).vector).toEqual((await tower.embed({ code: '20' })).vector);
  });

  it('keeps the message about a long name short', async () => {
    const tower = await open('user_tower.onnx', { inputs });
    const error = await expectError(
      tower.embed({ ['x'.repeat(100_000)]: 1 }),
      'BELFRY_INVALID_FEATURES',
      /^features\.x{77}\.\.\.: unknown feature; expected one of code, constructor$/,
    );
    expect(error.field).toBe(`features.${'x'.repeat(77)}...`);
  });
});

describe('features of a request that do not fit', () => {
  it.each<[Features, string]>([
    [{ histroy: ['a'] }, 'features.histroy: unknown feature; expected one of also, history, section, size'],
    [{ history: 'a' }, 'features.history: expected a list of strings, received "a"'],
    [{ history: ['a', 7] }, 'features.history: expected a list of strings, received 7'],
    [{ section: ['net'] }, 'features.section: expected a single string, received ["net"]'],
    [{ section: 3 }, 'features.section: expected a string, received 3'],
    [{ size: 'large' }, 'features.size: expected a number, received "large"'],
    [{ size: Number.NaN }, 'features.size: expected a number, received NaN'],
    [{ size: 1e308 }, 'features.size: expected a number within ±3.4028234663852886e+38, received 1e+308'],
    [{ section: 'x'.repeat(2000) }, 'features.section: expected a string of at most 1024 characters'],
    [{ history: new Array<string>(5000).fill('a') }, 'features.history: expected at most 4096 entries, received 5000'],
    [{}, 'features: expected at least one of history, section, size'],
    [{ also: 1 }, 'features: expected at least one of history, section, size'],
    [{ section: null }, 'features: expected at least one of history, section, size'],
  ])('%j', async (features, message) => {
    const tower = await open('user_tower.onnx', { inputs: PACKED, alsoKnown: ['also'] });
    const error = await expectError(tower.embed(features), 'BELFRY_INVALID_FEATURES', message);
    expect(error.statusCode).toBe(422);
    expect(message.startsWith(error.field!)).toBe(true);
  });
});

describe('outputs that are not embeddings (fault V3)', () => {
  const numbers = {
    x: { pack: [{ source: 'user.a' }, { source: 'user.b' }, { source: 'user.c' }, { source: 'user.d' }] },
  };

  it('not finite: only for the user who got it, also within a batch', async () => {
    const tower = await open('nan_output.onnx', { inputs: numbers });
    const results = await Promise.allSettled(
      [{ a: 4 }, { a: 1, b: -1 }, { b: 9 }].map((features) => tower.embed(features)),
    );
    expect(results.map((result) => result.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    await expectError(
      tower.embed({ a: 1, b: -1 }),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'model tower@1: the embedding of the features of the request is not finite: NaN in dim 1',
    );
    await expectError(
      tower.embedMany([{ a: 1 }, { c: -1 }]),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'the embedding of row 1 is not finite: NaN in dim 2',
    );
  });

  it('zero', async () => {
    const tower = await open('zero_output.onnx', { inputs: numbers });
    await expectError(
      tower.embed({ a: 4 }),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'the embedding of the features of the request is zero',
    );
  });

  it('one row for all users of a batch', async () => {
    const tower = await open('one_row.onnx', { inputs: numbers });
    await expectError(
      tower.embedMany([{ a: 1 }, { a: 2 }]),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'model tower@1, output y: expected [2, 4], received [1, 4]',
    );
  });

  it('of other dims than the items: at load', async () => {
    await expectError(
      UserTower.open({
        name: 'tower@1',
        modelPath: modelPath('user_tower.onnx'),
        dims: 64,
        vocabularies,
        inputs: PACKED,
      }),
      'BELFRY_BINDING_MISMATCH',
      'model tower@1, output user_embedding float32 [N, 4]: expected 64 dims, those of the item embeddings, received 4',
    );
  });
});

describe('closing', () => {
  it('answers what was taken, then refuses', async () => {
    const tower = await open('user_tower.onnx', { inputs: PACKED });
    const taken = Promise.all(Array.from({ length: 20 }, () => tower.embed(TYPED[0]!)));
    await tower.close();
    expect((await taken).length).toBe(20);
    await expectError(tower.embed(TYPED[0]!), 'BELFRY_CLOSED', 'model tower@1 is closed');
  });
});

describe('a model that fails again and again', () => {
  it('is left alone for a moment', async () => {
    const tower = await open('user_tower.onnx', { inputs: PACKED });
    const submit = vi
      .spyOn(MicroBatcher.prototype, 'submit')
      .mockRejectedValue(new BelfryError('BELFRY_MODEL_FAILED', 'broken'));
    try {
      for (let i = 0; i < 5; i++) await expectError(tower.embed(TYPED[0]!), 'BELFRY_MODEL_FAILED', 'broken');
      await expectError(tower.embed(TYPED[0]!), 'BELFRY_CIRCUIT_OPEN', 'tower@1 failed (broken)');
      expect(submit).toHaveBeenCalledTimes(5);
    } finally {
      submit.mockRestore();
    }
  });
});
