/** What a rollback means to the builds after it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { buildGeneration, ensureGeneration } from '../../src/generation/build.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { makeModelsFolder, npyFile, randomValues, temporaryFolder } from '../support/folders.js';

it('an export that a rollback took back is built again only when forced; the next export is built', async () => {
  const values = (seed: number) => randomValues(80, seed);
  const models = makeModelsFolder(temporaryFolder(), { items: { data: values(1), dims: 4 } });
  const exportAgain = (seed: number) =>
    writeFileSync(join(models, 'embeddings/item_embeddings.npy'), npyFile(values(seed), [20, 4]));
  const options = { models, data: temporaryFolder(), overrides: ['input', 'recall', 'canaries'] as const };
  const good = await ensureGeneration(options);
  exportAgain(2);
  const bad = await ensureGeneration(options);
  expect(bad.reused).toBe(false);
  const data = await DataFolder.open(options.data);
  expect((await data.rollback()).id).toBe(good.published.id);

  expect(await ensureGeneration(options)).toMatchObject({ reused: true, published: { id: good.published.id } });
  expect(await data.pointed()).toBe(good.published.id);
  const forced = await buildGeneration(options);
  expect(await data.pointer()).toEqual({ current: forced.id, previous: good.published.id });

  await data.rollback();
  exportAgain(3);
  const next = await ensureGeneration(options);
  expect(next.reused).toBe(false);
  expect(await data.pointer()).toEqual({ current: next.published.id, previous: good.published.id });
});
