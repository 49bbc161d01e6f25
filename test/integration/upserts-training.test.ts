/** Upserts across trainings: by features they are embedded again, sent vectors are left out, and come back with their training. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { FeatureTable } from '../../src/features/feature-table.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { Generation } from '../../src/generation/generation.js';
import { readManifest } from '../../src/generation/manifest.js';
import { openItemTower } from '../../src/generation/models.js';
import { readModelsFolder } from '../../src/config/models-folder.js';
import { buildGeneration } from '../../src/upserts/build.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
const ITEMS = 30;
const ONNX = readFileSync(fileURLToPath(new URL('../fixtures/models/two_tower.onnx', import.meta.url)));
/** The same graph and weights as a file of another checksum: a text of the model (field 6) is set once more. */
const otherTraining = (text: string) => Buffer.concat([ONNX, Buffer.from([0x32, text.length]), Buffer.from(text)]);
const itemIds = Array.from({ length: ITEMS }, (_, row) => `i${row}`);
const files = {
  'embeddings/item_ids.txt': itemIds.join('\n'),
  'features/items.parquet': new Uint8Array(
    parquetWriteBuffer({
      columnData: [
        { name: 'id', data: itemIds, type: 'STRING' },
        { name: 'index', data: itemIds.map((_, row) => row % 12), type: 'DOUBLE' },
      ],
    }),
  ),
  'registry.yaml': `models:
  - { model: Items, version: "1", format: onnx, path: exported/onnx/two_tower.onnx, stage: production, role: item_tower,
      inputs: { item_index: { source: item.index, missing: 0 } } }
`,
};

let models: string;
let service: Service;
const notices: string[] = [];
beforeAll(async () => {
  models = makeModelsFolder(temporaryFolder({ keep: true }), {
    items: { data: randomValues(ITEMS * DIMS, 1), dims: DIMS },
    files: { ...files, 'exported/onnx/two_tower.onnx': ONNX },
  });
  mkdirSync(join(models, 'embeddings'), { recursive: true });
  const items = (await FeatureTable.open(join(models, 'features/items.parquet'))).alignTo(itemIds);
  const tower = (await openItemTower({
    folder: models,
    rows: readModelsFolder(models).models,
    dims: DIMS,
    users: await FeatureTable.open(undefined),
    items,
    itemIds: () => itemIds,
    userIds: () => [],
  }))!;
  makeModelsFolder(models, { items: { data: await tower.embedRows(itemIds.map((_, row) => row)), dims: DIMS } });
  await tower.close();
  service = await startService(models, { upserts: { onNotice: (text) => notices.push(text) } });
});
afterAll(async () => {
  await service.close();
  rmSync(models, { recursive: true, force: true });
});

async function put(id: string, body: object): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const response = await service.app.inject({
    method: 'PUT',
    url: `/items/${id}`,
    headers,
    payload: JSON.stringify(body),
  });
  expect(response.statusCode, response.body).toBe(201);
}
async function names(): Promise<string[]> {
  const response = await service.post('/retrieve', { embedding: [...randomValues(DIMS, 9)], k: 100, exact: true });
  const ids = (response.json().items as { id: string }[]).map(({ id }) => id);
  return ids.filter((id) => !itemIds.includes(id)).sort();
}
async function rebuild(onnx: Buffer, warnings: string[] = []) {
  writeFileSync(join(models, 'exported/onnx/two_tower.onnx'), onnx);
  const data = join(service.generation.folder, '..');
  const published = await buildGeneration({
    models,
    data,
    overrides: ['recall', 'canaries'],
    onWarning: ({ message }) => warnings.push(message),
  });
  service.store.swap(await Generation.load(published));
  return published.manifest.upserts!;
}

it('each training answers with what means something to it, and nothing is forgotten', async () => {
  await put('by-features', { features: { index: 3 } });
  await put('by-vector', { embedding: [...randomValues(DIMS, 2)] });
  const first = service.generation.id;

  const warnings: string[] = [];
  expect(await rebuild(otherTraining('b'), warnings)).toMatchObject({ items: 1, added: 1, leftOut: 1 });
  expect(warnings).toEqual([
    '1 upserted items are left out of the build, the first of them "by-vector": its vector is of another training, and was sent as it is; put them again',
  ]);
  expect(await names()).toEqual(['by-features']);

  await put('later-by-features', { features: { index: 4 } });
  await put('later-by-vector', { embedding: [...randomValues(DIMS, 3)] });
  expect(await names()).toEqual(['by-features', 'later-by-features', 'later-by-vector']);
  const folder = await DataFolder.open(join(service.generation.folder, '..'));
  const manifest = await readManifest(folder.folderOf(first));
  service.store.swap(await Generation.load({ id: first, folder: folder.folderOf(first), manifest }));
  const expected = ['by-features', 'by-vector', 'later-by-features'];
  for (const until = Date.now() + 5000; (await names()).length < 3 && Date.now() < until;);
  expect(await names()).toEqual(expected);
  expect(notices).toEqual([expect.stringContaining('item "later-by-vector" is of another training than generation')]);

  expect(await rebuild(ONNX)).toMatchObject({ items: 3, added: 3, leftOut: 1 });
  expect(await names()).toEqual(expected);
});
