/** API1, API4, API6: how much a key may ask, and about whom; and that nothing asked is without a bound. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LIMITS } from '../../../src/config/schema.js';
import { bearer } from '../../support/keys.js';
import { type Secured, startSecured, vector } from '../../support/secured.js';

let service: Secured;
beforeAll(async () => {
  service = await startSecured({
    slow: { requests_per_second: 2 },
    few: { requests_per_day: 5 },
    batches: { requests_per_day: 10 },
    slowest: { requests_per_second: 0.1 },
    free: {},
    acme: { user_prefix: 'acme:' },
  });
});
afterAll(() => service.close());

const post = (name: string, url: string, payload: object) =>
  service.app.inject({ method: 'POST', url, headers: bearer(service.keys[name]!), payload });
const one = { embedding: vector, k: 1 };

describe('API4: a key', () => {
  it('has a rate, which is its own', async () => {
    const answers = [];
    for (let i = 0; i < 4; i++) answers.push(await post('slow', '/retrieve', one));
    expect(answers.map(({ statusCode }) => statusCode).slice(0, 2)).toEqual([200, 200]);
    const last = answers.at(-1)!;
    expect([last.statusCode, last.json(), last.headers['retry-after']]).toMatchObject([
      429,
      { code: 'BELFRY_RATE_LIMITED', message: 'key slow: more than 2 requests a second', limit: 2 },
      '1',
    ]);
    expect((await post('free', '/retrieve', one)).statusCode).toBe(200);
  });

  it('API6: has a quota of the day, whatever it asks', async () => {
    for (const url of ['/retrieve', '/similar/items', '/retrieve', '/similar/items'])
      expect((await post('few', url, one)).statusCode).toBe(200);
    const look = { url: '/console/items?q=item', headers: bearer(service.keys.few!) };
    expect((await service.app.inject(look)).statusCode).toBe(200);
    const answer = await service.app.inject(look);
    expect([answer.statusCode, answer.json()]).toMatchObject([429, { code: 'BELFRY_QUOTA_EXCEEDED', limit: 5 }]);
    const seconds = Number(answer.headers['retry-after']);
    expect(seconds > 0 && seconds <= 86_400).toBe(true);
  });

  it('pays for each request of a batch', async () => {
    const batch = (count: number) => ({ requests: Array.from({ length: count }, () => one) });
    expect((await post('batches', '/retrieve/batch', batch(8))).statusCode).toBe(200);
    const answer = await post('batches', '/retrieve/batch', batch(3));
    expect([answer.statusCode, answer.json().code]).toEqual([429, 'BELFRY_QUOTA_EXCEEDED']);
  });

  it('slower than a request a second may send a batch, and waits for it afterwards', async () => {
    const answer = await post('slowest', '/retrieve/batch', { requests: [one, one, one] });
    expect(answer.statusCode, answer.payload).toBe(200);
    expect((await post('slowest', '/retrieve', one)).headers['retry-after']).toBe('30');
  });

  it('keeps what it used when the file is read again', async () => {
    service.write(service.records().map((record) => ({ ...record, created: '2026-02-02T00:00:00Z' })));
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect((await post('few', '/retrieve', one)).json().code).toBe('BELFRY_QUOTA_EXCEEDED');
  });
});

describe('API1: a key for the users of one tenant', () => {
  it.each<[string, object]>([
    ['/retrieve', { user_id: 'acme:3' }],
    ['/retrieve', { user_id: 'acme:unknown' }],
    ['/retrieve', one],
    ['/retrieve/batch', { requests: [{ user_id: 'acme:1' }, one] }],
    ['/similar/items', { item_id: 'item-1' }],
  ])('may ask %s for %j', async (url, body) => {
    expect((await post('acme', url, body)).statusCode).toBe(200);
  });

  it.each<[string, object]>([
    ['/retrieve', { user_id: 'other:15' }],
    ['/retrieve', { user_id: 'other:unknown' }],
    ['/retrieve', { user_id: 'ACME:1' }],
    ['/retrieve', { user_id: 7 }],
    ['/retrieve/batch', { requests: [{ user_id: 'acme:1' }, { user_id: 'other:15' }] }],
    ['/similar/users', { user_id: 'acme:1' }],
  ])('may not ask %s for %j, and does not learn who exists', async (url, body) => {
    const answer = await post('acme', url, body);
    const { request_id: _id, ...said } = answer.json();
    expect([answer.statusCode, said]).toEqual([
      403,
      {
        code: 'BELFRY_FORBIDDEN',
        message: 'user_id: this key is for users whose ids begin with "acme:"',
        field: 'user_id',
      },
    ]);
  });

  it.each(['/console/users?q=', '/console/info'])('may not look at %s, which shows users', async (url) => {
    const answer = await service.app.inject({ url, headers: bearer(service.keys.acme!) });
    expect([answer.statusCode, answer.json().code]).toEqual([403, 'BELFRY_FORBIDDEN']);
  });
});

it.each<[string, object, string]>([
  ['k', { k: LIMITS.k.max + 1 }, 'k'],
  ['ef', { ef: LIMITS.ef.max + 1 }, 'ef'],
  ['candidates', { candidates: LIMITS.candidates.max + 1 }, 'candidates'],
  ['timeout', { timeout_ms: LIMITS.timeoutMs.max + 1 }, 'timeout_ms'],
  ['exclusions', { exclude: Array<string>(LIMITS.excludeIds.max + 1).fill('x') }, 'exclude'],
  ['exclusion sets', { exclude_sets: Array<string>(LIMITS.excludeSets.max + 1).fill('x') }, 'exclude_sets'],
  ['metadata columns', { with_metadata: Array<string>(65).fill('x') }, 'with_metadata'],
  ['query items', { embedding: undefined, item_ids: Array<string>(LIMITS.queryItems.max + 1).fill('x') }, 'item_ids'],
  ['dims', { embedding: Array<number>(LIMITS.dims.max + 1).fill(1) }, 'embedding'],
  ['id length', { embedding: undefined, user_id: 'x'.repeat(LIMITS.idLength.max + 1) }, 'user_id'],
])('API4: %s has a cap', async (_what, more, field) => {
  const answer = await post('free', '/retrieve', { ...one, ...more });
  expect([answer.statusCode, answer.json()]).toMatchObject([400, { code: 'BELFRY_INVALID_ARGUMENT', field }]);
});

it('API4: a batch has a cap, and a body has one', async () => {
  const requests = Array.from({ length: LIMITS.batchRequests.max + 1 }, () => one);
  expect((await post('free', '/retrieve/batch', { requests })).json()).toMatchObject({ field: 'requests', limit: 256 });
  const answer = await post('free', '/retrieve', { ...one, exclude: [`${'x'.repeat(3 * 1024 * 1024)}`] });
  expect([answer.statusCode, answer.json().code]).toEqual([413, 'BELFRY_BODY_TOO_LARGE']);
});
