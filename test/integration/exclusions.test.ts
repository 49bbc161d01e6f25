/** Exclusion sets from file to answer: who is left out for whom, what the reports say, and every refusal. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureGeneration } from '../../src/generation/build.js';
import type { StringListColumn } from '../../src/features/feature-column.js';
import { readParquet } from '../../src/features/parquet-columns.js';
import { Generation } from '../../src/generation/generation.js';
import { retrieveAll } from '../../src/jobs/retrieve-all.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

type ColumnData = Parameters<typeof parquetWriteBuffer>[0]['columnData'];
type Schema = Parameters<typeof parquetWriteBuffer>[0]['schema'];

const DIMS = 8;
const ITEMS = 40;
const items = { data: randomValues(ITEMS * DIMS, 1), dims: DIMS };
const users = { data: randomValues(3 * DIMS, 2), dims: DIMS };
const itemIds = Array.from({ length: ITEMS }, (_, row) => `i${row}`);
const userIds = ['ann', 'bob', 'cy'];

const parquet = (columnData: ColumnData, schema?: Schema) =>
  new Uint8Array(parquetWriteBuffer({ columnData, ...(schema === undefined ? {} : { schema }) }));
const strings = (name: string, data: (string | null)[]) => ({ name, data, type: 'STRING' as const });

/** ann: i0 to i9, and an item of another export; bob: i3; dee is not in the export. */
const seen = parquet([
  strings('user_id', [...Array<string>(10).fill('ann'), 'bob', 'ann', 'dee', 'dee', null]),
  strings('item_id', [...itemIds.slice(0, 10), 'i3', 'gone', 'i0', 'i1', 'i2']),
]);
const files = {
  'embeddings/item_ids.txt': itemIds.join('\n'),
  'embeddings/user_ids.txt': userIds.join('\n'),
  'exclusions/seen.parquet': seen,
  'exclusions/blocked.txt': '\uFEFFi20\r\ni21\n\nnot-there\n',
  'exclusions/adult.json': '["i30", "i31"]',
  'exclusions/README.md': 'where these files come from',
};

let models: string;
let service: Service;
beforeAll(async () => {
  models = makeModelsFolder(temporaryFolder({ keep: true }), { items, users, files });
  service = await startService(models);
});
afterAll(async () => {
  await service.close();
  rmSync(models, { recursive: true, force: true });
});

async function ask(body: object, url = '/retrieve'): Promise<string[]> {
  const response = await service.post(url, { k: ITEMS, ...body });
  expect(response.statusCode, response.body).toBe(200);
  return response.json().items.map(({ id }: { id: string }) => id);
}
const missing = (answer: string[]) => itemIds.filter((id) => !answer.includes(id));

