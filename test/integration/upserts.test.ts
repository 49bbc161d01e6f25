/** Items put and deleted over HTTP: what every kind of request answers then, and every refusal. */
import { readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GenerationStore } from '../../src/generation/store.js';
import { retrieveAll } from '../../src/jobs/retrieve-all.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { buildGeneration } from '../../src/upserts/build.js';
import { ItemLog } from '../../src/upserts/item-log.js';
import { ItemUpserts } from '../../src/upserts/item-upserts.js';
import { segmentPath } from '../../src/upserts/log-reader.js';
import { readLong } from '../support/candidates.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
const ITEMS = 60;
const items = { data: randomValues(ITEMS * DIMS, 1), dims: DIMS };
const users = { data: randomValues(3 * DIMS, 2), dims: DIMS };
const itemIds = Array.from({ length: ITEMS }, (_, row) => `i${row}`);
const table = new Uint8Array(
  parquetWriteBuffer({
    columnData: [
      { name: 'id', data: itemIds, type: 'STRING' },
      { name: 'title', data: itemIds.map((id) => `title of ${id}`), type: 'STRING' },
      { name: 'price', data: itemIds.map((_, row) => row), type: 'DOUBLE' },
      { name: 'free', data: itemIds.map((_, row) => row % 2 === 0), type: 'BOOLEAN' },
    ],
  }),
);
const files = {
  'embeddings/item_ids.txt': itemIds.join('\n'),
  'embeddings/user_ids.txt': 'ann\nbob\ncy',
  'features/items.parquet': table,
  'exclusions/blocked.txt': 'i5\ni6\n',
};
const far = (scale: number) => [scale, ...Array<number>(DIMS - 1).fill(0)];

let models: string;
let service: Service;
beforeEach(async () => {
  models = makeModelsFolder(temporaryFolder({ keep: true }), { items, users, files });
  service = await startService(models, { upserts: { fsync: 'always' } });
});
afterEach(async () => {
  await service.close();
  rmSync(models, { recursive: true, force: true });
});

const logFile = () => segmentPath(join(service.generation.folder, '..', 'upserts'), 1);
const request = (method: 'PUT' | 'DELETE', id: string, body?: object) =>
  service.app.inject({
    method,
    url: `/items/${encodeURIComponent(id)}`,
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, payload: JSON.stringify(body) }),
  });
const put = (id: string, body: object) => request('PUT', id, body);

async function ask(body: object, url = '/retrieve') {
  const response = await service.post(url, { k: 5, ...body });
  expect(response.statusCode, response.body).toBe(200);
  return response.json();
}
const idsOf = ({ items: found }: { items: { id: string }[] }) => found.map(({ id }) => id);

describe('PUT /items/{id}', () => {
  it('answers 201 for a new item and 200 for one that is there, and the next request finds it', async () => {
    const query = { embedding: far(1) };
    const before = idsOf(await ask({ ...query, k: 1 }))[0]!;
    const created = await put('new', { embedding: far(100) });
    expect([created.statusCode, created.json()]).toEqual([
      201,
      { id: 'new', result: 'created', generation: service.generation.id },
    ]);
    const answer = await ask({ ...query, explain: true });
    expect(idsOf(answer).slice(0, 2)).toEqual(['new', before]);
    expect(answer.items[0]).toMatchObject({ score: 100, retrieval_score: 100, retrieval_rank: 1 });
    expect(answer.explain).toMatchObject({ delta_rows: 1, rows: ITEMS });
    const replaced = await put('new', { embedding: far(-100) });
    expect([replaced.statusCode, replaced.json().result]).toEqual([200, 'replaced']);
    expect(idsOf(await ask({ ...query, k: ITEMS + 1 })).at(-1)).toBe('new');
  });

  it('replaces an item of the export: its vector, and its metadata as a whole', async () => {
    const { statusCode } = await put('i3', { embedding: far(50), metadata: { title: 'another' } });
    expect(statusCode).toBe(200);
    const answer = await ask({ embedding: far(1), k: ITEMS, with_metadata: ['title', 'price', 'free'] });
    expect(answer.items[0]).toMatchObject({
      id: 'i3',
      score: 50,
      metadata: { title: 'another', price: null, free: null },
    });
    expect(idsOf(answer).filter((id) => id === 'i3')).toHaveLength(1);
    expect(answer.returned).toBe(ITEMS);
  });

  it('is filtered by its own metadata, and excluded by its id, by name or by a set', async () => {
    await put('cheap', { embedding: far(10), metadata: { price: 1, free: true, title: 'x' } });
    await put('dear', { embedding: far(20), metadata: { price: 1000 } });
    await put('i5', { embedding: far(30), metadata: { price: 2 } }); // of the set of blocked items
    const query = { embedding: far(1), k: ITEMS + 2 };
    const price = { must: [{ field: 'price', lte: 2 }] };
    expect(idsOf(await ask({ ...query, filter: price })).sort()).toEqual(['cheap', 'i0', 'i1', 'i2', 'i5']);
    expect(idsOf(await ask({ ...query, filter: { must: [{ field: 'id', in: ['dear', 'i7', 'nobody'] }] } }))).toEqual([
      'dear',
      'i7',
    ]);
    expect(idsOf(await ask({ ...query, filter: { must_not: [{ field: 'title', exists: true }] } })).sort()).toEqual([
      'dear',
      'i5',
    ]);
    expect(idsOf(await ask({ ...query, exclude: ['dear', 'i5'] }))[0]).toBe('cheap');
    expect(idsOf(await ask({ ...query, exclude_sets: ['blocked'] })).slice(0, 2)).toEqual(['dear', 'cheap']);
  });

  it('is found by similar items, as the one that is asked about and as one that is answered', async () => {
    await put('a', { embedding: far(1) });
    await put('b', { embedding: [5, 0.1, ...Array<number>(DIMS - 2).fill(0)] });
    expect(idsOf(await ask({ item_id: 'a', k: 1 }, '/similar/items'))).toEqual(['b']);
    expect(idsOf(await ask({ embedding: far(3), k: 2 }, '/similar/items'))).toEqual(['a', 'b']);
    expect(idsOf(await ask({ item_ids: ['b'], k: 1 }))).toEqual(['b']);
  });
});

