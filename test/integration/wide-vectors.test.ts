/** Vectors so wide, or rows so many, that one native read cannot copy them; rows that were left out. */
import { describe, expect, it } from 'vitest';
import { buildGeneration } from '../../src/generation/build.js';
import { Generation } from '../../src/generation/generation.js';
import { readRows, rowsPerCall } from '../../src/ann/read-rows.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { matrixOf } from '../support/matrix.js';
import { startService } from '../support/service.js';

it('loads 16,400 items of 256 dims, whose mean is past one read', async () => {
  const models = makeModelsFolder(temporaryFolder(), { items: { data: randomValues(16_400 * 256, 1), dims: 256 } });
  const generation = await Generation.load(await buildGeneration({ models, data: temporaryFolder() }));
  expect(generation.defaultQuery.every(Number.isFinite)).toBe(true);
  await generation.close();
});

it('finds bad rows of 600 dims', async () => {
  const data = randomValues(4500 * 600, 2);
  data.fill(Number.NaN, 4400 * 600, 4400 * 600 + 3);
  const models = makeModelsFolder(temporaryFolder(), { items: { data, dims: 600 } });
  const { manifest } = await buildGeneration({ models, data: temporaryFolder(), onBadVector: 'skip' });
  expect(manifest.items.skippedRows).toEqual([4400]);
});

it('reads any number of rows, in order', async () => {
  const dims = 2048;
  const values = randomValues(1500 * dims, 3);
  const matrix = await matrixOf(values, dims);
  const rows = Uint32Array.from({ length: 1500 }, (_, i) => 1499 - i);
  expect(rows.length).toBeGreaterThan(rowsPerCall(dims));
  const read = await readRows(matrix, rows);
  expect(read.subarray(0, dims)).toEqual(values.subarray(1499 * dims));
  expect(read.subarray(1499 * dims)).toEqual(values.subarray(0, dims));
  matrix.close();
});

it('an export of no users gives an unknown user the mean item', async () => {
  const models = makeModelsFolder(temporaryFolder(), {
    items: { data: Float32Array.of(1, 0, 3, 0), dims: 2 },
    files: {},
    users: { data: new Float32Array(0), dims: 2 },
  });
  const generation = await Generation.load(await buildGeneration({ models, data: temporaryFolder() }));
  expect([...generation.defaultQuery]).toEqual([2, 0]);
  await generation.close();
});

describe('rows left out', () => {
  const dims = 4;
  const withNaN = (seed: number) => {
    const data = randomValues(1000 * dims, seed);
    data[7 * dims] = Number.NaN;
    return { data, dims };
  };

  it('are nobody’s neighbours and have none', async () => {
    const models = makeModelsFolder(temporaryFolder(), { items: withNaN(4), users: withNaN(5) });
    const service = await startService(models, { build: { onBadVector: 'skip' } });
    for (const [url, name, code] of [
      ['/similar/items', 'item_id', 'BELFRY_UNKNOWN_ITEM'],
      ['/similar/users', 'user_id', 'BELFRY_UNKNOWN_USER'],
    ] as const) {
      const answer = (await service.post(url, { [name]: 3, k: 1000 })).json();
      expect(answer.returned).toBe(998);
      expect(answer.items.map(({ id }: { id: number }) => id)).not.toContain(7);
      const refused = await service.post(url, { [name]: 7 });
      expect([refused.statusCode, refused.json()]).toMatchObject([
        404,
        { code, message: expect.stringMatching(new RegExp(`^${name}: 7 is not in generation`)) },
      ]);
    }
    await service.close();
  });
});
