/** Items by their features, on the sample: the item part of two_tower.onnx makes the vectors that the export holds. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Generation } from '../../src/generation/generation.js';
import { buildGeneration } from '../../src/upserts/build.js';
import { SAMPLE } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

let service: Service;
beforeAll(async () => {
  service = await startService(SAMPLE, { upserts: {} });
});
afterAll(() => service.close());

const put = (id: string, body: object) =>
  service.app.inject({
    method: 'PUT',
    url: `/items/${id}`,
    headers: { 'content-type': 'application/json' },
    payload: JSON.stringify(body),
  });
const top = async (body: object) =>
  (await service.post('/retrieve', { k: 20, ...body })).json().items as {
    id: string;
    score: number;
    retrieval_score: number;
  }[];
const numpy = { history: ['python3-numpy', 'python3-scipy'], section: 'python' };

describe('an item put by its features', () => {
  it('has the vector, and the metadata, that the export has for the same features', async () => {
    const { generation } = service;
    const row = generation.itemIds.rowOf('python3-pandas')!;
    const features = generation.itemTable.featuresAt(row);
    const columns = ['section', 'tags', 'popularity'];
    const before = await service.post('/retrieve', { item_ids: ['python3-pandas'], k: 5, with_metadata: columns });
    const scores = (await top({ features: numpy })).map(({ id, score }) => [id, score] as const);
    const response = await put('python3-pandas', { features });
    expect([response.statusCode, response.json().result]).toEqual([200, 'replaced']);
    const after = await service.post('/retrieve', { item_ids: ['python3-pandas'], k: 5, with_metadata: columns });
    const answers = [before, after].map((one) =>
      (one.json().items as { id: string; metadata: unknown }[]).map(({ id, metadata }) => ({ id, metadata })),
    );
    expect(answers[1]).toEqual(answers[0]);
    for (const [at, { id, score }] of (await top({ features: numpy })).entries()) {
      expect(id).toBe(scores[at]![0]);
      expect(score).toBeCloseTo(scores[at]![1], 2);
    }
  });

  it(
    'that is new is retrieved, re-ranked and, after a rebuild, unknown by id to the models as before',
    { timeout: 120_000 },
    async () => {
      const { generation } = service;
      const row = generation.itemIds.rowOf('python3-pandas')!;
      const { id: _, ...features } = generation.itemTable.featuresAt(row);
      expect((await put('python3-pandas-next', { features })).statusCode).toBe(201);
      const reranked = async () => top({ features: numpy, rerank: true, candidates: 300, k: 100, exact: true });
      const before = await reranked();
      expect(before.map(({ id }) => id)).toContain('python3-pandas-next');
      const published = await buildGeneration({ models: SAMPLE, data: `${generation.folder}/..` });
      expect(published.manifest.upserts).toMatchObject({ items: 2, added: 1, leftOut: 0 });
      service.store.swap(await Generation.load(published));
      const after = await reranked();
      expect(after.map(({ id }) => id)).toEqual(before.map(({ id }) => id));
      for (const [at, { score }] of after.entries()) expect(score).toBeCloseTo(before[at]!.score, 1); // the sample holds halves;
    },
  );

  it('needs a feature that the tower reads, of a type that it takes', async () => {
    const refusals = [
      [{ features: { colour: 'red' } }, 'BELFRY_INVALID_FEATURES', 'features.colour: unknown feature'],
      [{ features: {} }, 'BELFRY_INVALID_FEATURES', 'expected at least one of'],
      [{ features: { installed_size: 'large' } }, 'BELFRY_INVALID_FEATURES', 'features.installed_size'],
    ] as const;
    for (const [body, code, message] of refusals) {
      const response = await put('x', body);
      expect(response.json()).toMatchObject({ code, message: expect.stringContaining(message) });
      expect(response.statusCode).toBe(422);
    }
  });
});