describe('retrieve-all', () => {
  it('answers every user as /retrieve does, with new, replaced and deleted items, a filter and exclusions', async () => {
    await put('new', { embedding: [...randomValues(DIMS, 3)], metadata: { price: 3 } });
    await put('i5', { embedding: [...randomValues(DIMS, 4)], metadata: { price: 4 } });
    await put('i9', { embedding: [...randomValues(DIMS, 5)] });
    await request('DELETE', 'i10');
    await put('gone', { embedding: far(100) });
    await request('DELETE', 'gone');
    const out = join(temporaryFolder(), 'out.parquet');
    const filter = { must: [{ field: 'price', lte: 30 }] };
    const cases = [
      { offline: {}, online: {} },
      { offline: { filter }, online: { filter } },
      {
        offline: { exclude: ['new', 'i4'], excludeSets: ['blocked'] },
        online: { exclude: ['new', 'i4'], exclude_sets: ['blocked'] },
      },
    ];
    for (const asked of cases) {
      const job = { ...asked.offline, out, k: 20, exact: true };
      const summary = await retrieveAll(service.generation, job, service.upserts);
      const expected = new Map<string, string[]>();
      const online = (user_id: string, k: number) => ({ user_id, k, exact: true, ...asked.online });
      for (const user of ['ann', 'bob', 'cy']) expected.set(user, idsOf(await ask(online(user, 20))));
      const found = new Map([...(await readLong(out))].map(([user, hits]) => [user, hits.map(({ id }) => id)]));
      expect(found).toEqual(expected);
      expect(summary.admitted).toBe((await ask(online('ann', 1000))).returned);
    }
    await expectError(
      retrieveAll(service.generation, { out: join(temporaryFolder(), 'out.npy') }, service.upserts),
      'BELFRY_INVALID_ARGUMENT',
      'out: expected a .parquet file',
    );
  });
});

describe('DELETE /items/{id}', () => {
  it('takes items of the export and new ones away, until they are put again', async () => {
    await put('new', { embedding: far(100) });
    for (const id of ['new', 'i0', 'i59']) {
      const gone = await request('DELETE', id);
      expect([gone.statusCode, gone.json()]).toEqual([
        200,
        { id, result: 'deleted', generation: service.generation.id },
      ]);
    }
    const all = idsOf(await ask({ embedding: far(1), k: 1000 }));
    expect(all.sort()).toEqual(itemIds.slice(1, -1).sort());
    const again = await request('DELETE', 'i0');
    expect([again.statusCode, again.json().code]).toEqual([404, 'BELFRY_UNKNOWN_ITEM']);
    const unknown = await service.post('/retrieve', { item_ids: ['i0'] });
    expect([unknown.statusCode, unknown.json().code]).toEqual([404, 'BELFRY_UNKNOWN_ITEM']);
    expect((await put('i0', { embedding: far(9) })).statusCode).toBe(201);
    expect(idsOf(await ask({ embedding: far(1), k: 1 }))).toEqual(['i0']);
  });
});

describe('refusals', () => {
  it.each([
    [{ embedding: [1, 2] }, 422, 'BELFRY_DIMS_MISMATCH', 'embedding: expected 8 dims'],
    [{ embedding: far(1e39) }, 422, 'BELFRY_INVALID_ITEM_VECTOR', 'embedding.0: expected a finite 32-bit number'],
    [{}, 400, 'BELFRY_INVALID_ARGUMENT', 'body: expected embedding or features, received neither'],
    [{ embedding: far(1), metadata: { colour: 1 } }, 400, 'BELFRY_UNKNOWN_FIELD', 'known: title, price, free'],
    [
      { embedding: far(1), metadata: { price: '1' } },
      400,
      'BELFRY_INVALID_ARGUMENT',
      'metadata.price: expected a number, received "1"',
    ],
    [{ features: { title: 'x' } }, 409, 'BELFRY_NO_ITEM_TOWER', 'has no item_tower.onnx'],
    [{ embedding: far(1), extra: 1 }, 400, 'BELFRY_INVALID_ARGUMENT', 'extra'],
  ])('%j is %i %s', async (body, status, code, message) => {
    const response = await put('x', body);
    expect(response.json()).toMatchObject({ code, message: expect.stringContaining(message) });
    expect(response.statusCode).toBe(status);
    expect((await request('DELETE', 'x')).statusCode).toBe(404);
  });

  it.each(['a\nb', '\uFEFFa', 'a\r'])('an id that no line of item_ids.txt can hold: %j', async (id) => {
    expect((await put(id, { embedding: far(1) })).json()).toMatchObject({ code: 'BELFRY_INVALID_ITEM_ID' });
  });
});