describe('exclusion sets', () => {
  it("leave out a user's list, and what is left out for everyone", async () => {
    expect(missing(await ask({ user_id: 'ann', exclude_sets: ['seen'] }))).toEqual(itemIds.slice(0, 10));
    expect(missing(await ask({ user_id: 'bob', exclude_sets: ['seen'] }))).toEqual(['i3']);
    expect(missing(await ask({ user_id: 'cy', exclude_sets: ['seen'] }))).toEqual([]);
    const both = { user_id: 'bob', exclude_sets: ['seen', 'blocked', 'adult'], exclude: ['i39'] };
    expect(missing(await ask(both))).toEqual(['i3', 'i20', 'i21', 'i30', 'i31', 'i39']);
    expect(missing(await ask({ item_ids: ['i1'], exclude_sets: ['blocked'] }))).toEqual(['i20', 'i21']);
    expect(missing(await ask({ item_id: 'i1', exclude_sets: ['adult'] }, '/similar/items'))).toEqual([
      'i1',
      'i30',
      'i31',
    ]);
  });

  it('leave the order of all others as it is, with k items while there are as many', async () => {
    for (const exact of [false, true]) {
      const all = await ask({ user_id: 'ann', exact });
      const wanted = all.filter((id) => !itemIds.slice(0, 10).includes(id));
      expect(await ask({ user_id: 'ann', exact, k: 30, exclude_sets: ['seen'] })).toEqual(wanted);
    }
  });

  it('know users that came after the export', async () => {
    expect(missing(await ask({ user_id: 'dee', exclude_sets: ['seen'] }))).toEqual(['i0', 'i1']);
  });

  it('called seen are part of exclude_seen, for who has a list', async () => {
    expect(missing(await ask({ user_id: 'ann', exclude_seen: true }))).toEqual(itemIds.slice(0, 10));
    expect(missing(await ask({ item_ids: ['i5'], exclude_seen: true }))).toEqual(['i5']);
  });

  it('refuse unknown names, and a list by user without a user', async () => {
    const answer = async (body: object, url = '/retrieve') => (await service.post(url, body)).json();
    expect(await answer({ user_id: 'ann', exclude_sets: ['blocked', 'sene'] })).toMatchObject({
      code: 'BELFRY_UNKNOWN_EXCLUSION_SET',
      field: 'exclude_sets.1',
      message:
        'exclude_sets.1: no exclusion set "sene" in this generation; known: adult, blocked, seen (files of exclusions/ in the models folder)',
    });
    const keyed = {
      code: 'BELFRY_INVALID_ARGUMENT',
      field: 'exclude_sets.0',
      message:
        'exclude_sets.0: set seen has a list for each user, and this request names none; send user_id, or leave the set out',
    };
    expect(await answer({ item_ids: ['i1'], exclude_sets: ['seen'] })).toMatchObject(keyed);
    expect(await answer({ item_id: 'i1', exclude_sets: ['seen'] }, '/similar/items')).toMatchObject(keyed);
    expect(await answer({ user_id: 'ann', exclude_sets: Array(17).fill('seen') })).toMatchObject({
      code: 'BELFRY_INVALID_ARGUMENT',
      limit: 16,
    });
  });

  it('Q2: refuse a list that is sent as ids beyond the cap, for which they are there', async () => {
    const exclude = Array.from({ length: 10_001 }, (_, i) => `x${i}`);
    expect((await service.post('/retrieve', { user_id: 'ann', exclude })).json()).toMatchObject({
      code: 'BELFRY_INVALID_ARGUMENT',
      field: 'exclude',
      limit: 10_000,
    });
  });

  it('are described: in the manifest, to the page', async () => {
    const entry = { by: 'everyone', users: 0, unknownUsers: 0 };
    expect(service.generation.manifest.exclusions).toEqual([
      { ...entry, name: 'adult', path: 'exclusions/adult.json', entries: 2, unknownItems: 0 },
      { ...entry, name: 'blocked', path: 'exclusions/blocked.txt', entries: 3, unknownItems: 1 },
      {
        name: 'seen',
        path: 'exclusions/seen.parquet',
        by: 'user',
        users: 3,
        entries: 15,
        unknownItems: 1,
        unknownUsers: 1,
      },
    ]);
    const info = (await service.app.inject({ url: '/console/info' })).json();
    expect(info.exclusion_sets[2]).toMatchObject({ name: 'seen', by: 'user', users: 3, unknown_items: 1 });
  });
});

describe('the all-users job', () => {
  it('leaves out the list of each user, as a request does', async () => {
    const out = join(temporaryFolder(), 'all.parquet');
    const job = { out, k: 12, exact: true, layout: 'lists' as const, excludeSets: ['seen', 'adult'] };
    const { users: count } = await retrieveAll(service.generation, job);
    expect(count).toBe(3);
    const { columns } = await readParquet(out, 'all.parquet');
    const lists = columns.find(({ name }) => name === 'item_ids') as StringListColumn;
    for (const [at, user_id] of userIds.entries()) {
      const codes = lists.codes.subarray(lists.offsets[at], lists.offsets[at + 1]);
      const online = await ask({ user_id, k: 12, exact: true, exclude_sets: ['seen', 'adult'] });
      expect(Array.from(codes, (code) => lists.dictionary[code])).toEqual(online);
    }
  });
});

