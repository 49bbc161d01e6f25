/** The whole path on the sample: real export, real models, every way to ask. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SAMPLE } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

let service: Service;
beforeAll(async () => {
  service = await startService(SAMPLE);
});
afterAll(() => service.close());

const golden = (name: string) => JSON.parse(readFileSync(join(SAMPLE, 'golden', name), 'utf8'));

async function ask(body: object, url = '/retrieve') {
  const response = await service.post(url, body);
  expect(response.statusCode, response.body).toBe(200);
  return response.json();
}
const idsOf = (answer: { items: { id: string }[] }) => answer.items.map(({ id }) => id);

describe('GET /models', () => {
  it('is the registry table, with what is measured here', async () => {
    await ask({ features: { section: 'web' }, rerank: true, candidates: 20, k: 5 });
    const response = await service.app.inject('/models');
    expect(response.statusCode).toBe(200);
    const { generation, models } = response.json();
    expect(generation).toBe(service.generation.id);
    const latency = { p50: expect.any(Number), p99: expect.any(Number), runs: expect.any(Number) };
    const sha256 = expect.stringMatching(/^[0-9a-f]{64}$/);
    expect(models).toMatchObject([
      {
        model: 'Two-Tower',
        version: '1.0',
        format: 'onnx',
        stage: 'production',
        role: 'user_tower',
        runs: 'in process',
        sha256,
        latency_ms: latency,
      },
      {
        model: 'DLRM',
        stage: 'ab-test',
        role: 'reranker',
        runs: 'in process',
        state: 'closed',
        share: 1,
        bytes: 778459,
        latency_ms: latency,
      },
      {
        model: 'DCN-v2',
        format: 'torchscript',
        stage: 'shadow',
        runs: 'not run',
        problem: expect.stringContaining('model server'),
      },
    ]);
    for (const { latency_ms } of models.slice(0, 2)) {
      expect(latency_ms.runs).toBeGreaterThan(0);
      expect(latency_ms.p99).toBeGreaterThanOrEqual(latency_ms.p50);
    }
    expect(models[2].latency_ms).toBeUndefined();
  });
});

describe('POST /retrieve', () => {
  it('answers a known user with the exact top 10 that NumPy finds', async () => {
    for (const { user_id, item_ids, scores } of golden('top10.json').cases) {
      for (const exact of [false, true]) {
        const answer = await ask({ user_id, k: 10, exact });
        expect(idsOf(answer)).toEqual(item_ids);
        for (const [at, item] of answer.items.entries()) {
          expect(item.score).toBeCloseTo(scores[at], 3);
          expect(item.retrieval_rank).toBe(at + 1);
        }
      }
    }
  });

  it('names its generation and models, and times its stages in a header', async () => {
    const response = await service.post('/retrieve', { user_id: 'gimp', k: 3 });
    expect(response.json()).toMatchObject({
      generation: service.generation.id,
      models: { tower: 'two-tower@1.0' },
      degraded: [],
      returned: 3,
    });
    expect(response.json().timings_ms).toBeUndefined();
    expect(response.headers['server-timing']).toMatch(
      /^query;dur=[\d.]+, filter;dur=[\d.]+, search;dur=[\d.]+, total;dur=[\d.]+$/,
    );
    expect(response.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('embeds a package that nobody has seen, from what a caller types', async () => {
    const answer = await ask({
      features: { history: ['nginx', 'php-fpm', 'mariadb-server'], section: 'web' },
      k: 20,
      exclude_seen: true,
    });
    expect(answer.returned).toBe(20);
    expect(answer.models.tower).toBe('two-tower@1.0');
    expect(idsOf(answer)).not.toContain('nginx');
    const other = await ask({ features: { history: ['python3-numpy', 'python3-scipy'], section: 'python' }, k: 20 });
    expect(idsOf(other).filter((id) => id.startsWith('python3')).length).toBeGreaterThan(5);
    expect(idsOf(other)).not.toEqual(idsOf(answer));
  });

  it('says when some of a typed history is unknown', async () => {
    expect((await ask({ features: { history: ['nginx', 'no-such-package'] }, k: 3 })).degraded).toEqual([
      'unknown_items_ignored',
    ]);
    expect((await ask({ features: { history: ['nginx'] }, k: 3 })).degraded).toEqual([]);
  });

  it('embeds stored features to the stored vector: the same list by features as by user id', async () => {
    const [{ user_id, features }] = golden('user_tower.json').cases;
    const byFeatures = await ask({ features, k: 10 });
    const byId = await ask({ user_id, k: 10 });
    expect(idsOf(byFeatures).filter((id) => idsOf(byId).includes(id)).length).toBeGreaterThanOrEqual(9);
  });

  it('takes a vector, and the mean of items', async () => {
    const row = service.generation.userIds!.rowOf('gimp')!;
    const embedding = [...service.generation.users!.readRows(Uint32Array.of(row))];
    expect(idsOf(await ask({ embedding, k: 10 }))).toEqual(idsOf(await ask({ user_id: 'gimp', k: 10 })));

    const { items, itemIds } = service.generation;
    const rows = ['python3-numpy', 'python3-scipy'].map((id) => itemIds.rowOf(id)!);
    const values = items.readRows(Uint32Array.from(rows));
    const mean = Array.from({ length: 64 }, (_, d) => (values[d]! + values[64 + d]!) / 2);
    expect(idsOf(await ask({ item_ids: ['python3-numpy', 'python3-scipy'], k: 10 }))).toEqual(
      idsOf(await ask({ embedding: mean, k: 10 })),
    );
    const partly = await ask({ item_ids: ['python3-numpy', 'no-such-item'], k: 2 });
    expect(partly.degraded).toEqual(['unknown_items_ignored']);
  });

  it('re-ranks with the DLRM: other order, its scores, retrieval kept beside', async () => {
    const plain = await ask({ user_id: 'gimp', k: 10 });
    const answer = await ask({ user_id: 'gimp', k: 10, rerank: true, explain: true });
    expect(answer.models.reranker).toBe('dlrm@1.0');
    expect(answer.degraded).toEqual([]);
    expect(idsOf(answer)).not.toEqual(idsOf(plain));
    const scores = answer.items.map(({ score }: { score: number }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    expect(
      answer.items.some(
        ({ score, retrieval_score }: { score: number; retrieval_score: number }) => score !== retrieval_score,
      ),
    ).toBe(true);
    expect(answer.explain).toMatchObject({ depth: 500, reranked: 500, query: 'stored user' });
    expect(Object.keys(answer.timings_ms)).toEqual(['query', 'filter', 'search', 'rerank', 'total']);
    expect(idsOf(await ask({ user_id: 'gimp', k: 10, rerank: 'dlrm' }))).toEqual(idsOf(answer));
    expect(idsOf(await ask({ user_id: 'gimp', k: 10, rerank: 'dlrm@1.0' }))).toEqual(idsOf(answer));
  });

  it("gives the DLRM's scores of Python onnxruntime on the same candidates", async () => {
    const { requests, tolerance } = golden('dlrm.json');
    for (const { user_id, item_ids, scores } of requests) {
      const wanted = new Map<string, number>(item_ids.map((id: string, at: number) => [id, scores[at]]));
      const answer = await ask({
        user_id,
        k: item_ids.length,
        candidates: item_ids.length,
        exclude_seen: true,
        rerank: true,
        exact: true, // the golden candidates are the true ones
      });
      const compared = answer.items.filter(({ id }: { id: string }) => wanted.has(id));
      expect(compared.length).toBe(item_ids.length);
      for (const { id, score } of compared)
        expect(Math.abs(score - wanted.get(id)!)).toBeLessThan(tolerance * Math.max(1, Math.abs(score)));
    }
  });

  it('leaves out what is excluded, and what the user has', async () => {
    const first = idsOf(await ask({ user_id: 'gimp', k: 5 }));
    const without = idsOf(await ask({ user_id: 'gimp', k: 5, exclude: [first[0], first[2], 'unknown'] }));
    expect(without.slice(0, 3)).toEqual([first[1], first[3], first[4]]);
    const history = service.generation.userTable.featuresOf('gimp')!.history as string[];
    expect(history.length).toBeGreaterThan(0);
    const fresh = idsOf(await ask({ user_id: 'gimp', k: 200, exclude_seen: true }));
    expect(fresh.filter((id) => history.includes(id))).toEqual([]);
    // The sample's `seen` column also holds the package itself, which its history does not.
    expect(idsOf(await ask({ user_id: 'gimp', k: 200 }))).toContain('gimp');
    expect(fresh).not.toContain('gimp');
  });

  it('filters on metadata, and answers it', async () => {
    const answer = await ask({
      user_id: 'gimp',
      k: 50,
      filter: {
        must: [{ field: 'section', in: ['graphics', 'python'] }],
        must_not: [{ field: 'installed_size', gt: 5000 }],
      },
      with_metadata: ['section', 'installed_size', 'tags'],
      explain: true,
    });
    expect(answer.returned).toBe(50);
    for (const { metadata } of answer.items) {
      expect(['graphics', 'python']).toContain(metadata.section);
      expect(metadata.installed_size).toBeLessThanOrEqual(5000);
      expect(Array.isArray(metadata.tags)).toBe(true);
    }
    expect(answer.explain.admitted).toBeLessThan(service.generation.itemIds.size);
    const none = await ask({ user_id: 'gimp', k: 5, filter: { must: [{ field: 'section', eq: 'no such section' }] } });
    expect(none).toMatchObject({ items: [], returned: 0 });
  });

  it('Q5: answers an unknown user with what the mean user gets', async () => {
    const answer = await ask({ user_id: 'nobody-knows-me', k: 5 });
    expect(answer).toMatchObject({ degraded: ['cold_start'], returned: 5, models: {} });
  });

  it('I3: returns fewer than k when there are fewer', async () => {
    const section = service.generation.itemTable.valueAt(0, 'section');
    const all = await ask({
      user_id: 'gimp',
      k: 1000,
      filter: {
        must: [
          { field: 'id', in: ['libc6', 'bash', 'gimp'] },
          { field: 'section', exists: true },
        ],
      },
    });
    expect(section).not.toBeNull();
    expect(all.returned).toBe(all.items.length);
    expect(all.returned).toBeLessThanOrEqual(3);
  });
});

describe('POST /retrieve/batch', () => {
  it('answers each request or its own error, in order', async () => {
    const { responses } = await ask(
      {
        requests: [
          { user_id: 'gimp', k: 3 },
          { embedding: [1, 2] },
          { features: { history: ['bash'] }, k: 2 },
          { user_id: 'gimp', k: 3, rerank: 'nope' },
        ],
      },
      '/retrieve/batch',
    );
    expect(idsOf(responses[0])).toEqual(idsOf(await ask({ user_id: 'gimp', k: 3 })));
    expect(responses[1].error).toMatchObject({
      code: 'BELFRY_DIMS_MISMATCH',
      message: expect.stringMatching(/^embedding: expected 64 dims \(generation .*\), received 2$/),
    });
    expect(responses[2].returned).toBe(2);
    expect(responses[3].error).toMatchObject({
      code: 'BELFRY_UNKNOWN_RERANKER',
      message: expect.stringContaining('rerank: expected true or one of dlrm@1.0, received "nope"'),
    });
  });
});

describe('POST /similar', () => {
  it('finds items like an item, itself left out', async () => {
    const answer = await ask(
      { item_id: 'python3-numpy', k: 10, with_metadata: ['section'], explain: true },
      '/similar/items',
    );
    expect(idsOf(answer)).not.toContain('python3-numpy');
    expect(
      answer.items.filter(({ metadata }: { metadata: { section: string } }) => metadata.section === 'python').length,
    ).toBeGreaterThan(5);
    expect(answer.items[0].score).toBeLessThanOrEqual(1);
    expect(answer.explain.kernel).toBe(service.generation.index.info.kernel);
    const filtered = await ask(
      {
        item_id: 'python3-numpy',
        k: 3,
        filter: { must_not: [{ field: 'section', eq: 'python' }] },
        with_metadata: ['section'],
      },
      '/similar/items',
    );
    for (const { metadata } of filtered.items) expect(metadata.section).not.toBe('python');
  });

  it('finds users like a user', async () => {
    const answer = await ask({ user_id: 'gimp', k: 5 }, '/similar/users');
    expect(answer.returned).toBe(5);
    expect(idsOf(answer)).not.toContain('gimp');
  });

  it.each([
    ['/similar/items', { item_id: 'nope' }, 404, 'BELFRY_UNKNOWN_ITEM', /^item_id: "nope" is not in generation/],
    ['/similar/users', { user_id: 'nope' }, 404, 'BELFRY_UNKNOWN_USER', /^user_id: "nope" is not in generation/],
    [
      '/similar/items',
      {},
      400,
      'BELFRY_INVALID_ARGUMENT',
      /^body: expected exactly one of item_id, embedding, received none$/,
    ],
    ['/similar/users', { user_id: 'gimp', embedding: [1] }, 400, 'BELFRY_INVALID_ARGUMENT', /received both$/],
  ])('%s %j', async (url, body, status, code, message) => {
    const response = await service.post(url, body);
    expect([response.statusCode, response.json().code]).toEqual([status, code]);
    expect(response.json().message).toMatch(message);
  });
});

describe('the rest of the API', () => {
  it('says that it lives, that it is ready, and counts', async () => {
    const get = (url: string) => service.app.inject({ method: 'GET', url });
    expect((await get('/healthz')).json()).toEqual({ status: 'ok' });
    expect((await get('/readyz')).json()).toMatchObject({
      ready: true,
      generation: service.generation.id,
      tower: 'two-tower@1.0',
      rerankers: ['dlrm@1.0'],
    });
    const metrics = (await get('/metrics')).body;
    expect(metrics).toMatch(/belfry_request_seconds_count\{route="\/retrieve",status="200"\} \d+/);
    expect(metrics).toMatch(/belfry_stage_seconds_count\{stage="search"\} \d+/);
    expect(metrics).toMatch(new RegExp(`belfry_generation_info\\{generation="${service.generation.id}",metric="ip"`));
  });

  it('documents every route and every field', async () => {
    const document = (await service.app.inject({ method: 'GET', url: '/openapi.json' })).json();
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths).sort()).toEqual([
      '/healthz',
      '/metrics',
      '/models',
      '/readyz',
      '/retrieve',
      '/retrieve/batch',
      '/similar/items',
      '/similar/users',
    ]);
    const { properties } = document.paths['/retrieve'].post.requestBody.content['application/json'].schema;
    expect(Object.keys(properties)).toEqual(
      expect.arrayContaining([
        'user_id',
        'features',
        'embedding',
        'item_ids',
        'k',
        'recall',
        'exact',
        'ef',
        'filter',
        'exclude',
        'exclude_seen',
        'fresh',
        'rerank',
        'candidates',
        'with_metadata',
        'timeout_ms',
        'explain',
      ]),
    );
    expect(properties.k).toMatchObject({ minimum: 1, maximum: 1000 });
    expect((await service.app.inject({ method: 'GET', url: '/docs' })).statusCode).toBe(200);
  });

  it('suggests ids to the page', async () => {
    const get = async (url: string) => (await service.app.inject({ method: 'GET', url })).json();
    expect((await get('/console/items?q=libc6&limit=3')).ids[0]).toBe('libc6');
    expect((await get('/console/users?q=gim')).ids).toContain('gimp');
    expect(await get('/console/items?q=x&limit=999')).toMatchObject({
      code: 'BELFRY_INVALID_ARGUMENT',
      message: 'limit: expected 1 to 100, received 999',
    });
    expect(await get('/console/info')).toMatchObject({
      items: service.generation.itemIds.size,
      rerankers: ['dlrm@1.0'],
    });
  });

  it('is not ready once the generation is gone', async () => {
    const other = await startService(SAMPLE);
    await other.store.close();
    const ready = await other.app.inject({ method: 'GET', url: '/readyz' });
    expect([ready.statusCode, ready.json()]).toEqual([503, { ready: false, reason: 'no generation is loaded' }]);
    const answer = await other.post('/retrieve', { user_id: 'gimp' });
    expect([answer.statusCode, answer.json().code, answer.headers['retry-after']]).toEqual([
      503,
      'BELFRY_NOT_READY',
      '1',
    ]);
    await other.close();
  });
});