describe('a log of which a file goes away', () => {
  it('takes the change that comes right after a rebuild has removed what was read', async () => {
    const store = new GenerationStore(service.generation);
    const data = join(service.generation.folder, '..');
    const options = { data, store, metrics: new Metrics(), fsync: 'off', logBytes: 1 << 30 } as const;
    const upserts = await ItemUpserts.open({ ...options, pollMs: 60_000 }); // what others write it finds only when it writes
    await upserts.put('a', { embedding: far(1) });
    const other = await ItemLog.open(data, { fsync: 'off' });
    await other.trim(await other.mark());
    expect(await upserts.put('a', { embedding: far(2) })).toMatchObject({ id: 'a', created: false });
    await expectError(upserts.delete('c'), 'BELFRY_UNKNOWN_ITEM', 'is not among the items');
    expect(await upserts.use(service.generation, async (view) => view.rowOf('a'))).toBe(ITEMS + 1);
    await other.close();
    await upserts.close();
  });

  it('takes the change that comes right after somebody cut off what was read', async () => {
    const store = new GenerationStore(service.generation);
    const data = join(service.generation.folder, '..');
    const options = { data, store, metrics: new Metrics(), fsync: 'off', logBytes: 1 << 30 } as const;
    const upserts = await ItemUpserts.open({ ...options, pollMs: 60_000 });
    await upserts.put('a', { embedding: far(1) });
    const bytes = statSync(logFile()).size;
    await upserts.put('b', { embedding: far(2) });
    truncateSync(logFile(), bytes);
    expect(await upserts.put('b', { embedding: far(3) })).toMatchObject({ id: 'b', created: true });
    expect(await upserts.delete('a')).toMatchObject({ id: 'a' });
    await upserts.close();
  });
});

describe('a log that is damaged', () => {
  it('refuses changes, serves what comes before, and is taken up again when it is mended', async () => {
    await put('before', { embedding: far(100) });
    const end = statSync(logFile()).size;
    await put('after', { embedding: far(200) });
    const whole = readFileSync(logFile());
    const damaged = Buffer.from(whole);
    damaged[end + 40]! ^= 4;
    writeFileSync(logFile(), damaged);
    const store = new GenerationStore(service.generation);
    const data = join(service.generation.folder, '..');
    const notices: string[] = [];
    const upserts = await ItemUpserts.open({
      data,
      store,
      metrics: new Metrics(),
      fsync: 'off',
      logBytes: 1 << 30,
      onNotice: (text) => notices.push(text),
    });
    expect(upserts.problem).toMatchObject({ code: 'BELFRY_UPSERT_LOG_CORRUPT' });
    expect(notices).toEqual([expect.stringContaining(`truncate -s ${end} `)]);
    await expectError(upserts.put('x', { embedding: far(1) }), 'BELFRY_UPSERT_LOG_CORRUPT', 'checksum of change 2');
    const ids = await upserts.use(service.generation, async (view) => [view.rowOf('before'), view.rowOf('after')]);
    expect(ids).toEqual([ITEMS, undefined]);
    await expectError(
      buildGeneration({ models, data, overrides: ['recall', 'canaries'] }),
      'BELFRY_UPSERT_LOG_CORRUPT',
      'checksum of change 2',
    );
    writeFileSync(logFile(), whole);
    await upserts.close();
    const mended = await ItemUpserts.open({ data, store, metrics: new Metrics(), fsync: 'off', logBytes: 1 << 30 });
    expect(mended.problem).toBeUndefined();
    expect(await mended.use(service.generation, async (view) => view.deltaRows)).toBe(2);
    await mended.close();
  });

  it('or at its bound refuses more', async () => {
    const store = new GenerationStore(service.generation);
    const data = join(service.generation.folder, '..');
    const upserts = await ItemUpserts.open({ data, store, metrics: new Metrics(), fsync: 'off', logBytes: 300 });
    for (let n = 0; n < 3; n++) await upserts.put(`n${n}`, { embedding: far(1) });
    await upserts.follow();
    const error = await expectError(
      upserts.put('x', { embedding: far(1) }),
      'BELFRY_UPSERT_LOG_FULL',
      'wait for a rebuild',
    );
    expect([error.statusCode, error.limit]).toEqual([507, 300]);
    await upserts.close();
  });
});
