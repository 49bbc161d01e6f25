import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { OnnxModel, type OnnxModelOptions, workerFile } from '../../../src/inference/onnx-model.js';
import type { TensorData } from '../../../src/types.js';
import { expectError } from '../../support/expect-error.js';
import { expectClose, expected, feedsOf, fileWith, modelPath, tensor } from '../../support/model-fixtures.js';

const opened: OnnxModel[] = [];
afterEach(async () => {
  for (const model of opened.splice(0)) await model.close();
});

async function open(file: string, options: Partial<OnnxModelOptions> = {}): Promise<OnnxModel> {
  const model = await OnnxModel.open({ name: 'm', source: { path: modelPath(file) }, ...options });
  opened.push(model);
  return model;
}

const rounds = (count: number) => ({ rounds: tensor('int64', [], [count]) });
/** About 8 microseconds a round on the machine where this was written. */
const LONG = rounds(20_000);

describe('running a model in a worker', () => {
  it.each(['user_tower', 'scorer'])('gives what Python onnxruntime gives: %s', async (name) => {
    const model = await open(`${name}.onnx`);
    for (const recorded of expected[name]!) {
      const run = await model.run(feedsOf(recorded, model.info.inputs));
      for (const [output, wanted] of Object.entries(recorded.outputs)) {
        expect(run.outputs[output]!.dims).toEqual(wanted.dims);
        expectClose(run.outputs[output]!.data as Float32Array, wanted.data);
      }
      expect(run.queueMs).toBeGreaterThanOrEqual(0);
      expect(run.runMs).toBeGreaterThan(0);
    }
  });

  it.skipIf(process.platform !== 'linux')('yields to the threads of requests', async () => {
    const tasks = () => new Set(readdirSync('/proc/self/task'));
    // After the command, which may hold anything: fields 3 and on of proc(5), of which nice is the 19th.
    const niceOf = (task: string) =>
      Number(readFileSync(`/proc/self/task/${task}/stat`, 'utf8').split(') ').at(-1)!.split(' ')[16]);
    const before = tasks();
    const own = getPriority();
    await open('user_tower.onnx', { workers: 2 });
    const nice = [...tasks()].filter((task) => !before.has(task)).map(niceOf);
    expect(nice.filter((value) => value === Math.max(5, own)).length).toBeGreaterThanOrEqual(2);
    expect(getPriority()).toBe(own);
  });

  it('gives buffers that were handed over back with the answer', async () => {
    const model = await open('user_tower.onnx');
    const made = (): Record<string, TensorData> => feedsOf(expected.user_tower![0]!, model.info.inputs);
    const feeds = made();
    const sizes = Object.values(feeds).map(({ data }) => (data as Float32Array).buffer.byteLength);
    const { returned } = await model.run(feeds, { remake: made });
    expect(Object.values(feeds).map(({ data }) => (data as Float32Array).buffer.byteLength)).toEqual(
      sizes.map(() => 0),
    );
    expect(returned.map(({ byteLength }) => byteLength)).toEqual(sizes);
    expect((await model.run(made())).returned).toEqual([]);
  });

  it('leaves the caller its feeds', async () => {
    const model = await open('user_tower.onnx');
    const feeds = { user_features: tensor('float32', [1, 5], [1, 2, 3, 1, 0.5]) };
    const first = await model.run(feeds);
    expect(feeds.user_features.data.length).toBe(5);
    expect(await model.run(feeds)).toMatchObject({ outputs: first.outputs });
  });

  it('does not hold up the event loop', async () => {
    const model = await open('slow.onnx');
    await model.run(rounds(1));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 2);
    const started = performance.now();
    await model.run(LONG);
    clearInterval(timer);
    const elapsed = performance.now() - started;
    // A blocked loop gives none or one; half of what would fit is far from both.
    expect(ticks).toBeGreaterThan(elapsed / 2 / 4);
  });

  it('tells BELFRY_MODEL_FAILED with the reason, and goes on', async () => {
    const model = await open('user_tower.onnx');
    await expectError(
      model.run({ user_features: tensor('float32', [1, 3], [1, 2, 3]) }),
      'BELFRY_MODEL_FAILED',
      /^model m: .*(dimension|Slice|Gather|concat)/is,
    );
    await expectError(model.run({}), 'BELFRY_MODEL_FAILED', "input 'user_features' is missing");
    const recorded = expected.user_tower![0]!;
    expect((await model.run(feedsOf(recorded, model.info.inputs))).outputs.user_embedding!.dims).toEqual([4, 4]);
  });

  it('retries a task that never reached the model once, then says so and goes on', async () => {
    const model = await open('user_tower.onnx');
    const uncloneable = { dtype: 'float32', dims: [1, 5], data: Object.assign([], { toString: () => '' }) } as never;
    await expectError(
      model.run({ user_features: uncloneable }),
      'BELFRY_MODEL_FAILED',
      /^model m: its worker ended: .*could not be cloned/,
    );
    expect(model.pending).toBe(0);
    const run = await model.run({ user_features: tensor('float32', [1, 5], [1, 2, 3, 1, 0.5]) });
    expect(run.outputs.user_embedding!.dims).toEqual([1, 4]);
  });

  it('takes over feeds that can be made again, and makes them again for the retry', async () => {
    const model = await open('user_tower.onnx');
    const make = () => ({ user_features: tensor('float32', [1, 5], [1, 2, 3, 1, 0.5]) });
    const feeds = make();
    const wanted = await model.run(make());
    expect(await model.run(feeds, { remake: make })).toMatchObject({ outputs: wanted.outputs });
    expect(feeds.user_features.data.length).toBe(0); // moved, not copied
    // A task that never reaches the model: its buffers may be gone already.
    expect(await model.run(feeds, { remake: make })).toMatchObject({ outputs: wanted.outputs });
  });

  it('W1: workers that die again and again are left alone for a moment, and tried again', async () => {
    const model = await open('user_tower.onnx');
    const uncloneable = { dtype: 'float32', dims: [1, 5], data: Object.assign([], { toString: () => '' }) } as never;
    for (let crash = 0; crash < 3; crash++)
      await expectError(model.run({ user_features: uncloneable }), 'BELFRY_MODEL_FAILED', 'its worker ended');
    const good = { user_features: tensor('float32', [1, 5], [1, 2, 3, 1, 0.5]) };
    await expectError(
      model.run(good),
      'BELFRY_CIRCUIT_OPEN',
      /^the worker of model m failed .*; it is tried again in \d+ ms$/,
    );
    await vi.waitFor(async () => expect((await model.run(good)).outputs.user_embedding!.dims).toEqual([1, 4]), 3000);
  });

  it('W1: is not run again for a caller who has gone', async () => {
    const model = await open('user_tower.onnx');
    const uncloneable = { dtype: 'float32', dims: [1, 5], data: Object.assign([], { toString: () => '' }) } as never;
    let made = 0;
    const gone = new AbortController();
    const running = model.run(
      { user_features: uncloneable },
      { signal: gone.signal, remake: () => (made++, { user_features: uncloneable }) },
    );
    gone.abort();
    await expectError(running, 'BELFRY_DEADLINE_EXCEEDED', 'the deadline passed');
    await vi.waitFor(() => expect(model.pending).toBe(0));
    expect(made).toBe(0);
  });

  it('works with several workers', async () => {
    const model = await open('slow.onnx', { workers: 2 });
    const runs = await Promise.all(Array.from({ length: 6 }, () => model.run(rounds(500))));
    for (const run of runs) expectClose(run.outputs.y!.data as Float32Array, [1], 1e-3);
  });
});

