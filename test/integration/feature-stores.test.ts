/** Feature stores in the path of a request, fault rows S3 and Q5: whatever the store does, the request is answered. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { BelfryError, type ErrorCode } from '../../src/errors.js';
import { type FakeFeast, sendJson, startFakeFeast } from '../support/fake-feast.js';
import { SAMPLE } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const COLUMNS = ['history', 'section', 'installed_size'];
const web = { history: ['nginx', 'php-fpm', 'mariadb-server'], section: 'web', installed_size: 12 };
const OPEN_MS = 200;
const TIMEOUT_MS = 400;

let feast: FakeFeast;
let service: Service;
beforeAll(async () => {
  feast = await startFakeFeast(COLUMNS);
  service = await startService(SAMPLE, {
    stores: {
      online: {
        kind: 'feast',
        url: feast.url,
        entity: 'user_id',
        features: {
          history: { type: 'string_list', from: 'user_stats:history' },
          section: { type: 'string', from: 'user_stats:section', default: 'misc' },
          installed_size: { type: 'number', from: 'user_stats:installed_size' },
        },
        authorization: 'Bearer a-token',
        timeout_ms: TIMEOUT_MS,
        max_age_s: 3600,
        cache_ms: 0,
        breaker_failures: 5,
        breaker_open_ms: OPEN_MS,
        answer_bytes: 64 * 1024,
      },
    },
  });
});
afterAll(async () => {
  await service.close();
  await feast.close();
});
beforeEach(async () => {
  feast.users = { 'my-site': web, gimp: web };
  feast.written = new Date().toISOString();
  // Until the store is there: connected, and after a fault the breaker closed.
  for (let i = 0; i < 50 && (await ask({ user_id: 'my-site' })).degraded.length > 0; i++) await sleep(50);
  feast.asked.length = 0;
});
afterEach(() => {
  feast.fault = undefined;
});

async function ask(body: object) {
  const response = await service.post('/retrieve', { k: 10, exact: true, ...body });
  expect(response.statusCode, response.body).toBe(200);
  return response.json() as { items: { id: string }[]; degraded: string[]; models: object; returned: number };
}
const idsOf = ({ items }: { items: { id: string }[] }) => items.map(({ id }) => id);
const counted = async (name: string, labels: object) =>
  (await service.metrics.registry.getSingleMetric(name)!.get()).values
    .filter((one) => Object.entries(labels).every(([label, value]) => one.labels[label] === value))
    .reduce((sum, one) => sum + one.value, 0);

describe('features of a store', () => {
  it('make the query of a user whom only the store knows: as if the caller had sent them', async () => {
    const answer = await ask({ user_id: 'my-site', explain: true });
    expect(answer).toMatchObject({
      degraded: [],
      models: { tower: 'two-tower@1.0' },
      explain: { query: 'user tower' },
    });
    expect(idsOf(answer)).toEqual(idsOf(await ask({ features: web })));
    expect(feast.asked.at(-1)).toMatchObject({ entities: { user_id: ['my-site'] } });
    expect(feast.headers.at(-1)!.authorization).toBe('Bearer a-token');
    expect(await counted('belfry_feature_lookups_total', { store: 'online', result: 'found' })).toBeGreaterThan(0);
  });

  it('leave a stored user his vector, and are not asked for, unless the request wants a fresh one', async () => {
    const stored = await ask({ user_id: 'gimp', explain: true });
    expect(stored).toMatchObject({ degraded: [], explain: { query: 'stored user' } });
    expect(feast.asked).toEqual([]);
    const fresh = await ask({ user_id: 'gimp', fresh: true, explain: true });
    expect(fresh).toMatchObject({ degraded: [], explain: { query: 'user tower' } });
    expect(idsOf(fresh)).not.toEqual(idsOf(stored));
    // What the store does not hold comes from the table.
    const table = service.generation.userTable.featuresOf('gimp')!;
    expect(idsOf(fresh)).toEqual(idsOf(await ask({ features: { ...table, ...web } })));
  });

  it('go to the reranker of a stored user', async () => {
    const answer = await ask({ user_id: 'gimp', rerank: true });
    expect(answer.degraded).toEqual([]);
    expect(feast.asked).toHaveLength(1); // once, for the reranker alone: the query is his stored vector
    const scores = (one: object) => (one as { items: { score: number }[] }).items.map(({ score }) => score);
    feast.users.gimp = { history: ['gimp-data'], section: 'graphics', installed_size: 1 };
    expect(scores(await ask({ user_id: 'gimp', rerank: true }))).not.toEqual(scores(answer));
  });

  it('go to exclude_seen', async () => {
    const [first, second] = idsOf(await ask({ user_id: 'my-site', exclude_seen: true }));
    feast.users['my-site'] = { ...web, history: [...web.history, first] };
    const answer = idsOf(await ask({ user_id: 'my-site', exclude_seen: true }));
    expect(answer).not.toContain(first);
    expect(answer).toContain(second);
    for (const id of web.history) expect(answer).not.toContain(id);
  });

  it('give an unknown user the cold start, and say that the store has nothing (Q5)', async () => {
    const answer = await ask({ user_id: 'nobody-knows-me' });
    expect(answer.returned).toBe(10);
    expect(answer.degraded).toEqual(['features_default', 'cold_start']);
  });

  it('that are null are nothing, and no degradation; a default stands in', async () => {
    feast.users['my-site'] = { ...web, section: null };
    const answer = await ask({ user_id: 'my-site' });
    expect(answer.degraded).toEqual([]);
    expect(idsOf(answer)).toEqual(idsOf(await ask({ features: { ...web, section: 'misc' } })));
  });
});

describe('a store that is lost (S3)', () => {
  const faults: [string, NonNullable<FakeFeast['fault']>][] = [
    ['down', (response) => response.destroy()],
    ['slow', () => undefined],
    ['broken', (response) => response.writeHead(503).end('no')],
    ['garbage', (response) => response.writeHead(200).end('{"results": [')],
    [
      'of another form',
      (response) => sendJson(response, { results: [{ values: [1, 2, 3] }], metadata: { feature_names: ['x'] } }),
    ],
    ['too large', (response) => sendJson(response, { results: 'x'.repeat(100_000) })],
    ['lying about ids', (response, right) => sendJson(response, { ...right, results: right.results.toReversed() })],
    ['redirecting', (response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()],
  ];
  it.each(faults)('%s: a fresh user falls back to the table, an unknown one to the cold start', async (_, fault) => {
    feast.fault = fault;
    const answer = await ask({ user_id: 'gimp', fresh: true, explain: true });
    // The last known features of the user, where there are some, stand in before the table.
    expect(answer.degraded).toContain('features_default');
    expect(answer).toMatchObject({ returned: 10, explain: { query: 'user tower' } });
    const unknown = await ask({ user_id: 'never-seen' });
    expect(unknown.degraded).toEqual(['features_default', 'cold_start']);
  });

  it(
    'opens the breaker within a second, answers at once from then on, and recovers by itself',
    { retry: 2 },
    async () => {
      feast.fault = () => undefined; // silence
      const started = performance.now();
      const users = service.generation.exampleUsers(6);
      await Promise.all(users.map((user_id) => ask({ user_id, fresh: true })));
      expect(await counted('belfry_feature_store_open', { store: 'online' })).toBe(1);
      expect(performance.now() - started).toBeLessThan(1000);
      const asked = feast.asked.length;
      const before = performance.now();
      expect((await ask({ user_id: 'never-seen' })).degraded).toContain('features_default');
      expect(performance.now() - before).toBeLessThan(TIMEOUT_MS); // the store is not waited for
      expect(feast.asked).toHaveLength(asked);
      feast.fault = undefined;
      await expect.poll(async () => (await ask({ user_id: 'my-site' })).degraded, { timeout: 3000 }).toEqual([]);
      expect(await counted('belfry_feature_store_open', { store: 'online' })).toBe(0);
    },
  );

  it('answers with the last known features of a user', async () => {
    const known = await ask({ user_id: 'my-site' });
    feast.fault = (response) => response.destroy();
    const answer = await ask({ user_id: 'my-site' });
    expect(answer.degraded).toEqual(['features_stale', 'features_default']);
    expect(idsOf(answer)).toEqual(idsOf(known));
  });
});

describe('answers that are not trusted', () => {
  it('stale: values older than max_age_s give way to the table or the default', async () => {
    feast.written = new Date(Date.now() - 7200_000).toISOString();
    const answer = await ask({ user_id: 'gimp', fresh: true });
    expect(answer.degraded).toEqual(['features_stale', 'features_default']);
    const table = service.generation.userTable.featuresOf('gimp')!;
    expect(idsOf(answer)).toEqual(idsOf(await ask({ features: { ...table } })));
    expect(await counted('belfry_feature_age_seconds', { store: 'online', le: 600 })).toBeLessThan(
      await counted('belfry_feature_age_seconds', { store: 'online', le: '+Inf' }),
    );
  });

  it('partial: only what is of the wrong type, or what the models cannot take, is replaced', async () => {
    feast.users['my-site'] = { ...web, section: 7, installed_size: 1e300 };
    const answer = await ask({ user_id: 'my-site' });
    expect(answer.degraded).toEqual(['features_default']);
    expect(idsOf(answer)).toEqual(idsOf(await ask({ features: { history: web.history, section: 'misc' } })));
    expect(await counted('belfry_feature_values_invalid_total', { feature: 'section' })).toBeGreaterThan(0);
    expect(await counted('belfry_feature_values_invalid_total', { feature: 'installed_size' })).toBeGreaterThan(0);
  });

  it('takes fresh only where there is a tower to compute it, and with a user id', async () => {
    const response = await service.post('/retrieve', { user_id: 'gimp', fresh: 'yes' });
    expect(response.json()).toMatchObject({ code: 'BELFRY_INVALID_ARGUMENT', field: 'fresh' });
  });
});

describe('a user tower that fails', () => {
  const codes: ErrorCode[] = ['BELFRY_MODEL_OUTPUT_INVALID', 'BELFRY_MODEL_FAILED', 'BELFRY_CIRCUIT_OPEN'];
  it.each(codes)('with %s leaves users what there is without it; features get the error', async (code) => {
    feast.users['only-in-store'] = web;
    const invalid = () => counted('belfry_model_output_invalid_total', {});
    const before = await invalid();
    const embed = vi.spyOn(service.generation.tower!, 'embed').mockRejectedValue(new BelfryError(code, 'broken'));
    try {
      const stored = await ask({ user_id: 'gimp', fresh: true, explain: true });
      expect(stored).toMatchObject({ degraded: ['features_default'], explain: { query: 'stored user' } });
      const unknown = await ask({ user_id: 'only-in-store', explain: true });
      expect(unknown).toMatchObject({ degraded: ['cold_start'], explain: { query: 'default user' } });
      expect((await invalid()) - before).toBe(code === 'BELFRY_MODEL_OUTPUT_INVALID' ? 2 : 0);
      for (const body of [{ features: web }, { user_id: 'gimp', fresh: true, strict: true }]) {
        const response = await service.post('/retrieve', { k: 10, ...body });
        expect(response.json()).toMatchObject({ code });
      }
    } finally {
      embed.mockRestore();
    }
  });
});
