import { describe, expect, it } from 'vitest';
import { BelfryError } from '../../../src/errors.js';
import { type Feeds, MicroBatcher, type MicroBatcherOptions } from '../../../src/inference/micro-batcher.js';
import type { TensorData } from '../../../src/types.js';
import { expectError } from '../../support/expect-error.js';
import { tensor } from '../../support/model-fixtures.js';

/** A model that doubles its input and whose runs end when the test says so. */
class FakeModel {
  readonly runs: {
    rows: number;
    finish: (change?: (output: TensorData) => TensorData) => void;
    fail: (error: Error) => void;
  }[] = [];

  readonly run = (feeds: Feeds) =>
    new Promise<{ outputs: Record<string, TensorData>; queueMs: number; runMs: number }>((resolve, reject) => {
      const x = feeds.x!;
      const doubled: TensorData = {
        dtype: 'float32',
        dims: x.dims,
        data: Float32Array.from(x.data as Float32Array, (value) => 2 * value),
      };
      this.runs.push({
        rows: x.dims[0]!,
        finish: (change = (output) => output) => resolve({ outputs: { y: change(doubled) }, queueMs: 1, runMs: 2 }),
        fail: reject,
      });
    });
}

function setUp(options: Partial<MicroBatcherOptions> = {}): {
  model: FakeModel;
  batcher: MicroBatcher;
  batches: number[];
} {
  const model = new FakeModel();
  const batches: number[] = [];
  const batcher = new MicroBatcher({
    name: 'm',
    run: model.run,
    inputs: [{ name: 'x', dtype: 'float32', shape: [null, 2] }],
    rowsMax: 4,
    queueMax: 100,
    runsMax: 1,
    onBatch: (rows) => batches.push(rows),
    ...options,
  });
  return { model, batcher, batches };
}

const row = (...values: number[]) => ({ x: tensor('float32', [values.length / 2, 2], values) });
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('joining requests', () => {
  it('sends the first at once and gathers behind it, up to rowsMax', async () => {
    const { model, batcher, batches } = setUp();
    const answers = Array.from({ length: 7 }, (_, i) => batcher.submit(row(i, i + 0.5)));
    expect(batches).toEqual([1]);
    model.runs[0]!.finish();
    await turn();
    expect(batches).toEqual([1, 4]);
    model.runs[1]!.finish();
    await turn();
    expect(batches).toEqual([1, 4, 2]);
    model.runs[2]!.finish();
    const done = await Promise.all(answers);
    done.forEach(({ outputs }, i) => {
      expect(outputs.y).toEqual(tensor('float32', [1, 2], [2 * i, 2 * i + 1]));
    });
    expect(done[6]!.queueMs).toBeGreaterThanOrEqual(1);
    expect(done[6]!.runMs).toBe(2);
  });

  it('keeps as many runs under way as there are workers', () => {
    const { batcher, batches } = setUp({ runsMax: 2 });
    for (let i = 0; i < 5; i++) void batcher.submit(row(i, i));
    expect(batches).toEqual([1, 1]);
  });

  it('takes requests of several rows, and one that is larger than a batch alone', async () => {
    const { model, batcher, batches } = setUp();
    const answers = [
      batcher.submit(row(0, 0)),
      batcher.submit(row(1, 1, 2, 2, 3, 3)),
      batcher.submit(row(4, 4, 5, 5)),
      batcher.submit(row(...new Array(12).fill(6))),
    ];
    for (let i = 0; i < 4; i++) {
      model.runs[i]!.finish();
      await turn();
    }
    expect(batches).toEqual([1, 3, 2, 6]);
    expect((await answers[2]!).outputs.y).toEqual(tensor('float32', [2, 2], [8, 8, 10, 10]));
  });

  it('does not join lists of different lengths where the model leaves the length open', async () => {
    const { model, batcher, batches } = setUp({ inputs: [{ name: 'x', dtype: 'float32', shape: [null, null] }] });
    const answers = [
      [1, 2],
      [1, 2],
      [1, 2, 3],
      [1, 2, 3],
    ].map((values) => batcher.submit({ x: tensor('float32', [1, values.length], values) }));
    for (let i = 0; i < 3; i++) {
      model.runs[i]!.finish();
      await turn();
    }
    expect(batches).toEqual([1, 1, 2]);
    await Promise.all(answers);
  });
});

