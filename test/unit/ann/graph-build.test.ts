/** Building a graph through the addon: options, progress, cancelling, and the file that comes out of it. */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadAddon, type NativeMatrix } from '../../../src/ann/addon.js';
import type { GraphBuildOptions, GraphFile } from '../../../src/ann/addon-graph.js';
import { errorOf } from '../../support/errors.js';
import { matrixOf } from '../../support/matrix.js';
import { twoTower } from '../../support/two-tower.js';

const addon = loadAddon();
const folder = mkdtempSync(join(tmpdir(), 'belfry-graph-'));
const DIMS = 16;
const data = twoTower(5000, 600, DIMS, 3);
let matrix: NativeMatrix;
let users: NativeMatrix;
beforeAll(async () => {
  matrix = await matrixOf(data.items, DIMS);
  users = await matrixOf(data.users, DIMS);
});
afterAll(() => {
  matrix.close();
  users.close();
  rmSync(folder, { recursive: true });
});

let files = 0;
const options = (more: Partial<GraphBuildOptions> = {}): GraphBuildOptions => ({
  matrix,
  metric: 'ip',
  out: join(folder, `${files++}.graph`),
  vectors: 'abc',
  ...more,
});
async function built(more: Partial<GraphBuildOptions> = {}): Promise<string> {
  const wanted = options(more);
  await addon.prepareGraph(wanted).run();
  return wanted.out;
}
const everyUser = () => Uint32Array.from({ length: 600 }, (_, i) => i);

describe('options are read by name and refused with field, expectation and value', () => {
  const refused = (more: object) => errorOf(() => addon.prepareGraph({ ...options(), ...more }));

  it.each<[string, object, string]>([
    ['matrix', { matrix: {} }, 'matrix: expected a NativeMatrix, received an object'],
    ['metric', { metric: 'dot' }, 'metric: expected "ip", "cosine" or "l2", received "dot"'],
    ['no out', { out: undefined }, 'out: expected a string, received undefined'],
    ['empty out', { out: '' }, 'out: expected a string that is not empty and holds no NUL, received ""'],
    ['no vectors', { vectors: undefined }, 'vectors: expected a string, received undefined'],
    [
      'a space in vectors',
      { vectors: 'a b' },
      'vectors: expected 1 to 64 printable ASCII characters without a space, received 3 bytes',
    ],
    [
      'long vectors',
      { vectors: 'a'.repeat(65) },
      'vectors: expected 1 to 64 printable ASCII characters without a space, received 65 bytes',
    ],
    ['threads', { threads: 0 }, 'threads: expected an integer from 1 to 1024, received 0'],
    ['degree below', { degree: 7 }, 'degree: expected an integer from 8 to 128, received 7'],
    ['degree above', { degree: 136 }, 'degree: expected an integer from 8 to 128, received 136'],
    ['degree between', { degree: 20 }, 'degree: expected a multiple of 8, received 20'],
    ['candidates', { candidates: 257 }, 'candidates: expected an integer from 8 to 256, received 257'],
    ['candidates text', { candidates: '64' }, 'candidates: expected an integer from 8 to 256, received "64"'],
    ['seed', { seed: -1 }, 'seed: expected an integer from 0 to 4294967295, received -1'],
    ['seed 0.5', { seed: 0.5 }, 'seed: expected an integer from 0 to 4294967295, received 0.5'],
    ['notes', { notes: 5 }, 'notes: expected a string, received 5'],
    ['users', { users: 5 }, 'users: expected a NativeMatrix, received 5'],
  ])('%s', async (_name, more, message) => {
    expect(await refused(more)).toBe(`BELFRY_INVALID_ARGUMENT ${message}`);
  });

  it('kernel, user rows and dims of users', async () => {
    expect(await refused({ kernel: 'sse' })).toBe(
      `BELFRY_INVALID_ARGUMENT kernel: expected a kernel set of this CPU (${addon.kernels.join(', ')}), received "sse"`,
    );
    expect(await refused({ users, userRows: [1, 2] as unknown as Uint32Array })).toBe(
      'BELFRY_INVALID_ARGUMENT userRows: expected a Uint32Array, received an array',
    );
    expect(await refused({ users, userRows: Uint32Array.of(5, 600) })).toBe(
      'BELFRY_INVALID_ARGUMENT userRows: expected row numbers below 600, received 600',
    );
    expect(await refused({ users, userRows: new Uint32Array(100_001) })).toBe(
      'BELFRY_INVALID_ARGUMENT userRows: expected at most 100000 rows, received 100001',
    );
    const narrow = await matrixOf(new Float32Array(8), 8);
    expect(await refused({ users: narrow, userRows: Uint32Array.of(0) })).toBe(
      'BELFRY_DIMS_MISMATCH users: expected 16 dims, as the items have, received 8',
    );
  });

  it('what only the vectors show is refused by run, and nothing is written', async () => {
    const before = readdirSync(folder).length;
    const bad = data.items.slice();
    bad[123 * DIMS + 4] = Number.POSITIVE_INFINITY;
    const broken = await matrixOf(bad, DIMS);
    expect(await errorOf(() => built({ matrix: broken }))).toBe(
      'BELFRY_BAD_VECTOR vectors: row 123 holds NaN or an infinite value; remove or repair it in the export',
    );
    const badUsers = data.users.slice();
    badUsers[7 * DIMS] = Number.NaN;
    const brokenUsers = await matrixOf(badUsers, DIMS);
    expect(await errorOf(() => built({ users: brokenUsers, userRows: Uint32Array.of(1, 7) }))).toBe(
      'BELFRY_BAD_VECTOR users: row 7 holds NaN or an infinite value; remove or repair it in the export',
    );
    expect(await errorOf(() => built({ out: join(folder, 'no/such/folder.graph') }))).toMatch(
      /^BELFRY_FILE_UNREADABLE .*folder\.graph/,
    );
    expect(readdirSync(folder)).toHaveLength(before);
  });
});