describe('files of exclusions/', () => {
  const build = (exclusions: Record<string, string | Uint8Array>, ids = true) => {
    const folder = makeModelsFolder(temporaryFolder(), {
      items,
      users,
      files: { ...(ids ? { 'embeddings/item_ids.txt': itemIds.join('\n') } : {}), ...exclusions },
    });
    return ensureGeneration({ models: folder, data: temporaryFolder() });
  };
  const lists: Schema = [
    { name: 'root', num_children: 2 },
    { name: 'user_id', type: 'INT64', repetition_type: 'OPTIONAL' },
    { name: 'item_ids', repetition_type: 'OPTIONAL', num_children: 1, converted_type: 'LIST' },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    { name: 'element', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
  ];

  it('may hold a list a row, and row numbers as ids', async () => {
    const seenLists = parquet(
      [
        { name: 'user_id', data: [1n, 0n, 7n, 1n] },
        { name: 'item_ids', data: [['i1', 'i2'], null, ['i3'], ['i4']] },
      ],
      lists,
    );
    const { published } = await build({ 'exclusions/seen.parquet': seenLists });
    const generation = await Generation.load(published);
    const rows = (user: number) => [...generation.exclusions.rowsFor(['seen'], user)[0]!];
    expect([rows(0), rows(1), rows(7), rows(8)]).toEqual([[], [1, 2, 4], [3], []]);
    expect(generation.manifest.exclusions![0]).toMatchObject({ users: 2, entries: 4, unknownUsers: 1 });
    await generation.close();

    const numbers = await build({ 'exclusions/blocked.txt': '3\n999\n', 'exclusions/more.json': '[4, "4"]' }, false);
    const byRow = await Generation.load(numbers.published);
    expect(byRow.exclusions.rowsFor(['blocked', 'more'], undefined).map((one) => [...one])).toEqual([[3], [4]]);
    await byRow.close();
  });

  it('without user_id are for everyone', async () => {
    const { published } = await build({ 'exclusions/old.parquet': parquet([strings('item_id', ['i5', null, 'zz'])]) });
    expect(published.manifest.exclusions).toEqual([
      {
        name: 'old',
        path: 'exclusions/old.parquet',
        by: 'everyone',
        users: 0,
        entries: 3,
        unknownItems: 2,
        unknownUsers: 0,
      },
    ]);
  });

  it('make a new generation when they change, come or go', async () => {
    const folder = makeModelsFolder(temporaryFolder(), { items, users, files });
    const data = temporaryFolder();
    const isReused = async () => (await ensureGeneration({ models: folder, data })).reused;
    expect([await isReused(), await isReused()]).toEqual([false, true]);
    writeFileSync(join(folder, 'exclusions/blocked.txt'), 'i20\ni22\n');
    expect([await isReused(), await isReused()]).toEqual([false, true]);
    writeFileSync(join(folder, 'exclusions/more.txt'), 'i1\n');
    expect([await isReused(), await isReused()]).toEqual([false, true]);
    rmSync(join(folder, 'exclusions/more.txt'));
    expect([await isReused(), await isReused()]).toEqual([false, true]);
  });

  it.each<[Record<string, string | Uint8Array>, string]>([
    [{ 'exclusions/a.json': '{"i1": true}' }, 'exclusions/a.json: expected a list of item ids, received {"i1":true}'],
    [{ 'exclusions/a.json': '[null]' }, 'exclusions/a.json: entry 0: expected an item id'],
    [{ 'exclusions/a.json': '[1' }, 'exclusions/a.json: not JSON ('],
    [
      { 'exclusions/a.json': `[${'"i1",'.repeat(300_000)}"i2"]` },
      'exclusions/a.json: expected at most 1048576 bytes of JSON, received 1500006; write a .txt or .parquet',
    ],
    [{ 'exclusions/a.parquet': 'PAR1' }, 'exclusions/a.parquet: its footer cannot be read as Parquet'],
    [
      { 'exclusions/a.parquet': parquet([strings('user', ['x']), strings('item', ['i1'])]) },
      'exclusions/a.parquet: expected columns user_id (a string or integer) and item_id or item_ids (an id or a list of them), or item_id alone; found user (string), item (string)',
    ],
    [{ 'exclusions/a.txt': 'i1', 'exclusions/a.json': '[]' }, 'exclusions/a.txt: exclusions/a.json has the same name'],
    [{ 'exclusions/a b.txt': 'i1' }, 'exclusions/a b.txt: expected a name of 1 to 64 letters'],
    [
      Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`exclusions/s${i}.txt`, 'i1'])),
      'exclusions: expected at most 64 sets, found 65',
    ],
  ])('are refused: %#', async (exclusions, message) => {
    await expectError(build(exclusions), 'BELFRY_EXCLUSIONS_INVALID', message);
  });

  it('of integer ids name integers', async () => {
    await expectError(
      build({ 'exclusions/a.txt': '1\nx\n' }, false),
      'BELFRY_EXCLUSIONS_INVALID',
      'exclusions/a.txt: line 2: expected an integer (as the item ids are), received "x"',
    );
  });
});