describe('limits', () => {
  it('sheds what exceeds the queue', async () => {
    const model = await open('slow.onnx', { maxQueue: 2 });
    const accepted = [model.run(rounds(2000)), model.run(rounds(1)), model.run(rounds(1))];
    const error = await expectError(model.run(rounds(1)), 'BELFRY_OVERLOADED', 'model m: 2 runs are waiting');
    expect(error.limit).toBe(2);
    await Promise.all(accepted);
    await model.run(rounds(1));
  });

  it('abandons a run at its deadline, drops one that waits, and lives on', async () => {
    let runs = 0;
    const model = await open('slow.onnx', { onRun: () => runs++ });
    const signal = AbortSignal.timeout(20);
    const started = performance.now();
    const running = model.run(LONG, { signal });
    const waiting = model.run(LONG, { signal });
    await expectError(running, 'BELFRY_DEADLINE_EXCEEDED', 'model m: the deadline passed before it answered');
    await expectError(waiting, 'BELFRY_DEADLINE_EXCEEDED', 'the deadline passed');
    expect(performance.now() - started).toBeLessThan(120);
    await expectError(model.run(LONG, { signal }), 'BELFRY_DEADLINE_EXCEEDED', 'the deadline passed');
    expectClose((await model.run(rounds(1))).outputs.y!.data as Float32Array, [1], 1e-3);
    expect(runs).toBe(2);
  });

  it('drains on close: what was taken is answered, what comes later is refused', async () => {
    const model = await open('slow.onnx');
    const taken = [model.run(LONG), model.run(rounds(3))];
    const closing = model.close();
    await expectError(model.run(rounds(1)), 'BELFRY_CLOSED', 'model m is closed');
    await closing;
    expect(model.pending).toBe(0);
    for (const run of await Promise.all(taken)) expect(run.outputs.y!.dims).toEqual([]);
    await model.close();
  });

  it('closes while an abandoned run is still inside the worker, without an abort of the process', async () => {
    const model = await open('slow.onnx');
    const abandoned = model.run(LONG, { signal: AbortSignal.timeout(10) });
    await expectError(abandoned, 'BELFRY_DEADLINE_EXCEEDED', 'the deadline passed');
    expect(model.pending).toBe(1);
    await model.close();
    expect(model.pending).toBe(0);
  });
});

