/** Deadlines, the ladder, and clients that hold sockets: what comes back, with which code, and that it passes again. */
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OVERLOAD_DEFAULTS } from '../../src/config/overload.js';
import { BelfryError } from '../../src/errors.js';
import { DEFAULTS } from '../../src/config/schema.js';
import { buildApp } from '../../src/http/app.js';
import { timeoutOf } from '../../src/http/request-deadline.js';
import { listen } from '../../src/http/server.js';
import { Deadline } from '../../src/retrieval/deadline.js';
import { LoadGuard } from '../../src/retrieval/load-guard.js';
import { fillRetrieve, type RetrieveRequest, type RetrieveResponse } from '../../src/retrieval/request.js';
import { Retriever } from '../../src/retrieval/retriever.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { PlainViews } from '../../src/upserts/item-upserts.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
/** User 0 is never answered; others after ten milliseconds, one at a time, as by a scorer with one lane. */
const MODULE = `
let lane = Promise.resolve();
export function rerank(request, candidates) {
  if (request.userId === 0) return new Promise(() => {});
  lane = lane.then(() => new Promise((done) => setTimeout(done, 10)));
  return lane.then(() => candidates.map((candidate) => candidate.rank));
}`;

let service: Service;
beforeAll(async () => {
  const folder = makeModelsFolder(temporaryFolder({ keep: true }), {
    items: { data: randomValues(500 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(50 * DIMS, 2), dims: DIMS },
  });
  const rerankModule = join(folder, 'rerank.mjs');
  writeFileSync(rerankModule, MODULE);
  service = await startService(folder, {
    load: { rerankModule },
    settings: { timeout_max_ms: 900, request_timeout_ms: 2000 },
  });
});
afterAll(() => service.close());

// First: the requests that are never scored, below, open the reranker's breaker.
describe('more than there is room for', () => {
  const setUp = () => {
    const metrics = new Metrics();
    const retriever = new Retriever(service.store, metrics);
    const ask = (i: number, more: Partial<RetrieveRequest> = {}) =>
      retriever.retrieve(
        fillRetrieve({ source: { kind: 'user', id: 1 + (i % 49) }, rerank: true, timeoutMs: 1000, ...more }),
      );
    const flood = (count: number, more: Partial<RetrieveRequest> = {}) =>
      Promise.allSettled(Array.from({ length: count }, (_, i) => ask(i, more)));
    return { metrics, ask, flood };
  };
  const value = (text: string, name: string) => Number(text.split(`${name} `)[1]?.split('\n')[0] ?? 0);

  it('is answered with less, says so, and is whole again when the load has gone', async () => {
    const { metrics, ask, flood } = setUp();
    const answers = (await flood(300)).flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
    const skipped = answers.filter(({ degraded }) => degraded.includes('rerank_skipped')).length;
    expect(skipped).toBeGreaterThan(100);
    expect(answers.filter(({ degraded }) => degraded.length === 0).length).toBeGreaterThan(0);
    const text = await metrics.registry.metrics();
    expect(value(text, 'belfry_degraded_total{reason="rerank_skipped"}')).toBe(skipped);
    const lower = [2, 3].map((level) => value(text, `belfry_admitted_total{level="${level}"}`));
    expect(lower[0]! + lower[1]!).toBeGreaterThan(100);
    await expect.poll(async () => (await ask(1)).degraded, { timeout: 10_000 }).toEqual([]);
  });

  it('a cut-off by the scores of a reranker is not held against others when the ladder skips it', async () => {
    const { flood } = setUp();
    const rules = { diversity: 0, caps: [], boosts: [], pins: [], minScore: -1e9 };
    const all = await flood(300, { rules, k: 5 });
    const skipped = all.flatMap((one) =>
      one.status === 'fulfilled' && one.value.degraded.includes('rerank_skipped') ? [one.value] : [],
    );
    expect(skipped.length).toBeGreaterThan(100);
    for (const { degraded, returned } of skipped) {
      expect(degraded).toContain('min_score_skipped');
      expect(returned).toBe(5);
    }
  });

  it('searches for what is similar are admitted too', async () => {
    const metrics = new Metrics();
    const retriever = new Retriever(service.store, metrics, undefined, undefined, undefined, {
      ...OVERLOAD_DEFAULTS,
      queue_max: 0,
    });
    const of = (id: number) => ({
      ...fillRetrieve({ source: { kind: 'user', id } }),
      source: { kind: 'id', id } as const,
    });
    await Promise.all([retriever.similarItems(of(1)), retriever.similarUsers(of(2))]);
    expect(value(await metrics.registry.metrics(), 'belfry_admitted_total{level="0"}')).toBe(2);
    const late = { ...of(1), timeoutMs: 0 };
    await expect(retriever.similarItems(late)).rejects.toMatchObject({ code: 'BELFRY_DEADLINE_EXCEEDED' });
  });

  it('the deadline reaches the queue of scans, which drops what is late', async () => {
    const { searcher } = service.generation;
    const until: unknown[] = [];
    const told = Object.create(searcher, {
      search: {
        value: (search: { until?: number }) => {
          until.push(search.until);
          return searcher.search(search as never);
        },
      },
    }) as typeof searcher;
    await new PlainViews().use(service.generation, async (view) =>
      view.search(told, {
        query: new Float32Array(DIMS).fill(1),
        k: 3,
        exact: true,
        exclude: new Uint32Array(0),
        until: 1e12,
      }),
    );
    expect(until).toEqual([1e12]);
  });

  it('strict requests get all they ask for or 503', async () => {
    const { flood } = setUp();
    const all = await flood(300, { strict: true });
    const codes = all.flatMap((one) => (one.status === 'rejected' ? [(one.reason as BelfryError).code] : []));
    expect(codes.length).toBeGreaterThan(100);
    expect(codes).toContain('BELFRY_OVERLOADED');
    const reasons = all.flatMap((one) => (one.status === 'fulfilled' ? one.value.degraded : []));
    expect(reasons).not.toContain('recall_lowered');
    expect(reasons).not.toContain('popular_list');
  });

  it('a refusal over HTTP has Retry-After', async () => {
    const metrics = new Metrics();
    const settings = { ...DEFAULTS, timeout_ms: 900, loop_delay_max_ms: 60_000 };
    const retriever = new Retriever(service.store, metrics, undefined, undefined, undefined, {
      ...OVERLOAD_DEFAULTS,
      queue_max: 0,
    });
    const app = await buildApp({ retriever, metrics, settings, version: 'test' });
    const body = { user_id: 1, rerank: true, strict: true };
    const all = await Promise.all(
      Array.from({ length: 200 }, () => app.inject({ method: 'POST', url: '/retrieve', payload: body })),
    );
    const refused = all.find(({ statusCode }) => statusCode === 503)!;
    expect(refused.json()).toMatchObject({ code: 'BELFRY_OVERLOADED', limit: 0 });
    expect(refused.headers['retry-after']).toBe('1');
    await app.close();
  });
});

describe('deadlines', () => {
  it.each([
    [{ timeout_ms: 0 }, {}, 'timeout_ms', 1],
    [{ timeout_ms: 1001 }, {}, 'timeout_ms', 1000],
    [{ timeout_ms: 901 }, {}, 'timeout_ms', 900],
    [{}, { 'x-deadline-ms': 'soon' }, 'x-deadline-ms', 3_600_000],
    [{}, { 'x-deadline-ms': '-1' }, 'x-deadline-ms', 3_600_000],
    [{}, { 'x-deadline-ms': '1.5' }, 'x-deadline-ms', 3_600_000],
    [{}, { 'x-deadline-ms': '3600001' }, 'x-deadline-ms', 3_600_000],
  ])('%j %j is refused with its limit', async (body, headers, field, limit) => {
    const answer = await service.post('/retrieve', { user_id: 1, ...body }, headers as Record<string, string>);
    expect([answer.statusCode, answer.json()]).toMatchObject([400, { code: 'BELFRY_INVALID_ARGUMENT', field, limit }]);
  });

  it.each([
    [60, '3600000', 60],
    [800, '60', 60],
    [undefined, '60', 60],
    [undefined, '800', 100],
    [undefined, undefined, 100],
    [900, undefined, 900],
  ])('of %s in the body and %s in the header, %i ms hold', (body, header, timeout) => {
    const headers = header === undefined ? {} : { 'x-deadline-ms': header };
    expect(timeoutOf(body, headers, { timeout_ms: 100, timeout_max_ms: 900 })).toBe(timeout);
  });

  it('no time left is 504, without a search', async () => {
    const answer = await service.post('/retrieve', { user_id: 1 }, { 'x-deadline-ms': '0' });
    expect([answer.statusCode, answer.json()]).toMatchObject([
      504,
      { code: 'BELFRY_DEADLINE_EXCEEDED', field: 'x-deadline-ms', limit: 0 },
    ]);
  });

  it('the header of a batch is about all of it: what begins too late is dropped', async () => {
    const requests = Array.from({ length: 256 }, (_, user_id) => ({ user_id }));
    const answer = await service.post('/retrieve/batch', { requests }, { 'x-deadline-ms': '2' });
    expect(answer.json().responses.at(-1)).toMatchObject({ error: { code: 'BELFRY_DEADLINE_EXCEEDED' } });
  });
});

describe('no room at all', () => {
  const request = (more: Partial<RetrieveRequest> = {}) =>
    fillRetrieve({ source: { kind: 'user', id: 7 }, k: 5, ...more });
  const failing = () => Promise.reject(new BelfryError('BELFRY_OVERLOADED', 'full'));

  const views = new PlainViews();
  async function run(
    guard: LoadGuard,
    asked: RetrieveRequest,
    work: () => Promise<RetrieveResponse>,
    deadline = new Deadline(1000),
  ) {
    return views.use(service.generation, (view) => guard.run(asked, view, deadline, work));
  }

  it('the popular list stands in, without what the request leaves out', async () => {
    const metrics = new Metrics();
    const guard = new LoadGuard(OVERLOAD_DEFAULTS, metrics);
    await expect(run(guard, request(), failing)).rejects.toThrow('full'); // before the list is made
    await guard.prepare(service.generation);
    const answer = await run(guard, request(), failing);
    expect(answer).toMatchObject({ degraded: ['popular_list'], returned: 5, generation: service.generation.id });
    const mean = await service.post('/retrieve', {
      embedding: [...service.generation.defaultQuery],
      k: 6,
      exact: true,
    });
    const ids = mean.json().items.map(({ id }: { id: number }) => id);
    expect(answer.items.map(({ id }) => id)).toEqual(ids.slice(0, 5));
    const without = await run(guard, request({ exclude: [ids[0]] }), failing);
    expect(without.items.map(({ id }) => id)).toEqual(ids.slice(1, 6));
    expect(await metrics.registry.metrics()).toMatch(/belfry_degraded_total\{reason="popular_list"\} 2/);
  });

  it('not for strict requests, filters, other failures, too late ones, or where degrading is off', async () => {
    const guard = new LoadGuard(OVERLOAD_DEFAULTS, new Metrics());
    await guard.prepare(service.generation);
    await expect(run(guard, request({ strict: true }), failing)).rejects.toThrow('full');
    await expect(run(guard, request({ filter: { must: [] } }), failing)).rejects.toThrow('full');
    const broken = () => Promise.reject(new BelfryError('BELFRY_INTERNAL', 'broken'));
    await expect(run(guard, request(), broken)).rejects.toThrow('broken');
    const short = new Deadline(20);
    const late = () => sleep(30).then(failing);
    await expect(run(guard, request(), late, short)).rejects.toThrow('full');
    const off = new LoadGuard({ ...OVERLOAD_DEFAULTS, degrade: false }, new Metrics());
    await off.prepare(service.generation);
    await expect(run(off, request(), failing)).rejects.toThrow('full');
  });

  it('an answer that was found while much was in flight is given again, to the same question only', async () => {
    const guard = new LoadGuard({ ...OVERLOAD_DEFAULTS, cached_items: 10 }, new Metrics());
    const found = (await service.post('/retrieve', { user_id: 7, k: 5 })).json() as RetrieveResponse;
    const answer = { ...found, timings: {} };
    let done = (): void => undefined;
    const held = new Promise<RetrieveResponse>((resolve) => (done = () => resolve(answer)));
    const others = Array.from({ length: 45 }, () => run(guard, request({ rerank: true, candidates: 500 }), () => held));
    await run(guard, request(), () => Promise.resolve(answer));
    expect(await run(guard, request(), failing)).toMatchObject({ degraded: ['cached'], items: found.items });
    await expect(run(guard, request({ k: 6 }), failing)).rejects.toThrow('full');
    for (const id of [8, 9]) {
      const other = request({ source: { kind: 'user', id } });
      await run(guard, other, () => Promise.resolve(answer));
    }
    await expect(run(guard, request(), failing)).rejects.toThrow('full'); // the oldest made room
    done();
    await Promise.all(others);
  });
});

describe('sockets', () => {
  /** Resolves when the server closes it. */
  function hold(port: number, first: string): Promise<{ ms: number; text: string }> {
    return new Promise((resolve, reject) => {
      const started = performance.now();
      let text = '';
      const socket = connect(port, '127.0.0.1', () => first !== '' && socket.write(first));
      const drip = setInterval(() => first !== '' && socket.writable && socket.write('a'), 200);
      socket.on('data', (chunk) => (text += chunk.toString()));
      socket.on('error', reject);
      socket.on('close', () => {
        clearInterval(drip);
        resolve({ ms: performance.now() - started, text });
      });
    });
  }

  it('Q4: slow heads, slow bodies and silence are closed in time, and beyond max_connections at once; others are served', async () => {
    const address = await listen(service.app, { host: '127.0.0.1', port: 0, max_connections: 40 });
    const port = Number(new URL(address).port);
    const body =
      'POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{"k';
    const kinds = [body, 'POST /retrieve HTTP/1.1\r\nhost: x\r\nslow: ', ''];
    const slow = Array.from({ length: 36 }, (_, i) => hold(port, kinds[i % 3]!));
    const answers = await Promise.all(
      [1, 2, 3].map((user_id) =>
        fetch(`${address}/retrieve`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ user_id }),
        }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    const extra = await Promise.all(Array.from({ length: 6 }, () => hold(port, '').catch(() => ({ text: '' }))));
    expect(extra.filter(({ text }) => text === '').length).toBeGreaterThanOrEqual(5); // those let in are told 408
    for (const { ms, text } of await Promise.all(slow)) {
      expect(ms).toBeLessThan(2000 + 1000 + 1000); // the limit, a second, and a busy machine
      expect(text).toMatch(/^HTTP\/1\.1 408 [^]*BELFRY_REQUEST_TIMEOUT/);
    }
  });

  it('O1: a server that stops answers what comes, closes the sockets, and is not ready', async () => {
    const retriever = new Retriever(service.store, new Metrics());
    const app = await buildApp({ retriever, metrics: new Metrics(), settings: DEFAULTS, version: 'test' });
    retriever.isDraining = true;
    const answer = await app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 1, timeout_ms: 900 } });
    expect([answer.statusCode, answer.headers.connection]).toEqual([200, 'close']);
    expect((await app.inject('/readyz')).statusCode).toBe(503);
    await app.close();
  });
});

it('W3: while the event loop is behind, requests are refused unread, but not those who look after the server', async () => {
  const metrics = new Metrics();
  const app = await buildApp({
    retriever: new Retriever(service.store, metrics),
    metrics,
    settings: { ...DEFAULTS, timeout_ms: 900, loop_delay_max_ms: 200 },
    version: 'test',
  });
  const ask = () => app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 1 } });
  let answer = await ask();
  expect(answer.statusCode).toBe(200);
  for (const end = performance.now() + 10_000; answer.statusCode === 200 && performance.now() < end;) {
    for (const until = performance.now() + 300; performance.now() < until;);
    await sleep(1);
    answer = await ask();
  }
  expect([answer.statusCode, answer.json()]).toMatchObject([503, { code: 'BELFRY_OVERLOADED', limit: 200 }]);
  expect(answer.headers['retry-after']).toBe('1');
  for (const path of ['/healthz', '/readyz', '/metrics']) expect((await app.inject(path)).statusCode, path).toBe(200);
  await expect.poll(async () => (await ask()).statusCode, { timeout: 10_000, interval: 100 }).toBe(200);
  await app.close();
});