describe('a build', () => {
  it('says what memory it will need, and how far it is', async () => {
    const plain = addon.prepareGraph(options());
    const wanted = options({ users, userRows: everyUser(), degree: 32, notes: 'learnt from users' });
    const build = addon.prepareGraph(wanted);
    // The graph, two copies of the codes, the lists: no less can do.
    expect(plain.memoryBytes).toBeGreaterThan(5000 * (64 * 4 + 64 * 8 + 64));
    const grown = addon.prepareGraph(options({ users, userRows: everyUser() }));
    expect(grown.memoryBytes).toBeGreaterThanOrEqual(plain.memoryBytes);

    const seen = [build.progress()];
    const running = build.run();
    let ended = false;
    void running.then(() => (ended = true));
    while (!ended) {
      seen.push(build.progress());
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    seen.push(build.progress());
    const phases = ['order', 'neighbours', 'prune', 'users', 'connect'];
    seen.slice(1).forEach((now, i) => {
      expect(phases.indexOf(now.phase)).toBeGreaterThanOrEqual(phases.indexOf(seen[i]!.phase));
      if (now.phase === seen[i]!.phase) expect(now.done).toBeGreaterThanOrEqual(seen[i]!.done);
      expect(now.done).toBeLessThanOrEqual(now.total);
    });
    const last = seen.at(-1)!;
    expect(last.total).toBeGreaterThan(0);
    expect(last.done).toBe(last.total);

    const result = await running;
    expect(result).toMatchObject({ degree: 32 });
    expect(result.entries).toBeGreaterThan(10);
    expect(result.queryEdges).toBeGreaterThan(0);
    expect(result.runMs).toBeGreaterThan(0);
    expect(readFileSync(wanted.out).includes('learnt from users')).toBe(true);
    expect(await errorOf(() => build.run())).toBe(
      'BELFRY_INVALID_ARGUMENT NativeGraphBuild: run was called before; prepare another build',
    );
  });

  it('that is cancelled ends soon and leaves no file', async () => {
    const wanted = options({ users, userRows: everyUser() });
    const before = readdirSync(folder);
    const build = addon.prepareGraph(wanted);
    const running = errorOf(() => build.run());
    build.cancel();
    expect(await running).toMatch(/^BELFRY_CLOSED /);
    expect(readdirSync(folder)).toEqual(before);
    const early = addon.prepareGraph(wanted);
    early.cancel();
    expect(await errorOf(() => early.run())).toMatch(/^BELFRY_CLOSED /);
  });

  it('lives on when its matrices are closed', async () => {
    const mine = await matrixOf(data.items, DIMS);
    const wanted = options({ matrix: mine });
    const running = addon.prepareGraph(wanted).run();
    mine.close();
    await running;
    expect(readFileSync(wanted.out).equals(readFileSync(await built()))).toBe(true);
  });

  it('gives the same file for the same options on any number of threads and any kernel set', async () => {
    const withUsers = { users, userRows: everyUser(), seed: 9 };
    const first = readFileSync(await built({ ...withUsers, threads: 1 }));
    expect(readFileSync(await built({ ...withUsers, threads: 2 })).equals(first)).toBe(true);
    expect(readFileSync(await built({ ...withUsers, kernel: 'portable' })).equals(first)).toBe(true);
    expect(readFileSync(await built({ ...withUsers, seed: 10 })).equals(first)).toBe(false);
  });

  it('of few rows, of one, and of rows that are all the same', async () => {
    for (const [rows, values] of [
      [1, Float32Array.from({ length: DIMS }, (_, i) => i)],
      [3, data.items.subarray(0, 3 * DIMS)],
      [200, new Float32Array(200 * DIMS).fill(0.5)],
      [200, new Float32Array(200 * DIMS)],
    ] as const) {
      for (const metric of ['ip', 'cosine', 'l2'] as const) {
        const few = await matrixOf(values.slice(), DIMS);
        const path = await built({ matrix: few, metric });
        const index = await addon.createIndex({ matrix: few, metric, graph: { path, vectors: 'abc' } });
        const hits = await index.search({ queries: data.users.subarray(0, DIMS), k: 10, mode: 'walk' });
        expect(hits.counts[0]).toBe(Math.min(10, rows));
        expect(new Set(hits.rows.subarray(0, hits.counts[0])).size).toBe(Math.min(10, rows));
        index.close();
      }
    }
  });
});

describe('a graph file', () => {
  let path: string;
  beforeAll(async () => {
    path = await built();
  });
  const open = (graph: Partial<GraphFile> = {}, more: object = {}) =>
    addon.createIndex({ matrix, metric: 'ip', graph: { path, vectors: 'abc', ...graph }, ...more });

  it('opens with the vectors it was built from and no others', async () => {
    const other = (what: string, wanted: string, found: string) =>
      `BELFRY_INDEX_MISMATCH ${path.split('/').at(-1)}: expected an index of ${what} ${wanted}, found ${found}; it belongs to another export, build the index again`;
    expect(await errorOf(() => open({ vectors: 'abd' }))).toBe(other('vectors', 'abd', 'abc'));
    expect(await errorOf(() => open({}, { metric: 'l2' }))).toBe(other('metric', 'l2', 'ip'));
    const fewer = await matrixOf(data.items.slice(0, 4999 * DIMS), DIMS);
    expect(await errorOf(() => open({}, { matrix: fewer }))).toBe(other('rows', '4999', '5000'));
    const narrow = await matrixOf(data.items.slice(0, 5000 * 8), 8);
    expect(await errorOf(() => open({}, { matrix: narrow }))).toBe(other('dims', '8', '16'));
  });

  it('opens read into memory and mapped, with the same answers', async () => {
    const answers = [];
    for (const load of ['huge', 'mmap'] as const) {
      const index = await open({ load });
      expect(index.info.graph).toMatchObject({ degree: 64, queryEdges: 0 });
      expect(index.info.graph!.bytes).toBeGreaterThanOrEqual(5000 * 64 * 4);
      const hits = await index.search({ queries: data.users, k: 10, mode: 'walk', ef: 40 });
      answers.push([[...hits.rows], [...hits.scores], hits.scored]);
      index.close();
    }
    expect(answers[0]).toEqual(answers[1]);
  });

  it('is refused when its options are no options', async () => {
    expect(await errorOf(() => open({ load: 'fast' as 'huge' }))).toBe(
      'BELFRY_INVALID_ARGUMENT graph.load: expected "huge" or "mmap", received "fast"',
    );
    expect(await errorOf(() => open({ path: undefined as unknown as string }))).toBe(
      'BELFRY_INVALID_ARGUMENT graph.path: expected a string, received undefined',
    );
    expect(await errorOf(() => open({}, { graph: path }))).toMatch(
      /^BELFRY_INVALID_ARGUMENT graph: expected an object, received "/,
    );
    expect(await errorOf(() => open({ path: join(folder, 'none.graph') }))).toMatch(
      /^BELFRY_FILE_UNREADABLE .*none\.graph/,
    );
  });

  it('is refused when it is cut off or one bit of it differs, however it is loaded', async () => {
    const whole = readFileSync(path);
    const copy = join(folder, 'changed.graph');
    const refused = async (bytes: Buffer): Promise<string> => {
      writeFileSync(copy, bytes);
      const huge = await errorOf(() => open({ path: copy }));
      expect(await errorOf(() => open({ path: copy, load: 'mmap' }))).toBe(huge);
      return huge;
    };
    expect(await refused(whole.subarray(0, -1))).toMatch(
      `BELFRY_FILE_CORRUPT changed.graph: expected ${whole.length} bytes, the file has ${whole.length - 1}`,
    );
    expect(await refused(whole.subarray(0, 100))).toMatch(/^BELFRY_FILE_CORRUPT changed\.graph: expected a header/);
    expect(await refused(Buffer.alloc(0))).toMatch(/^BELFRY_FILE_CORRUPT changed\.graph: expected a header/);
    for (const share of [0, 0.001, 0.01, 0.3, 0.7, 0.9999999]) {
      const bytes = Buffer.from(whole);
      bytes[Math.floor(share * whole.length)]! ^= 4;
      expect(await refused(bytes), `byte at ${share}`).toMatch(/^BELFRY_FILE_CORRUPT changed\.graph: /);
    }
    copyFileSync(path, copy);
    (await open({ path: copy })).close();
    expect(existsSync(copy)).toBe(true);
  });
});
