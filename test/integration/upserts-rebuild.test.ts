/** Upserts across rebuilds, rollbacks and newer exports: nothing that was acknowledged is lost, and nothing is old. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterEach, describe, expect, it } from 'vitest';
import { DataFolder } from '../../src/generation/data-folder.js';
import { Generation } from '../../src/generation/generation.js';
import { readManifest } from '../../src/generation/manifest.js';
import { buildGeneration } from '../../src/upserts/build.js';
import { makeModelsFolder, npyFile, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
const ITEMS = 50;
const items = { data: randomValues(ITEMS * DIMS, 1), dims: DIMS };
const users = { data: randomValues(3 * DIMS, 2), dims: DIMS };
const itemIds = Array.from({ length: ITEMS }, (_, row) => `i${row}`);
const list = (name: string) => [
  { name, repetition_type: 'OPTIONAL' as const, num_children: 1, converted_type: 'LIST' as const },
  { name: 'list', repetition_type: 'REPEATED' as const, num_children: 1 },
];
const leaf = (name: string, type: 'BYTE_ARRAY' | 'DOUBLE' | 'BOOLEAN') => ({
  name,
  repetition_type: 'OPTIONAL' as const,
  type,
  ...(type === 'BYTE_ARRAY' ? { converted_type: 'UTF8' as const } : {}),
});
const table = new Uint8Array(
  parquetWriteBuffer({
    schema: [
      { name: 'root', num_children: 6 },
      leaf('id', 'BYTE_ARRAY'),
      leaf('title', 'BYTE_ARRAY'),
      leaf('price', 'DOUBLE'),
      leaf('free', 'BOOLEAN'),
      ...list('tags'),
      leaf('element', 'BYTE_ARRAY'),
      ...list('sizes'),
      leaf('element', 'DOUBLE'),
    ],
    columnData: [
      { name: 'id', data: itemIds },
      { name: 'title', data: itemIds.map((id, row) => (row === 4 ? null : `title ${id}`)) },
      { name: 'price', data: itemIds.map((_, row) => row / 4) },
      { name: 'free', data: itemIds.map((_, row) => (row === 5 ? null : row % 2 === 0)) },
      { name: 'tags', data: itemIds.map((_, row) => (row % 3 === 0 ? [] : ['ü', `t${row % 5}`])) },
      { name: 'sizes', data: itemIds.map((_, row) => [row, 0.5]) },
    ],
  }),
);
const strings = {
  'embeddings/item_ids.txt': itemIds.join('\n'),
  'embeddings/user_ids.txt': 'ann\nbob\ncy',
  'features/items.parquet': table,
  'embeddings/export.json': JSON.stringify({ created: '2020-01-01T00:00:00Z' }),
};
const columns = ['title', 'price', 'free', 'tags', 'sizes'];

let service: Service;
let models: string;
afterEach(async () => {
  await service.close();
  rmSync(models, { recursive: true, force: true });
});

async function start(files: Record<string, string | Uint8Array>, made = { items, users }): Promise<void> {
  models = makeModelsFolder(temporaryFolder({ keep: true }), { ...made, files });
  service = await startService(models, { upserts: {} });
}
const data = () => join(service.generation.folder, '..');

async function change(method: 'PUT' | 'DELETE', id: string | number, body?: object): Promise<number> {
  const { statusCode } = await service.app.inject({
    method,
    url: `/items/${id}`,
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, payload: JSON.stringify(body) }),
  });
  return statusCode;
}
const vector = (seed: number) => [...randomValues(DIMS, seed)];

async function everything(withMetadata = columns) {
  const body = { embedding: vector(99), k: 1000, exact: true, with_metadata: withMetadata };
  const response = await service.post('/retrieve', body);
  expect(response.statusCode, response.body).toBe(200);
  const rows = response.json().items as { id: string | number; score: number; metadata: Record<string, unknown> }[];
  return rows.map(({ id, score, metadata }) => ({ id, score, ...metadata }));
}
async function rebuild() {
  const published = await buildGeneration({ models, data: data(), overrides: ['recall'] });
  service.store.swap(await Generation.load(published));
  return published;
}
const logFiles = () => readdirSync(join(data(), 'upserts')).filter((name) => name.endsWith('.log'));

describe('a rebuild', () => {
  it('folds upserts in: the same answers from the generation alone, again and again from the same export', async () => {
    await start(strings);
    expect(await change('PUT', 'new', { embedding: vector(3), metadata: { title: 'n', tags: ['a', 'b'] } })).toBe(201);
    expect(await change('PUT', 'i7', { embedding: vector(4), metadata: { price: 1, free: true, sizes: [] } })).toBe(
      200,
    );
    expect(await change('PUT', 'gone', { embedding: vector(5) })).toBe(201);
    expect(await change('DELETE', 'gone')).toBe(200);
    expect(await change('DELETE', 'i9')).toBe(200);
    const before = await everything();
    const first = await rebuild();
    expect(first.manifest.upserts).toMatchObject({ mark: 6, items: 2, deleted: 1, superseded: 0, leftOut: 0 });
    expect(await everything()).toEqual(before);
    const explained = (await service.post('/retrieve', { embedding: vector(99), explain: true })).json().explain;
    expect(explained).toMatchObject({ delta_rows: 0, rows: ITEMS + 1 });

    expect(await change('PUT', 'later', { embedding: vector(6) })).toBe(201);
    expect(await change('DELETE', 'new')).toBe(200);
    expect(await change('PUT', 'i9', { embedding: vector(7) })).toBe(201);
    const after = await everything();
    const second = await rebuild();
    expect(await everything()).toEqual(after);
    expect(second.manifest.upserts).toMatchObject({ mark: 9, items: 3, deleted: 0 });
    const third = await rebuild();
    expect(await everything()).toEqual(after);
    expect(third.manifest.upserts).toMatchObject({ mark: 9, items: 3 });
    expect(logFiles()).toEqual(['items-0000000000000009.log']); // both kept generations hold what came before
  });

  it('keeps what the generation before it needs, so that a rollback has every acknowledged change', async () => {
    await start(strings);
    await change('PUT', 'a', { embedding: vector(3) });
    await rebuild();
    await change('PUT', 'b', { embedding: vector(4) });
    await change('DELETE', 'i0');
    const folder = await DataFolder.open(data());
    await rebuild();
    await change('PUT', 'c', { embedding: vector(5) });
    const expected = await everything();
    const older = (await folder.ids()).find((id) => id !== service.store.peek()!.id)!;
    const manifest = await readManifest(folder.folderOf(older));
    service.store.swap(await Generation.load({ id: older, folder: folder.folderOf(older), manifest }));
    expect(await everything()).toEqual(expected);
    expect(service.store.peek()!.itemIds.rowOf('b')).toBeUndefined();
  });

  it('lets an export that is newer win, for the items that it holds', async () => {
    await start(strings);
    await change('PUT', 'i1', { embedding: vector(3), metadata: { title: 'upserted' } });
    await change('DELETE', 'i2');
    await change('PUT', 'extra', { embedding: vector(4) });
    const created = new Date(Date.now() + 60_000).toISOString();
    const other = { data: randomValues(ITEMS * DIMS, 77), dims: DIMS };
    makeModelsFolder(models, {
      items: other,
      users,
      files: { 'embeddings/export.json': JSON.stringify({ created }) },
    });
    const { manifest } = await rebuild();
    expect(manifest.upserts).toMatchObject({ items: 1, deleted: 0, superseded: 2 });
    const all = await everything();
    expect(all.map(({ id }) => id).sort()).toEqual([...itemIds, 'extra'].sort());
    expect(all.find(({ id }) => id === 'i1')).toMatchObject({ title: 'title i1' });
    // The same vectors with another time are no newer than they were.
    await change('PUT', 'i1', { embedding: vector(5), metadata: { title: 'again' } });
    const touched = new Date(Date.now() + 600_000).toISOString();
    makeModelsFolder(models, {
      items: other,
      files: { 'embeddings/export.json': JSON.stringify({ created: touched }) },
    });
    await rebuild();
    expect((await everything()).find(({ id }) => id === 'i1')).toMatchObject({ title: 'title i1' });
  });

  it('gives row numbers ids of their own where items were added', async () => {
    await start({});
    expect(await change('PUT', 3, { embedding: vector(3) })).toBe(200);
    expect(await change('PUT', 1000, { embedding: vector(4) })).toBe(201);
    expect(await change('DELETE', 5)).toBe(200);
    expect(await change('PUT', 'x', { embedding: vector(4) })).toBe(422);
    const before = await everything([]);
    const { manifest } = await rebuild();
    expect(manifest.items).toMatchObject({ count: ITEMS + 1, idKind: 'integer', skippedRows: [5] });
    expect(await everything([])).toEqual(before);
    await change('DELETE', 1000);
    await rebuild();
    expect((await everything([])).some(({ id }) => id === 1000)).toBe(false);
  });

  it('writes halves where the export holds halves', async () => {
    const halves = Uint16Array.from({ length: ITEMS * DIMS }, (_, i) => 0x3000 + (i % 700)); // small positive numbers
    const f2 = Buffer.from(npyFile(new Float32Array(0), [ITEMS, DIMS]))
      .toString('latin1')
      .replace('<f4', '<f2');
    await start({
      'embeddings/item_embeddings.npy': Buffer.concat([Buffer.from(f2, 'latin1'), new Uint8Array(halves.buffer)]),
    });
    const exact = [0.5, -2, 2 ** -24, 65504, 1 / 3, 2 ** -15, 0, 1 + 2 ** -11];
    await change('PUT', 3, { embedding: exact });
    await change('PUT', 60, { embedding: exact });
    expect(await change('PUT', 61, { embedding: [70_000, ...exact.slice(1)] })).toBe(422);
    await rebuild();
    const generation = service.store.peek()!;
    expect(generation.manifest.items).toMatchObject({ dtype: 'f2', count: ITEMS + 1 });
    const expected = [0.5, -2, 2 ** -24, 65504, 0.333251953125, 2 ** -15, 0, 1];
    expect([...generation.items.readRows(Uint32Array.of(3, 50))]).toEqual([...expected, ...expected]);
  });
});
