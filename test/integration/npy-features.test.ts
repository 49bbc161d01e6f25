/** Features of users as a folder of .npy files: copied, hashed, loaded and swapped with the generation like a Parquet file. */
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ensureGeneration } from '../../src/generation/build.js';
import { Generation } from '../../src/generation/generation.js';
import { makeModelsFolder, npyFile, randomValues, temporaryFolder } from '../support/folders.js';
import { encode, npyBytes, writeNpy } from '../support/npy.js';

it('serves them, and a changed file is a new export', async () => {
  const models = makeModelsFolder(temporaryFolder(), {
    items: { data: randomValues(100 * 8, 1), dims: 8 },
    users: { data: randomValues(3 * 8, 2), dims: 8 },
    files: {
      'features/users/id.npy': npyFile(BigInt64Array.of(0n, 1n, 7n), [3]),
      'features/users/size.npy': npyBytes({ descr: '<f8', shape: [3], data: encode([1, 2, 3], '<f8') }),
      'features/users/seen.npy': npyBytes({ descr: '<i8', shape: [3, 2], data: encode([5, 6, 7, 8, 9, 9], '<i8') }),
    },
  });
  const data = temporaryFolder();
  const { published } = await ensureGeneration({ models, data });
  expect(published.manifest.userFeatures).toBe('features/users');
  expect(Object.keys(published.manifest.files)).toEqual(
    expect.arrayContaining(['id', 'seen', 'size'].map((column) => `features/users/${column}.npy`)),
  );
  const generation = await Generation.load(published);
  expect(generation.userTable.featuresOf(7)).toEqual({ size: 3, seen: [9, 9] });
  expect(generation.userTable.featuresOf(2)).toBeUndefined();
  await generation.close();
  expect((await ensureGeneration({ models, data })).reused).toBe(true);
  writeNpy(join(models, 'features/users/size.npy'), { descr: '<f8', shape: [3], data: encode([1, 2, 4], '<f8') });
  expect((await ensureGeneration({ models, data })).reused).toBe(false);
});
