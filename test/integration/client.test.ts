/** The client against the real application on a real socket, and against servers that fail in every way. */
import { rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BelfryClient, BelfryClientError, type BelfryClientOptions, isRefused } from '../../src/client/index.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
let folder: string;
let service: Service;
let url: string;
let client: BelfryClient;
beforeAll(async () => {
  folder = temporaryFolder({ keep: true });
  makeModelsFolder(folder, {
    items: { data: randomValues(50 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(5 * DIMS, 2), dims: DIMS },
    files: { 'embeddings/item_ids.txt': Array.from({ length: 50 }, (_, row) => `i${row}`).join('\n') },
  });
  service = await startService(folder, { upserts: {} });
  url = await service.app.listen({ port: 0, host: '127.0.0.1' });
  client = new BelfryClient({ url, timeoutMs: 10_000 });
});
afterAll(async () => {
  await client.close();
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

async function errorOf(call: Promise<unknown>): Promise<BelfryClientError> {
  const error: unknown = await call.then(
    (answer) => expect.fail(`expected an error, received ${JSON.stringify(answer)}`),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(BelfryClientError);
  return error as BelfryClientError;
}

describe('calls', () => {
  it('retrieve, similar items and users, in the order of the server', async () => {
    const answer = await client.retrieve({ user_id: 3, k: 4, explain: true }, { timeoutMs: 9000 });
    expect(answer).toMatchObject({ generation: service.generation.id, returned: 4, degraded: [] });
    const direct = await service.post('/retrieve', { user_id: 3, k: 4 });
    expect(answer.items).toEqual(direct.json().items);
    const [{ id } = { id: '' }] = answer.items;
    expect((await client.similarItems({ item_id: id, k: 2 })).returned).toBe(2);
    expect((await client.similarUsers({ user_id: 3, k: 2 })).returned).toBe(2);
  });

  it('a batch has an answer or an error at each place', async () => {
    const answers = await client.retrieveBatch([{ user_id: 1, k: 2 }, { item_ids: ['nobody'] }, { user_id: 2, k: 1 }]);
    expect(answers.map(isRefused)).toEqual([false, true, false]);
    expect(isRefused(answers[1]!) && answers[1].error.code).toBe('BELFRY_UNKNOWN_ITEM');
  });

  it('puts and deletes an item', async () => {
    const embedding = Array.from({ length: DIMS }, () => 9);
    expect(await client.putItem('a/b c', { embedding })).toMatchObject({ id: 'a/b c', result: 'created' });
    expect((await client.retrieve({ embedding, k: 1 })).items[0]!.id).toBe('a/b c');
    expect((await client.deleteItem('a/b c')).result).toBe('deleted');
    expect((await errorOf(client.deleteItem('a/b c'))).status).toBe(404);
  });

  it('health and readiness', async () => {
    expect(await client.health()).toEqual({ status: 'ok' });
    expect(await client.ready()).toMatchObject({ ready: true, items: 50 });
  });

  it('a refusal has code, field, limit and request id', async () => {
    const error = await errorOf(client.retrieve({ user_id: 1, k: 5000 }, { requestId: 'job-7' }));
    expect(error).toMatchObject({ code: 'BELFRY_INVALID_ARGUMENT', status: 400, field: 'k', limit: 1000, attempts: 1 });
    expect(error.message).toBe('k: expected at most 1000, received 5000');
    expect(error.requestId).toMatch(/./);
  });
});

/** Answers each request by the next of a list of ways, the last one for ever. */
const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});
type Way = (request: IncomingMessage, response: ServerResponse) => void;
async function faulty(ways: readonly Way[], options: Partial<BelfryClientOptions> = {}) {
  const seen: IncomingMessage[] = [];
  const server: Server = createServer((request, response) => {
    seen.push(request);
    request.resume();
    request.on('end', () => ways[Math.min(seen.length, ways.length) - 1]!(request, response));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const one = new BelfryClient({ url: address, ...options });
  closing.push(async () => {
    await one.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { client: one, seen };
}
const ok: Way = (_request, response) => response.end(JSON.stringify({ items: [], returned: 0 }));
const refuse =
  (status: number, headers: Record<string, string> = {}): Way =>
  (_request, response) =>
    response
      .writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'r1', ...headers })
      .end(JSON.stringify({ code: 'BELFRY_OVERLOADED', message: 'a queue is full', request_id: 'r1' }));
const reset: Way = (request) => request.socket.destroy();
const silent: Way = () => undefined;
const drip: Way = (_request, response) => {
  response.writeHead(200);
  const timer = setInterval(() => response.write(' '), 10);
  response.on('close', () => clearInterval(timer));
};

describe('faults', () => {
  it('waits as long as Retry-After says, then asks again', async () => {
    const { client: one, seen } = await faulty([refuse(503, { 'retry-after': '1' }), ok]);
    const started = performance.now();
    expect((await one.retrieve({ user_id: 1 }, { timeoutMs: 5000 })).returned).toBe(0);
    expect(performance.now() - started).toBeGreaterThan(990);
    expect(seen).toHaveLength(2);
  });

  it('does not wait where Retry-After is past the deadline', async () => {
    const { client: one, seen } = await faulty([refuse(503, { 'retry-after': '30' })]);
    const started = performance.now();
    const error = await errorOf(one.retrieve({ user_id: 1 }));
    expect(error).toMatchObject({
      code: 'BELFRY_OVERLOADED',
      status: 503,
      retryAfterMs: 30_000,
      requestId: 'r1',
      attempts: 1,
    });
    expect(performance.now() - started).toBeLessThan(900);
    expect(seen).toHaveLength(1);
  });

  it('asks again after a reset, with what is left of the deadline', async () => {
    const { client: one, seen } = await faulty([reset, reset, ok]);
    await one.retrieve({ user_id: 1 }, { timeoutMs: 2000 });
    const deadlines = seen.map(({ headers }) => Number(headers['x-deadline-ms']));
    expect(deadlines).toHaveLength(3);
    expect(deadlines[0]).toBeLessThanOrEqual(2000);
    expect(deadlines[2]!).toBeLessThan(deadlines[0]!);
  });

  it('does not start a build twice, but tries again where nothing was sent', async () => {
    const { client: one, seen } = await faulty([reset]);
    expect(await errorOf(one.rebuild())).toMatchObject({ code: 'BELFRY_SERVER_UNREACHABLE', attempts: 1 });
    expect(seen).toHaveLength(1);
    const nobody = new BelfryClient({ url: 'http://127.0.0.1:9' });
    expect(await errorOf(nobody.rebuild())).toMatchObject({ code: 'BELFRY_SERVER_UNREACHABLE', attempts: 3 });
    await nobody.close();
  });

  it.each([
    ['a server that never answers', silent],
    ['an answer that drips', drip],
  ])('gives %s up at the deadline', async (_name, way) => {
    const { client: one, seen } = await faulty([way]);
    const started = performance.now();
    const error = await errorOf(one.retrieve({ user_id: 1 }, { timeoutMs: 120 }));
    expect(error).toMatchObject({ code: 'BELFRY_DEADLINE_EXCEEDED', attempts: 1 });
    expect(error.message).toBe('POST /retrieve: no answer within 120 ms; raise timeoutMs');
    expect(performance.now() - started).toBeLessThan(1000);
    expect(seen).toHaveLength(1);
  });

  it('ends with the reason of the signal, also while it waits to ask again', async () => {
    for (const way of [silent, refuse(503, { 'retry-after': '1' })]) {
      const { client: one } = await faulty([way]);
      const stop = new AbortController();
      const reason = new Error('the page was closed');
      setTimeout(() => stop.abort(reason), 60);
      await expect(one.retrieve({ user_id: 1 }, { timeoutMs: 5000, signal: stop.signal })).rejects.toBe(reason);
    }
  });

  it('keeps retries within a tenth of the calls', async () => {
    const { client: one, seen } = await faulty([refuse(503)], { retries: 5 });
    const calls = 60;
    for (let call = 0; call < calls; call++) await errorOf(one.retrieve({ user_id: 1 }));
    const retries = seen.length - calls;
    expect(retries).toBeGreaterThanOrEqual(10);
    expect(retries).toBeLessThanOrEqual(10 + calls / 10);
  });

  it('tells of answers that are none of Belfry', async () => {
    const page: Way = (_request, response) => response.writeHead(502).end('<html>');
    const { client: one } = await faulty([page, (_request, response) => response.end('{"items":')]);
    const [first, second] = [await errorOf(one.retrieve({ user_id: 1 })), await errorOf(one.retrieve({ user_id: 1 }))];
    expect([first.code, first.status, second.code, second.status]).toEqual([
      'BELFRY_BAD_ANSWER',
      502,
      'BELFRY_BAD_ANSWER',
      200,
    ]);
    expect(first.message).toMatch(
      /^POST http:\/\/127\.0\.0\.1:\d+\/retrieve: the answer has status 502 and is no error of Belfry$/,
    );
    expect(second.message).toMatch(/the answer is not JSON$/);
  });

  it('`ready: false` is an answer', async () => {
    const { client: one } = await faulty([
      (_request, response) => response.writeHead(503).end('{"ready":false,"reason":"loading"}'),
    ]);
    expect(await one.ready()).toEqual({ ready: false, reason: 'loading' });
  });

  it('sends its key and headers, and keeps one socket open', async () => {
    const { client: one, seen } = await faulty([ok], { apiKey: 'k-1', headers: { 'x-team': 'feed' } });
    for (let call = 0; call < 20; call++) await one.retrieve({ user_id: 1 }, { headers: { traceparent: '00-1-2-01' } });
    expect(new Set(seen.map(({ socket }) => socket)).size).toBeLessThanOrEqual(2);
    expect(seen[4]!.headers).toMatchObject({ 'x-api-key': 'k-1', 'x-team': 'feed', traceparent: '00-1-2-01' });
  });
});