describe('files that are not good models', () => {
  const bytes = readFileSync(modelPath('user_tower.onnx'));
  it.each([
    ['empty', new Uint8Array(0), 'the file is empty'],
    ['random', randomBytes(4096), 'ONNX'],
    ['truncated', bytes.subarray(0, 700), 'not a well-formed ONNX file'],
    [
      'of an operator that does not exist',
      Buffer.from(bytes.toString('latin1').replace('MatMul', 'MatMux'), 'latin1'),
      'ONNX Runtime cannot load it',
    ],
  ])('refuses a file that is %s', async (_, content, reason) => {
    const path = fileWith('m.onnx', content);
    const error = await expectError(OnnxModel.open({ name: 'm', source: { path } }), 'BELFRY_MODEL_INVALID', reason);
    expect(error.message).toMatch(/^model m: /);
    expect(error.message).toContain('export or copy it again');
  });

  it('refuses a missing file, and one that is not the pinned one', async () => {
    await expectError(
      OnnxModel.open({ name: 'm', source: { path: '/nonexistent/m.onnx' } }),
      'BELFRY_FILE_UNREADABLE',
      'ENOENT',
    );
    const sha256 = 'ab'.repeat(32);
    await expectError(
      OnnxModel.open({ name: 'm', source: { path: modelPath('scorer.onnx'), sha256 } }),
      'BELFRY_MODEL_INVALID',
      `model m: the registry pins sha256 ${sha256}, the file has `,
    );
  });
});

describe('where the worker file is', () => {
  it('is compiled, also when the sources run', () => {
    expect(existsSync(workerFile())).toBe(true);
    expect(workerFile()).toMatch(/dist\/inference\/onnx-worker\.js$/);
  });

  it('says how to build it when it is not', async () => {
    const nowhere = pathToFileURL(join('/nonexistent', 'src', 'inference', 'onnx-model.ts')).href;
    await expectError(() => workerFile(nowhere), 'BELFRY_INTERNAL', 'run `npm run build`');
  });
});
