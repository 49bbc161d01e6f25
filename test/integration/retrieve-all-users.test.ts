/** For whom the all-users job retrieves, what it refuses, and how it stops and goes on. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Generation } from '../../src/generation/generation.js';
import { withOutputLock } from '../../src/jobs/output-lock.js';
import { type JobProgress, retrieveAll, type RetrieveAllOptions } from '../../src/jobs/retrieve-all.js';
import { readLong, readNpyPair } from '../support/candidates.js';
import { expectError } from '../support/expect-error.js';
import { npyFile, randomValues } from '../support/folders.js';
import { DIMS, expectSame, Generations, items, judge, out, users } from '../support/job-fixtures.js';

const made = new Generations();
let generation: Generation;
beforeAll(async () => {
  generation = await made.main();
});
afterAll(() => made.close());

const run = (options: RetrieveAllOptions) => retrieveAll(generation, { exact: true, ...options });

describe('which users', () => {
  it('ids, in their order; unknown ones are left out and named', async () => {
    const [long, npy] = [out(), out('out.npy')];
    const ids = ['user-5', 'stranger', 'user-2', 'another', 'user-88'];
    const summary = await run({ out: long, k: 4, users: { ids } });
    const expected = judge(4, undefined, [5, 2, 88]);
    expectSame(await readLong(long), expected);
    expect(summary).toMatchObject({ users: 5, unknown: 2, unknownExamples: ['stranger', 'another'], skipped: 0 });
    await run({ out: npy, k: 4, users: { ids } });
    const rows = readNpyPair(npy);
    expect([rows.length, rows[1], rows[3]]).toEqual([5, [], []]);
    expectSame(new Map([0, 2, 4].map((at) => [ids[at]!, rows[at]!])), expected, (row) => row);
  });

  it('a .npy of query vectors, any dtype, whose copy is gone at the end', async () => {
    const path = out();
    const file = join(dirname(path), 'queries.npy');
    writeFileSync(file, npyFile(users.slice(0, 6 * DIMS), [6, DIMS]));
    await run({ out: path, k: 4, users: { vectors: file } });
    const expected = judge(4, undefined, [0, 1, 2, 3, 4, 5]);
    expectSame(await readLong(path), new Map([...expected.values()].map((list, row) => [row, list])));
    expect(readdirSync(dirname(path)).sort()).toEqual(['out.parquet', 'queries.npy']);
  });

  it('rows that the build left out are left out, of users and of items', async () => {
    const bad = { users: randomValues(2000 * DIMS, 5), items: randomValues(2000 * DIMS, 6) };
    bad.users[3 * DIMS] = Number.NaN;
    bad.items.fill(Number.NaN, 4 * DIMS, 5 * DIMS);
    const holes = await made.load(
      { items: { data: bad.items, dims: DIMS }, users: { data: bad.users, dims: DIMS } },
      { onBadVector: 'skip' },
    );
    const [long, npy] = [out(), out('out.npy')];
    const summary = await retrieveAll(holes, { out: long, k: 3 });
    expect(summary).toMatchObject({ users: 2000, skipped: 1, admitted: 1999 });
    const found = await readLong(long);
    expect([found.size, found.has(3)]).toEqual([1999, false]);
    expect([...found.values()].flat().some(({ id }) => id === 4)).toBe(false);
    await retrieveAll(holes, { out: npy, k: 3 });
    expect(readNpyPair(npy).map((list) => list.length)).toEqual(
      Array.from({ length: 2000 }, (_, row) => (row === 3 ? 0 : 3)),
    );
  });

  it('nobody', async () => {
    for (const name of ['none.parquet', 'none.npy']) {
      const path = out(name);
      expect(await run({ out: path, k: 4, users: { ids: [] } })).toMatchObject({ users: 0, hits: 0 });
      expect(name === 'none.npy' ? readNpyPair(path) : [...(await readLong(path))]).toEqual([]);
    }
  });
});

describe('what is refused', () => {
  it.each<[string, Partial<RetrieveAllOptions>, string]>([
    ['k', { k: 0 }, 'k: expected an integer from 1 to 10000, received 0'],
    [
      'filter',
      { filter: [] as never },
      'filter: expected an object with must, must_not or should, as in POST /retrieve, received []',
    ],
    ['filter.must.0', { filter: { must: [{ field: 'price' }] } }, 'filter.must.0: expected a condition on "price"'],
    [
      'users',
      { users: { ids: ['user-1', 5] } },
      'users: expected ids of one kind, all numbers or all strings, received "both"',
    ],
  ])('%s: %j', async (field, options, message) => {
    const path = out();
    const error = await expectError(run({ out: path, ...options }), 'BELFRY_INVALID_ARGUMENT', message);
    expect(error.field).toBe(field);
    expect(readdirSync(dirname(path))).toEqual([]);
  });

  it('a folder that is a file', async () => {
    const path = out();
    writeFileSync(`${path}.partial`, '');
    await expectError(run({ out: path }), 'BELFRY_FILE_UNREADABLE', 'out.parquet.partial');
  });

  it('users of no kind that can be answered', async () => {
    const path = out();
    await expectError(
      run({ out: path, users: { ids: ['user-1', 'user-1'] } }),
      'BELFRY_DUPLICATE_ID',
      'users: id "user-1" stands in place 0 and in place 1',
    );
    const file = join(dirname(path), 'queries.npy');
    const refuse = (code: Parameters<typeof expectError>[1], message: string) =>
      expectError(run({ out: path, users: { vectors: file } }), code, message);
    writeFileSync(file, npyFile(new Float32Array(9), [3, 3]));
    await refuse('BELFRY_DIMS_MISMATCH', `users: queries.npy has 3 dims, generation ${generation.id} has 8`);
    writeFileSync(file, npyFile(new Float32Array(DIMS), [1, DIMS]));
    await refuse(
      'BELFRY_INVALID_QUERY_VECTOR',
      'users: 1 rows of queries.npy are zero, which ranks nothing under ip (first: 0)',
    );
    writeFileSync(file, npyFile(new Float32Array(2 * DIMS).fill(1).fill(Number.NaN, DIMS), [2, DIMS]));
    await refuse(
      'BELFRY_INVALID_QUERY_VECTOR',
      'users: 1 rows of queries.npy hold NaN, infinite or overflowing values (first: 1)',
    );
    writeFileSync(file, 'no array');
    await refuse('BELFRY_NPY_INVALID', 'queries.npy');
    const lonely = await made.load({ items: { data: items, dims: DIMS } });
    await expectError(
      retrieveAll(lonely, { out: path }),
      'BELFRY_NO_USERS',
      `generation ${lonely.id} holds no user embeddings; export embeddings/user_embeddings.npy, or give query vectors with --users FILE.npy`,
    );
    expect(readdirSync(dirname(path))).toEqual(['queries.npy']);
  });

  it('a second job on the same output, while the first one runs', async () => {
    const path = out();
    await withOutputLock(path, `${path}.partial`, () =>
      expectError(
        run({ out: path, k: 5 }),
        'BELFRY_LOCKED',
        `${path} is being written by process ${process.pid}; wait for it, or choose another --out`,
      ),
    );
    await run({ out: path, k: 5 });
    expectSame(await readLong(path), judge(5));
  });
});

describe('stopped', () => {
  it('goes on where it was, also in another batch size, and not as another job', async () => {
    const path = out('out.npy');
    const fresh = out('out.npy');
    const many = await made.load({
      items: { data: randomValues(20 * DIMS, 7), dims: DIMS },
      users: { data: randomValues(500 * DIMS, 8), dims: DIMS },
    });
    const options = { k: 10_000, batch: 26 }; // chunks of 104 users
    await retrieveAll(many, { out: fresh, ...options });
    const stop = new AbortController();
    const reason = new Error('enough');
    const onProgress = ({ done }: JobProgress) => {
      if (done >= 320) stop.abort(reason);
    };
    await expect(retrieveAll(many, { out: path, ...options, signal: stop.signal, onProgress })).rejects.toBe(reason);
    expect(readdirSync(dirname(path))).toEqual(['out.npy.partial']);
    await expectError(
      retrieveAll(many, { out: path, ...options, k: 9_999 }),
      'BELFRY_RESUME_MISMATCH',
      /k was 10000 and is 9999; .*go on with the options of that job, or begin anew with --restart$/,
    );
    await expectError(
      retrieveAll(many, { out: path, ...options, exclude: [3] }),
      'BELFRY_RESUME_MISMATCH',
      'admitted_items was 20 and is 19',
    );
    await expectError(
      retrieveAll(many, { out: path, ...options, exact: true }),
      'BELFRY_RESUME_MISMATCH',
      'search was',
    );
    const summary = await retrieveAll(many, { out: path, ...options, batch: 7 });
    expect(summary.resumedUsers).toBe(312);
    for (const name of ['out.npy', 'out.scores.npy'])
      expect(readFileSync(join(dirname(path), name)).equals(readFileSync(join(dirname(fresh), name)))).toBe(true);
    expect(readdirSync(dirname(path)).sort()).toEqual(['out.npy', 'out.scores.npy']);
  });

  it('before its first chunk, it leaves nothing', async () => {
    const path = out();
    await expect(run({ out: path, signal: AbortSignal.abort(new Error('at once')) })).rejects.toThrow('at once');
    expect(readdirSync(dirname(path))).toEqual([]);
  });
});
