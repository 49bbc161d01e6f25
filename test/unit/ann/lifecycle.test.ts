/** Threads, environments and states: close, teardown in the middle of a search, event loop, argument checks. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { load, loadAddon, type NativeIndex, type NativeMatrix, type NativeSearch } from '../../../src/ann/addon.js';
import { errorOf } from '../../support/errors.js';
import { randomVectors } from '../../support/judge.js';
import { matrixOf } from '../../support/matrix.js';

const addon = loadAddon();
const addonPath = fileURLToPath(new URL('../../../build/Release/belfry.node', import.meta.url));
const script = fileURLToPath(new URL('../../fixtures/native-worker.mjs', import.meta.url));

const DIMS = 32;
const small = () => matrixOf(randomVectors(500, DIMS, 1), DIMS);
const indexOf = async (matrix?: NativeMatrix) => addon.createIndex({ matrix: matrix ?? (await small()), metric: 'ip' });
const queries = randomVectors(4, DIMS, 2);
const search: NativeSearch = { queries, k: 3, mode: 'exact' };

describe('method x state', () => {
  const closedIndex = 'BELFRY_CLOSED NativeIndex was used after close';
  const calls: Record<string, (index: NativeIndex) => unknown> = {
    search: (index) => index.search(search),
    info: (index) => index.info,
    scoreRows: (index) => index.scoreRows(queries.subarray(0, DIMS), Uint32Array.of(1)),
    close: (index) => index.close(),
  };
  const states: Record<string, { make: () => Promise<NativeIndex>; expected: (call: string) => string }> = {
    open: { make: () => indexOf(), expected: () => 'no error' },
    searching: {
      make: async () => {
        const index = await indexOf();
        void index.search(search);
        return index;
      },
      expected: () => 'no error',
    },
    'closed while searching': {
      make: async () => {
        const index = await indexOf();
        void index.search(search);
        index.close();
        return index;
      },
      expected: (call) => (call === 'close' ? 'no error' : closedIndex),
    },
    closed: {
      make: async () => {
        const index = await indexOf();
        index.close();
        return index;
      },
      expected: (call) => (call === 'close' ? 'no error' : closedIndex),
    },
  };
  for (const [state, { make, expected }] of Object.entries(states)) {
    for (const [name, call] of Object.entries(calls)) {
      it(`${name} on an index that is ${state}`, async () => {
        const index = await make();
        expect(await errorOf(() => call(index))).toBe(expected(name));
      });
    }
  }

  it('searches that run when an index and its matrix are closed end well', async () => {
    const matrix = await small();
    const index = await indexOf(matrix);
    const truth = await index.search(search);
    const running = Array.from({ length: 50 }, () => index.search(search));
    matrix.close();
    index.close();
    for (const hits of await Promise.all(running)) expect([...hits.rows]).toEqual([...truth.rows]);
    expect(await errorOf(() => matrix.rows)).toBe('BELFRY_CLOSED NativeMatrix was used after close');
    expect(await errorOf(() => indexOf(matrix))).toBe('BELFRY_CLOSED NativeMatrix was used after close');
  });
});

describe('environments', () => {
  const run = (ending: string) =>
    new Promise<{ said: string[]; code: number }>((resolve, reject) => {
      const said: string[] = [];
      const worker = new Worker(script, { workerData: { addonPath, ending } });
      worker.on('message', (message: string) => said.push(message));
      worker.on('error', reject);
      worker.on('exit', (code) => resolve({ said, code }));
    });

  it('four worker threads load, search and end, two of them in the middle of a search, three times over', async () => {
    const answers = new Set<string>();
    for (let round = 0; round < 3; round++) {
      const ended = await Promise.all(['mid-search', 'idle', 'mid-search', 'await'].map(run));
      for (const { said, code } of ended) {
        expect(code).toBe(0);
        answers.add(said[0] as string);
      }
      expect(ended[3]?.said[1]).toBe('late 640');
    }
    expect(answers.size).toBe(1);
    // This thread's own handles live on.
    expect((await (await indexOf()).search(search)).counts[0]).toBe(3);
  });

  it('worker threads terminated in the middle of a search do no harm', async () => {
    const worker = new Worker(script, { workerData: { addonPath, ending: 'await' } });
    await new Promise((resolve) => worker.once('message', resolve));
    await worker.terminate();
    expect((await (await indexOf()).search(search)).counts[0]).toBe(3);
  });

  // In a process of its own: an exception that leaves the addon ends the process.
  it('worker threads terminated while answers arrive do no harm, ten times over', async () => {
    const code = `
      const { Worker } = require('node:worker_threads');
      const run = async (ms) => {
        const worker = new Worker(${JSON.stringify(script)}, { workerData: { addonPath: ${JSON.stringify(addonPath)}, ending: 'endless' } });
        await new Promise((resolve) => worker.once('message', resolve));
        await new Promise((resolve) => setTimeout(resolve, ms));
        await worker.terminate();
      };
      (async () => { for (let i = 0; i < 10; i++) await run(i); console.log('alive'); })();`;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['-e', code], { timeout: 30_000 });
    expect(stderr).toBe('');
    expect(stdout).toBe('alive\n');
  }, 30_000);

  // Workers that were the only ones to load the addon must not unload it under the pool's threads.
  it.each(['idle', 'await', 'mid-search'])('a process of its own ends by itself: %s', async (ending) => {
    const { stdout, stderr } = await promisify(execFile)(process.execPath, [script, addonPath, ending], {
      timeout: 20_000,
    });
    expect(stderr).toBe('');
    expect(stdout.trim().split('\n')).toHaveLength(ending === 'await' ? 2 : 1);
  });
  it('a process whose worker threads alone load the addon survives their end', async () => {
    const code = `
      const { Worker } = require('node:worker_threads');
      const run = () => new Promise((resolve) => new Worker(${JSON.stringify(script)}, { workerData: { addonPath: ${JSON.stringify(addonPath)}, ending: 'mid-search' } }).on('exit', resolve));
      (async () => { for (let i = 0; i < 3; i++) await Promise.all([run(), run()]); console.log('alive'); })();`;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', code], { timeout: 20_000 });
    expect(stdout).toBe('alive\n');
  });
});

describe('the event loop', () => {
  it('no call of the promise API works on the JS thread', async () => {
    // The work of each call is tens of milliseconds here; what is measured is the call itself, the best of five so that
    // a busy machine does not decide.
    const values = randomVectors(200_000, DIMS, 3);
    const matrix = await matrixOf(values, DIMS);
    const index = await addon.createIndex({ matrix, metric: 'l2' });
    const batch = randomVectors(1_024, DIMS, 4);
    const calls: Record<string, () => Promise<unknown>> = {
      createIndex: () => addon.createIndex({ matrix, metric: 'ip' }),
      createMatrix: () => addon.createMatrix({ rows: 1_000_000, dims: DIMS }),
      search: () => index.search({ queries: batch, k: 100, mode: 'exact' }),
    };
    for (const [name, call] of Object.entries(calls)) {
      let best = Number.POSITIVE_INFINITY;
      for (let i = 0; i < 5; i++) {
        const start = performance.now();
        const promise = call();
        best = Math.min(best, performance.now() - start);
        await promise;
      }
      expect(best, name).toBeLessThan(1);
    }
  });
  it('reports waiting and running apart', async () => {
    const hits = await (await indexOf()).search(search);
    expect(hits.queueMs).toBeGreaterThanOrEqual(0);
    expect(hits.runMs).toBeGreaterThan(0);
  });
});

describe('arguments are read by name and refused with field, expectation and value', () => {
  it.each<[string, unknown, string]>([
    ['no options', undefined, 'options: expected an object, received undefined'],
    ['k missing', { queries, mode: 'exact' }, 'k: expected an integer from 1 to 10000, received undefined'],
    ['k 0', { ...search, k: 0 }, 'k: expected an integer from 1 to 10000, received 0'],
    ['k NaN', { ...search, k: Number.NaN }, 'k: expected an integer from 1 to 10000, received NaN'],
    ['k 2.5', { ...search, k: 2.5 }, 'k: expected an integer from 1 to 10000, received 2.5'],
    ['k 1e9', { ...search, k: 1e9 }, 'k: expected an integer from 1 to 10000, received 1000000000'],
    ['k text', { ...search, k: '3' }, 'k: expected an integer from 1 to 10000, received "3"'],
    ['mode', { ...search, mode: 'fast' }, 'mode: expected "codes", "exact", "f32", "probe" or "walk", received "fast"'],
    [
      'rescore below k',
      { ...search, mode: 'codes', rescore: 2 },
      'rescore: expected an integer from 3 to 100000, received 2',
    ],
    ['queries', { ...search, queries: [1, 2] }, 'queries: expected a Float32Array, received an array'],
    [
      'f64 queries',
      { ...search, queries: new Float64Array(DIMS) },
      'queries: expected a Float32Array, received another typed array',
    ],
    [
      'filter length',
      { ...search, filter: new Uint8Array(62) },
      'filter: expected 63 bytes, one bit per row, received 62',
    ],
    [
      'exclude row',
      { ...search, exclude: Uint32Array.of(500) },
      'exclude: expected row numbers below 500, received 500',
    ],
    ['exclude type', { ...search, exclude: [1] }, 'exclude: expected a Uint32Array, received an array'],
  ])('%s', async (_name, options, message) => {
    const index = await indexOf();
    expect(await errorOf(() => index.search(options as NativeSearch))).toBe(`BELFRY_INVALID_ARGUMENT ${message}`);
  });

  it('dims and finite values of queries', async () => {
    const index = await indexOf();
    expect(await errorOf(() => index.search({ ...search, queries: new Float32Array(33) }))).toBe(
      'BELFRY_DIMS_MISMATCH queries: expected a multiple of 32 values (the dims of the index), received 33',
    );
    const bad = Float32Array.from(queries);
    bad[40] = Number.NEGATIVE_INFINITY;
    expect(await errorOf(() => index.search({ ...search, queries: bad }))).toBe(
      'BELFRY_INVALID_QUERY_VECTOR queries: expected finite numbers, received Infinity in query 1, dim 8',
    );
    expect(await errorOf(() => index.scoreRows(new Float32Array(31), Uint32Array.of(0)))).toBe(
      'BELFRY_DIMS_MISMATCH query: expected 32 values (the dims of the index), received 31',
    );
    expect(await errorOf(() => index.scoreRows(new Float32Array(32), Uint32Array.of(500)))).toBe(
      'BELFRY_INVALID_ARGUMENT rows: expected row numbers below 500, received 500',
    );
  });

  it('createIndex', async () => {
    const matrix = await small();
    const create = (options: object) => errorOf(() => addon.createIndex({ matrix, metric: 'ip', ...options }));
    expect(await create({ matrix: {} })).toBe(
      'BELFRY_INVALID_ARGUMENT matrix: expected a NativeMatrix, received an object',
    );
    expect(await create({ matrix: await indexOf() })).toBe(
      'BELFRY_INVALID_ARGUMENT matrix: expected a NativeMatrix, received an object',
    );
    expect(await create({ metric: 'dot' })).toBe(
      'BELFRY_INVALID_ARGUMENT metric: expected "ip", "cosine" or "l2", received "dot"',
    );
    expect(await create({ kernel: 'sse' })).toBe(
      `BELFRY_INVALID_ARGUMENT kernel: expected a kernel set of this CPU (${addon.kernels.join(', ')}), received "sse"`,
    );
    expect(await create({ threads: 0 })).toBe(
      'BELFRY_INVALID_ARGUMENT threads: expected an integer from 1 to 1024, received 0',
    );
    const bad = randomVectors(10, DIMS, 1);
    bad[7 * DIMS + 1] = Number.NaN;
    expect(await create({ matrix: await matrixOf(bad, DIMS) })).toBe(
      'BELFRY_BAD_VECTOR vectors: row 7 holds NaN or an infinite value; remove or repair it in the export',
    );
    expect(() => new (matrix.constructor as new () => unknown)()).toThrow('handles are made by the addon, not by new');
  });

  it('readRows and append', async () => {
    const matrix = await small();
    expect(await errorOf(() => matrix.readRows(new Uint32Array(16_385)))).toBe(
      'BELFRY_INVALID_ARGUMENT rows: expected at most 16384 rows of 32 dims in one call, received 16385',
    );
    expect(await errorOf(() => matrix.readRows(Uint32Array.of(3, 500)))).toBe(
      'BELFRY_INVALID_ARGUMENT rows: expected row numbers below 500, received 500',
    );
    const into = new Float32Array(2 * 32);
    expect(matrix.readRows(Uint32Array.of(3, 4), into)).toBe(into);
    expect(into).toEqual(matrix.readRows(Uint32Array.of(3, 4)));
    expect(await errorOf(() => matrix.readRows(Uint32Array.of(3), into))).toBe(
      'BELFRY_INVALID_ARGUMENT into: expected 32 values, received 64',
    );
    const builder = await addon.createMatrix({ rows: 2, dims: 3 });
    expect(await errorOf(() => builder.append(new Float32Array(7)))).toBe(
      'BELFRY_INVALID_ARGUMENT values: expected at most 6 more values, received 7',
    );
    expect(await errorOf(() => builder.finish())).toBe('BELFRY_INVALID_ARGUMENT finish: expected 6 values, received 0');
    expect(await errorOf(() => addon.createMatrix({ rows: 2 ** 32 - 256, dims: 1 }))).toBe(
      'BELFRY_INVALID_ARGUMENT rows: expected an integer from 0 to 4294836224, received 4294967040',
    );
    builder.append(new Float32Array(6));
    builder.finish();
    expect(await errorOf(() => builder.finish())).toBe('BELFRY_CLOSED NativeMatrixBuilder was used after close');
  });
});

describe('loading', () => {
  it('knows the CPU', () => {
    expect(addon.kernels.at(-1)).toBe('portable');
    expect(addon.cpu.model).not.toBe('');
  });
  it('a file that cannot be loaded is an error that names it, the reason and the cure', async () => {
    const error = await errorOf(() => load('/nowhere/belfry.node'));
    expect(error).toMatch(
      /^BELFRY_ADDON_LOAD the native addon for \w+-\w+ cannot be loaded from \/nowhere\/belfry\.node: .*; build it with: node \/.*\/scripts\/build-native\.mjs$/,
    );
  });
});
