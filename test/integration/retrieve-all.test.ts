/** The all-users job against brute force: formats, filters, exclusions. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { asyncBufferFromFile, parquetMetadataAsync } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Generation } from '../../src/generation/generation.js';
import type { JobPlan } from '../../src/jobs/job-plan.js';
import { type JobProgress, retrieveAll, type RetrieveAllOptions } from '../../src/jobs/retrieve-all.js';
import type { Metric } from '../../src/types.js';
import { readLists, readLong, readNpyPair } from '../support/candidates.js';
import { expectError } from '../support/expect-error.js';
import { npyFile, randomValues } from '../support/folders.js';
import {
  DIMS,
  expectSame,
  Generations,
  itemIds,
  items,
  ITEMS,
  judge,
  out,
  price,
  query,
  userIds,
  users,
  USERS,
} from '../support/job-fixtures.js';
import { naiveRank } from '../support/judge.js';

const made = new Generations();
let generation: Generation;
beforeAll(async () => {
  generation = await made.main();
});
afterAll(() => made.close());

const run = (options: RetrieveAllOptions) => retrieveAll(generation, { exact: true, ...options });

describe('what is written', () => {
  it('long Parquet: every user, best first, ties by row', async () => {
    const plans: JobPlan[] = [];
    const progress: JobProgress[] = [];
    const path = out();
    const summary = await run({
      out: path,
      k: 25,
      batch: 40,
      onPlan: (plan) => plans.push(plan),
      onProgress: (one) => progress.push(one),
    });
    expectSame(await readLong(path), judge(25));
    expect(summary).toMatchObject({
      generation: generation.id,
      files: [path],
      bytes: statSync(path).size,
      layout: 'long',
      k: 25,
      users: USERS,
      resumedUsers: 0,
      skipped: 0,
      unknown: 0,
      hits: USERS * 25,
      admitted: ITEMS,
      path: 'scan, proven exact (exact was asked for)',
    });
    expect(summary.usersPerSecond).toBeCloseTo(USERS / summary.seconds, 6);
    expect(progress.map(({ done, total }) => [done, total])).toEqual([
      [40, 90],
      [80, 90],
      [90, 90],
    ]);
    expect(plans).toEqual([
      {
        users: USERS,
        resumedUsers: 0,
        k: 25,
        writeBytes: expect.any(Number),
        freeBytes: expect.any(Number),
        memoryBytes: expect.any(Number),
        path: summary.path,
      },
    ]);
    expect(summary.bytes).toBeLessThanOrEqual(plans[0]!.writeBytes);
    expect(readdirSync(dirname(path))).toEqual(['out.parquet']);
    const { key_value_metadata } = await parquetMetadataAsync(await asyncBufferFromFile(path));
    expect(key_value_metadata).toContainEqual({ key: 'belfry.generation', value: generation.id });
  });

  it('lists, and .npy, whose ids are rows where the export has strings', async () => {
    const [lists, npy] = [out(), out('out.npy')];
    await run({ out: lists, k: 25, layout: 'lists' });
    expectSame(await readLists(lists), judge(25));
    const summary = await run({ out: npy, k: 25 });
    expect(summary.files.map((path) => basename(path))).toEqual(['out.npy', 'out.scores.npy']);
    expectSame(new Map(readNpyPair(npy).map((list, row) => [userIds[row]!, list])), judge(25), (row) => row);
  });

  it('the same bytes, whatever the batch; what stood there is replaced', async () => {
    const path = out();
    writeFileSync(path, 'of last night');
    await run({ out: path, k: 10, batch: 7 });
    const bytes = readFileSync(path);
    await run({ out: path, k: 10 });
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it('many chunks', async () => {
    // 104 users a chunk at k = 10,000
    const many = await made.load({
      items: { data: randomValues(40 * DIMS, 3), dims: DIMS },
      users: { data: randomValues(250 * DIMS, 4), dims: DIMS },
    });
    const path = out();
    await retrieveAll(many, { out: path, k: 10_000 });
    const found = await readLong(path);
    expect([...found.keys()]).toEqual(Array.from({ length: 250 }, (_, row) => row));
    expect([...found.values()].every((list) => list.length === 40)).toBe(true);
    expect((await parquetMetadataAsync(await asyncBufferFromFile(path))).row_groups).toHaveLength(3);
  });

  it.each<Metric>(['cosine', 'l2'])('%s, and integer ids', async (metric) => {
    const ids = BigInt64Array.from({ length: ITEMS }, (_, row) => BigInt(1000 + row));
    const real = users.slice(8 * DIMS); // without the zero vector, which cosine refuses
    const other = await made.load(
      {
        items: { data: items, dims: DIMS },
        users: { data: real, dims: DIMS },
        files: { 'embeddings/item_ids.npy': npyFile(ids, [ITEMS]) },
      },
      { metric },
    );
    const [long, npy] = [out(), out('out.npy')];
    for (const path of [long, npy]) await retrieveAll(other, { out: path, k: 9, exact: true });
    const expected = [...judge(9, undefined, undefined, metric).values()].slice(8);
    const byRow = new Map(expected.map((list, row) => [row, list]));
    expectSame(await readLong(long), byRow, (row) => 1000 + row);
    expectSame(new Map(readNpyPair(npy).map((list, row) => [row, list])), byRow, (row) => 1000 + row);
  });
});

describe('which items', () => {
  it('filter and exclusions; unknown excluded ids change nothing', async () => {
    const path = out();
    const filter = { must: [{ field: 'price', lte: 2 }], must_not: [{ field: 'price', eq: 1 }] };
    const exclude = ['item-0', 'item-7', 'nobody knows'];
    const summary = await run({ out: path, k: 20, filter, exclude });
    const allowed = (row: number) => [0, 2].includes(price(row)) && row !== 0 && row !== 7;
    expectSame(await readLong(path), judge(20, allowed));
    const admitted = itemIds.filter((_, row) => allowed(row)).length;
    expect([summary.admitted, summary.unknownExcluded]).toEqual([admitted, 1]);
  });

  it('what each user has, of the users table; together with the rest', async () => {
    const history = userIds.map((_, row) => itemIds.filter((_id, item) => (item * 7 + row) % 5 === 0));
    const table = parquetWriteBuffer({
      columnData: [
        { name: 'id', data: userIds.slice(10) },
        { name: 'history', data: history.slice(10) },
      ],
      schema: [
        { name: 'root', num_children: 2 },
        { name: 'id', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
        { name: 'history', num_children: 1, converted_type: 'LIST', repetition_type: 'OPTIONAL' },
        { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
        { name: 'element', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
      ],
    });
    const known = await made.main({ 'features/users.parquet': new Uint8Array(table) });
    const path = out();
    await retrieveAll(known, { out: path, k: 30, exact: true, excludeSeen: true, exclude: ['item-1'] });
    const found = await readLong(path);
    userIds.forEach((id, row) => {
      const isFree = (item: number) => item !== 1 && (row < 10 || (item * 7 + row) % 5 !== 0);
      expectSame(
        new Map([[id, found.get(id)!]]),
        new Map([[id, naiveRank('ip', query(row), items, isFree).slice(0, 30)]]),
      );
    });
    await expectError(
      retrieveAll(known, { out: path, excludeSeen: true, users: { vectors: 'q.npy' } }),
      'BELFRY_INVALID_ARGUMENT',
      'exclude_seen: expected users of the generation: query vectors are of nobody who has a list, received "q.npy"',
    );
  });

  it('exclusion sets, for everyone and by user; exclude_seen means the set seen, too', async () => {
    const [blocked, bought, seen] = [
      (item: number) => item % 6 === 0,
      (item: number, row: number) => (item + row) % 7 === 0,
      (item: number, row: number) => (item + row) % 11 === 0,
    ];
    const byUser = (test: (item: number, row: number) => boolean) => {
      const pairs = userIds
        .slice(5)
        .flatMap((user, at) => itemIds.filter((_, item) => test(item, at + 5)).map((item) => [user, item]));
      return new Uint8Array(
        parquetWriteBuffer({
          columnData: [
            { name: 'user_id', data: pairs.map(([user]) => user), type: 'STRING' },
            { name: 'item_id', data: pairs.map(([, item]) => item), type: 'STRING' },
          ],
        }),
      );
    };
    const sets = await made.main({
      'exclusions/blocked.txt': itemIds.filter((_, item) => blocked(item)).join('\n'),
      'exclusions/bought.parquet': byUser(bought),
      'exclusions/seen.parquet': byUser(seen),
    });
    const path = out();
    const check = async (options: Partial<RetrieveAllOptions>, isFree: (item: number, row: number) => boolean) => {
      await retrieveAll(sets, { out: path, k: 30, exact: true, ...options });
      const found = await readLong(path);
      const expected = userIds.map(
        (id, row) => [id, naiveRank('ip', query(row), items, (item) => isFree(item, row)).slice(0, 30)] as const,
      );
      expectSame(found, new Map(expected));
    };
    const has = (row: number) => row >= 5;
    await check({ excludeSets: ['blocked'] }, (item) => !blocked(item));
    await check(
      { excludeSets: ['bought', 'blocked'] },
      (item, row) => !blocked(item) && !(has(row) && bought(item, row)),
    );
    await check(
      { excludeSets: ['bought'], excludeSeen: true },
      (item, row) => !(has(row) && (bought(item, row) || seen(item, row))),
    );
    await expectError(
      retrieveAll(sets, { out: path, excludeSets: ['sold'] }),
      'BELFRY_UNKNOWN_EXCLUSION_SET',
      'exclude_sets.0: no exclusion set "sold"',
    );
    await expectError(
      retrieveAll(sets, { out: path, excludeSets: ['bought'], users: { vectors: 'q.npy' } }),
      'BELFRY_INVALID_ARGUMENT',
      'exclude_sets: expected users of the generation: query vectors are of nobody who has a list, received "q.npy"',
    );
  });

  it('fewer than k, and none: users without a hit are empty lists', async () => {
    const few = { must: [{ field: 'id', in: ['item-3', 'item-4'] }] };
    const none = { must: [{ field: 'price', gt: 100 }] };
    const [long, lists, npy] = [out(), out(), out('out.npy')];
    const two = await run({ out: long, k: 50, filter: few });
    expect(two.hits).toBe(2 * USERS);
    expectSame(
      await readLong(long),
      judge(50, (row) => row === 3 || row === 4),
    );
    const nothing = await run({ out: long, k: 50, filter: none });
    expect([nothing.hits, (await readLong(long)).size]).toEqual([0, 0]);
    await run({ out: lists, k: 50, filter: none, layout: 'lists' });
    expect(await readLists(lists)).toEqual(new Map(userIds.map((id) => [id, []])));
    await run({ out: npy, k: 50, filter: none });
    expect(readNpyPair(npy)).toEqual(userIds.map(() => []));
  });

  it('k above the number of items gives all of them', async () => {
    const path = out();
    const { hits } = await run({ out: path, k: 1000 });
    expect(hits).toBe(USERS * ITEMS);
    expectSame(await readLong(path), judge(1000));
  });
});