describe('failures', () => {
  it('reach every member of their batch and no other', async () => {
    const { model, batcher } = setUp();
    const first = batcher.submit(row(0, 0));
    const second = [batcher.submit(row(1, 1)), batcher.submit(row(2, 2))];
    model.runs[0]!.finish();
    await first;
    await turn();
    const settled = Promise.allSettled(second);
    model.runs[1]!.fail(new BelfryError('BELFRY_MODEL_FAILED', 'boom'));
    for (const result of await settled)
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'BELFRY_MODEL_FAILED', message: 'boom' } });
    const third = batcher.submit(row(3, 3));
    model.runs[2]!.finish();
    await third;
  });

  it.each([
    ['nothing', {}, 'input x: expected float32 [rows, 2], received nothing'],
    ['another dtype', { x: tensor('int64', [1, 2], [1, 2]) }, 'received int64 [1, 2] of 2 values'],
    ['another width', { x: tensor('float32', [1, 3], [1, 2, 3]) }, 'received float32 [1, 3] of 3 values'],
    ['another rank', { x: tensor('float32', [2], [1, 2]) }, 'received float32 [2] of 2 values'],
    ['too few values', { x: tensor('float32', [1, 2], [1]) }, 'received float32 [1, 2] of 1 values'],
  ])('refuse %s before it can spoil a batch', async (_, feeds, message) => {
    const { batcher, batches } = setUp();
    await expectError(batcher.submit(feeds), 'BELFRY_BINDING_MISMATCH', message);
    expect(batches).toEqual([]);
  });

  it('tell outputs without one row per request', async () => {
    const { model, batcher } = setUp();
    const answers = [batcher.submit(row(0, 0)), batcher.submit(row(1, 1)), batcher.submit(row(2, 2))];
    model.runs[0]!.finish();
    await answers[0];
    await turn();
    model.runs[1]!.finish(() => tensor('float32', [1, 2], [0, 0]));
    await expectError(
      answers[1]!,
      'BELFRY_MODEL_OUTPUT_INVALID',
      'model m, output y: expected 2 rows, received [1, 2]',
    );
    await expectError(answers[2]!, 'BELFRY_MODEL_OUTPUT_INVALID', 'expected 2 rows');
  });

  it('shed what exceeds the queue', async () => {
    const { batcher } = setUp({ queueMax: 2 });
    for (let i = 0; i < 3; i++) void batcher.submit(row(i, i));
    expect(
      (await expectError(batcher.submit(row(9, 9)), 'BELFRY_OVERLOADED', 'model m: 2 requests are waiting')).limit,
    ).toBe(2);
  });

  it('end at close: taken requests are answered first', async () => {
    const { model, batcher } = setUp();
    const answers = [batcher.submit(row(0, 0)), batcher.submit(row(1, 1))];
    let isClosed = false;
    const closing = batcher.close().then(() => {
      isClosed = true;
    });
    await expectError(batcher.submit(row(2, 2)), 'BELFRY_CLOSED', 'model m is closed');
    model.runs[0]!.finish();
    await turn();
    expect(isClosed).toBe(false);
    model.runs[1]!.finish();
    await Promise.all([...answers, closing]);
  });
});

it('drops what is past its deadline when its turn comes, and runs the rest', async () => {
  const { model, batcher, batches } = setUp();
  const first = batcher.submit(row(1, 1));
  const late = batcher.submit(row(2, 2), performance.now() - 1);
  const inTime = batcher.submit(row(3, 3), performance.now() + 60_000);
  const dropped = expectError(late, 'BELFRY_DEADLINE_EXCEEDED', 'model m: the deadline passed before it was run');
  model.runs[0]!.finish();
  await dropped;
  await first;
  await turn();
  model.runs[1]!.finish();
  expect((await inTime).outputs.y!.data).toEqual(Float32Array.of(6, 6));
  expect(batches).toEqual([1, 1]);
});
