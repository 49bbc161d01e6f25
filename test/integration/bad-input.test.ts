/** Bad requests: every one has a code, says which field, what was expected and what came, and harms nobody else. */
import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { listen } from '../../src/http/server.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
let folder: string;
let ip: Service;
let cosine: Service;
beforeAll(async () => {
  const content = {
    items: { data: randomValues(200 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(50 * DIMS, 2), dims: DIMS },
  };
  folder = makeModelsFolder(temporaryFolder({ keep: true }), content);
  ip = await startService(folder, { settings: { body_limit_bytes: 64 * 1024, request_timeout_ms: 1000 } });
  cosine = await startService(folder, { build: { metric: 'cosine' } });
});
afterAll(async () => {
  await Promise.all([ip.close(), cosine.close()]);
  rmSync(folder, { recursive: true, force: true });
});

const vector = Array.from(randomValues(DIMS, 3));

async function refused(service: Service, body: unknown, headers: Record<string, string> = {}) {
  const response = await service.post('/retrieve', body, headers);
  const { request_id, ...error } = response.json();
  expect(request_id).toMatch(/^[0-9a-f-]{36}$/);
  return { status: response.statusCode, ...error };
}

describe('Q1: numbers out of bounds', () => {
  it.each([
    [{ k: 0 }, 'k: expected at least 1, received 0', 1],
    [{ k: -5 }, 'k: expected at least 1, received -5', 1],
    [{ k: 1e9 }, 'k: expected at most 1000, received 1000000000', 1000],
    [{ k: 1.5 }, 'k: expected an integer, received 1.5', undefined],
    [{ k: '5' }, 'k: expected an integer, received "5"', undefined],
    [{ k: null }, 'k: expected an integer, received null', undefined],
    [{ ef: 100_000 }, 'ef: expected at most 4096, received 100000', 4096],
    [{ recall: 0.1 }, 'recall: expected at least 0.5, received 0.1', 0.5],
    [{ candidates: 5001 }, 'candidates: expected at most 5000, received 5001', 5000],
    [{ timeout_ms: 0 }, 'timeout_ms: expected at least 1, received 0', 1],
    [{ timeout_ms: 60_000 }, 'timeout_ms: expected at most 1000, received 60000', 1000],
  ])('%j', async (field, message, limit) => {
    const error = await refused(ip, { embedding: vector, ...field });
    expect(error).toEqual({
      status: 400,
      code: 'BELFRY_INVALID_ARGUMENT',
      message,
      field: Object.keys(field)[0],
      ...(limit === undefined ? {} : { limit }),
    });
  });

  it('10,000 filter clauses, depth 1,000', async () => {
    const clause = { field: 'id', lt: 1 };
    const wide = await refused(ip, { embedding: vector, filter: { must: Array.from({ length: 1000 }, () => clause) } });
    expect(wide).toMatchObject({
      status: 400,
      code: 'BELFRY_INVALID_ARGUMENT',
      message: 'filter.must: expected at most 256 entries, received 1000',
      limit: 256,
    });
    let deep: object = { must: [clause] };
    for (let i = 0; i < 1000; i++) deep = { must: [deep] };
    const nested = await refused(ip, { embedding: vector, filter: deep });
    expect(nested).toMatchObject({
      status: 400,
      code: 'BELFRY_INVALID_ARGUMENT',
      message: expect.stringMatching(/at most 16 nested groups/),
      limit: 16,
    });
  });
});

it('Q2: more exclusions than the cap', async () => {
  const error = await refused(ip, { embedding: vector, exclude: Array.from({ length: 10_001 }, (_, i) => i) });
  expect(error).toMatchObject({
    status: 400,
    code: 'BELFRY_INVALID_ARGUMENT',
    message: 'exclude: expected at most 10000 entries, received 10001',
    limit: 10_000,
  });
  const legal = await ip.post('/retrieve', {
    embedding: vector,
    k: 5,
    exclude: Array.from({ length: 10_000 }, (_, i) => i),
  });
  expect(legal.json()).toMatchObject({ returned: 0, items: [] });
});

describe('Q3: bodies that are not ours', () => {
  it.each<[string, string, Record<string, string>, number, string, RegExp]>([
    ['not JSON', '{"k":', {}, 400, 'BELFRY_INVALID_JSON', /^body: not JSON/],
    ['nothing', '', {}, 400, 'BELFRY_INVALID_JSON', /^body: expected a JSON object, received nothing$/],
    ['NaN literal', '{"embedding":[NaN]}', {}, 400, 'BELFRY_INVALID_JSON', /^body: not JSON/],
    [
      '1e999',
      `{"embedding":[1e999${',0'.repeat(DIMS - 1)}]}`,
      {},
      400,
      'BELFRY_INVALID_ARGUMENT',
      /^embedding\.0: expected a number/,
    ],
    ['__proto__', '{"__proto__":{"k":1},"k":1}', {}, 400, 'BELFRY_INVALID_JSON', /^body: not JSON/],
    [
      'constructor.prototype',
      '{"constructor":{"prototype":{"k":1}}}',
      {},
      400,
      'BELFRY_INVALID_JSON',
      /^body: not JSON/,
    ],
    ['an array', '[]', {}, 400, 'BELFRY_INVALID_ARGUMENT', /^body: expected an object, received \[\]$/],
    [
      'JSON 30,000 deep',
      `${'['.repeat(30_000)}${']'.repeat(30_000)}`,
      {},
      400,
      'BELFRY_INVALID_ARGUMENT',
      /^body: expected an object/,
    ],
    ['an unknown key', '{"user_id":1,"embeding":[1]}', {}, 400, 'BELFRY_INVALID_ARGUMENT', /^embeding: unknown key$/],
    [
      'over the limit',
      JSON.stringify({ embedding: vector, exclude: Array(9000).fill('xxxxxxxx') }),
      {},
      413,
      'BELFRY_BODY_TOO_LARGE',
      /^body: expected at most 65536 bytes/,
    ],
    [
      'text',
      'k=5',
      { 'content-type': 'text/plain' },
      415,
      'BELFRY_UNSUPPORTED_MEDIA_TYPE',
      /^content-type: expected application\/json, received "text\/plain"$/,
    ],
    [
      'a form',
      'k=5',
      { 'content-type': 'application/x-www-form-urlencoded' },
      415,
      'BELFRY_UNSUPPORTED_MEDIA_TYPE',
      /^content-type: expected application\/json/,
    ],
    [
      'compressed',
      '{}',
      { 'content-encoding': 'gzip' },
      415,
      'BELFRY_UNSUPPORTED_MEDIA_TYPE',
      /^content-encoding: compressed bodies are not accepted, received "gzip"$/,
    ],
  ])('%s', async (_, body, headers, status, code, message) => {
    expect(await refused(ip, body, headers)).toMatchObject({ status, code, message: expect.stringMatching(message) });
  });

  it('wrong types deep inside', async () => {
    expect(await refused(ip, { embedding: [null, '3', true] })).toMatchObject({
      code: 'BELFRY_INVALID_ARGUMENT',
      message: expect.stringMatching(/^embedding\.\d: expected a number/),
    });
    expect(await refused(ip, { user_id: { $gt: '' } })).toMatchObject({
      status: 400,
      message: expect.stringMatching(/^user_id: expected a string or an integer/),
    });
    expect(await refused(ip, { user_id: 'x'.repeat(257) })).toMatchObject({
      status: 400,
      message: expect.stringMatching(/^user_id: expected at most 256 characters, received 257/),
    });
    expect(await refused(ip, { user_id: 2 ** 53 })).toMatchObject({
      status: 400,
      message: expect.stringMatching(/^user_id: expected at most 9007199254740991/),
    });
  });
});

describe('V3: query vectors', () => {
  it.each<[object, 'ip' | 'cosine', number, string, RegExp]>([
    [
      { embedding: [1, 2, 3] },
      'ip',
      422,
      'BELFRY_DIMS_MISMATCH',
      /^embedding: expected 8 dims \(generation \d{8}-\d{6}-[0-9a-f]{4}\), received 3$/,
    ],
    [
      { embedding: Array(4097).fill(0) },
      'ip',
      400,
      'BELFRY_INVALID_ARGUMENT',
      /^embedding: expected at most 4096 entries, received 4097$/,
    ],
    [
      { embedding: [1e300, ...vector.slice(1)] },
      'ip',
      422,
      'BELFRY_INVALID_QUERY_VECTOR',
      /^embedding\.0: expected a finite 32-bit number, received 1e\+300$/,
    ],
    [
      { embedding: Array(DIMS).fill(0) },
      'ip',
      422,
      'BELFRY_INVALID_QUERY_VECTOR',
      /^embedding: a zero vector ranks nothing under ip$/,
    ],
    [
      { embedding: Array(DIMS).fill(0) },
      'cosine',
      422,
      'BELFRY_INVALID_QUERY_VECTOR',
      /^embedding: a zero vector ranks nothing under cosine$/,
    ],
  ])('%j under %s', async (body, metric, status, code, message) => {
    expect(await refused(metric === 'ip' ? ip : cosine, body)).toMatchObject({
      status,
      code,
      message: expect.stringMatching(message),
    });
  });
});

describe('what this generation cannot do', () => {
  it.each<[object, number, string, RegExp]>([
    [
      {},
      400,
      'BELFRY_INVALID_ARGUMENT',
      /^body: expected exactly one of user_id, features, embedding, item_ids, received none$/,
    ],
    [{ user_id: 1, item_ids: [1] }, 400, 'BELFRY_INVALID_ARGUMENT', /received 2$/],
    [
      { features: { a: 1 } },
      409,
      'BELFRY_NO_USER_TOWER',
      /^features: this generation has no user tower; send user_id, embedding or item_ids$/,
    ],
    [
      { user_id: 1, rerank: true },
      409,
      'BELFRY_NO_RERANKER',
      /^rerank: generation .* has no reranker: its registry names none/,
    ],
    [
      { item_ids: ['a', 'b'] },
      404,
      'BELFRY_UNKNOWN_ITEM',
      /^item_ids: none of the 2 ids is in generation .* \(first: "a"\)$/,
    ],
    [
      { user_id: 1, with_metadata: ['title'] },
      400,
      'BELFRY_UNKNOWN_FIELD',
      /^with_metadata\.0: no column "title" in no table; known: none$/,
    ],
    [
      { user_id: 1, filter: { must: [{ field: 'price', lt: 3 }] } },
      400,
      'BELFRY_UNKNOWN_FIELD',
      /^filter\.must\.0\.field: no column "price"/,
    ],
  ])('%j', async (body, status, code, message) => {
    expect(await refused(ip, body)).toMatchObject({ status, code, message: expect.stringMatching(message) });
  });

  it('routes and methods that are not there', async () => {
    const nowhere = await ip.app.inject({ method: 'POST', url: '/retreive', payload: {} });
    expect([nowhere.statusCode, nowhere.json()]).toMatchObject([
      404,
      { code: 'BELFRY_NOT_FOUND', message: 'POST /retreive: no such route; see /docs' },
    ]);
    const method = await ip.app.inject({ method: 'GET', url: '/retrieve?k=3' });
    expect([method.statusCode, method.headers.allow, method.json()]).toMatchObject([
      405,
      'POST',
      { code: 'BELFRY_METHOD_NOT_ALLOWED', message: 'GET /retrieve: use POST' },
    ]);
  });

  it('keeps the text of its own failures to itself', async () => {
    const app = ip.app;
    const failing = vi.spyOn(ip.store, 'use').mockRejectedValueOnce(new Error('secret /etc/path'));
    const response = await ip.post('/retrieve', { embedding: vector });
    failing.mockRestore();
    expect(response.statusCode).toBe(500);
    expect(response.json()).toMatchObject({
      code: 'BELFRY_INTERNAL',
      message: 'the request failed inside the service; its log has the reason under this request id',
    });
    expect(response.body).not.toContain('secret');
    expect((await app.inject({ method: 'GET', url: '/healthz' })).statusCode).toBe(200);
  });
});

it('Q4: a stalled upload is closed within the request timeout and a second, others are served meanwhile', async () => {
  const address = new URL(await listen(ip.app, { host: '127.0.0.1', port: 0, max_connections: 100 }));
  const closed = (begin: string) =>
    new Promise<{ afterMs: number; text: string }>((resolve, reject) => {
      const started = performance.now();
      let text = '';
      const socket = connect(Number(address.port), '127.0.0.1', () => socket.write(begin));
      socket.on('data', (chunk) => {
        text += chunk;
      });
      socket.on('close', () => resolve({ afterMs: performance.now() - started, text }));
      socket.on('error', reject);
    });
  const slow = Promise.all([
    closed('POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"k"'),
    closed('POST /retrieve HTTP/1.1\r\nhost: x\r\nslow-head'),
  ]);
  const healthy = await fetch(new URL('/retrieve', address), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ embedding: vector }),
  });
  expect(healthy.status).toBe(200);
  for (const { afterMs, text } of await slow) {
    expect(text).toMatch(/^HTTP\/1\.1 408 /);
    expect(afterMs).toBeLessThan(1000 + 1000 + 1000); // the limit, a second, and a busy machine
  }
});
