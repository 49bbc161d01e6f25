/** Belfry inside somebody's program: what `import … from 'belfry'` gives, used as README says. */
import { expect, it } from 'vitest';
import * as belfry from '../../src/index.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';

const DIMS = 16;

it('exports what the documents name, and no more', () => {
  expect(Object.keys(belfry).sort()).toEqual([
    'BelfryError',
    'ERROR_TABLE',
    'Generation',
    'GenerationStore',
    'Metrics',
    'Retriever',
    'VectorIndex',
    'buildGeneration',
    'ensureGeneration',
    'fillRetrieve',
    'loadSettings',
    'parseReport',
    'retrieveAll',
  ]);
});

it('builds, loads and retrieves without a server', async () => {
  const { buildGeneration, fillRetrieve, Generation, GenerationStore, Metrics, Retriever } = belfry;
  const items = { data: randomValues(500 * DIMS, 1), dims: DIMS };
  const models = makeModelsFolder(temporaryFolder(), { items });
  const store = new GenerationStore(await Generation.load(await buildGeneration({ models, data: temporaryFolder() })));
  const retriever = new Retriever(store, new Metrics());
  const vector = [...items.data.subarray(0, DIMS)];
  const answer = await retriever.retrieve(
    fillRetrieve({ source: { kind: 'embedding', vector }, k: 5, timeoutMs: 1000 }),
  );
  const dot = (row: number) => vector.reduce((sum, value, d) => sum + value * items.data[row * DIMS + d]!, 0);
  const best = Array.from({ length: 500 }, (_, row) => row)
    .sort((a, b) => dot(b) - dot(a))
    .slice(0, 5);
  expect(answer.items.map(({ id }) => id)).toEqual(best);
  await store.close();
});

it('searches vectors in memory', async () => {
  const data = randomValues(200 * DIMS, 2);
  const index = await belfry.VectorIndex.open({ vectors: { data, dims: DIMS }, metric: 'cosine' });
  const { rows, scores } = await index.search(data.subarray(3 * DIMS, 4 * DIMS), { k: 1 });
  expect([rows[0], scores[0]]).toEqual([3, expect.closeTo(1, 6)]);
  index.close();
});
