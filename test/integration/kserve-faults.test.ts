/** S1 and S2 over a model server: whatever it does, requests are answered in time, and it comes back by itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { warmUp } from '../../src/generation/warm-up.js';
import type { Fault } from '../support/kserve-fake.js';
import { type KserveAnswer, type KserveService, startKserveService } from '../support/kserve-service.js';

let service: KserveService;
afterEach(() => service.close());

/** Closed loop of eight clients for `ms`; each answer with the time since the start. */
async function load(ms: number, body: object = {}): Promise<(KserveAnswer & { at: number })[]> {
  const started = performance.now();
  const answers: (KserveAnswer & { at: number })[] = [];
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      while (performance.now() - started < ms) {
        const answer = await service.ask(body);
        answers.push({ ...answer, at: performance.now() - started });
        await sleep(5);
      }
    }),
  );
  return answers;
}

async function until(what: () => Promise<boolean> | boolean, ms = 8000): Promise<number> {
  const started = performance.now();
  while (!(await what())) {
    if (performance.now() - started > ms) throw new Error(`not within ${ms} ms`);
    await sleep(20);
  }
  return performance.now() - started;
}

describe('a reranker on a model server', () => {
  it('orders by the scores of the server, in binary and over a connection that is kept', async () => {
    service = await startKserveService();
    const answer = await service.ask();
    expect(answer).toMatchObject({ status: 200, degraded: [], reranker: 'dcn-v2@0.9' });
    for (const { score, retrieval_score } of answer.items) expect(score).toBeCloseTo(retrieval_score * 2 + 1, 4);
    const { headers, parsed } = service.fake.seen.at(-1)!;
    expect(headers['content-type']).toBe('application/octet-stream');
    expect(parsed!.inputs.item_embedding!.raw!.length).toBe(40 * 8 * 4);
    for (let i = 0; i < 5; i++) await service.ask();
    expect(service.fake.connections).toBeLessThanOrEqual(2);
    expect(service.fake.refused).toEqual([]);
  });

  it('sends JSON to a server that does not list binary_tensor_data', async () => {
    service = await startKserveService({ fake: { extensions: [] } });
    const answer = await service.ask();
    expect(answer).toMatchObject({ status: 200, degraded: [], reranker: 'dcn-v2@0.9' });
    expect(service.fake.seen.at(-1)!.headers['content-type']).toBe('application/json');
    expect(service.fake.refused).toEqual([]);
  });

  it('that is down at the start never stops serving, and comes in when it is back', async () => {
    service = await startKserveService({ isDown: true });
    expect((await service.app.inject('/readyz')).json()).toMatchObject({
      ready: true,
      scorers: [{ name: 'dcn-v2', server: 'default', state: 'open', problem: { code: 'BELFRY_MODEL_SERVER_FAILED' } }],
    });
    await warmUp(service.generation); // what a follower does before it serves
    expect(await service.ask()).toMatchObject({ status: 200, degraded: ['rerank_skipped'] });
    await service.fake.listen();
    await until(async () => (await service.ask()).degraded.length === 0);
    expect((await service.app.inject('/readyz')).json().scorers[0].state).toBe('closed');
  });
});

describe('golden requests of a scorer on a model server', () => {
  const vectors = { item_embedding: { row: [1, 2, 3, 4, 5, 6, 7, 8] } };
  const golden = (scores: number[]) => ({
    'golden/dcn.json': JSON.stringify({
      requests: [{ item_ids: [4, 0, 7], retrieval_scores: [0.5, 0.25, 0.125], inputs: vectors, scores }],
    }),
  });

  it('are scored before it serves', async () => {
    service = await startKserveService({ files: golden([2, 1.5, 1.25]) });
    expect(await service.ask()).toMatchObject({ status: 200, degraded: [], reranker: 'dcn-v2@0.9' });
    expect(service.fake.seen.some(({ parsed }) => parsed?.inputs.dense?.shape[0] === 3)).toBe(true);
  });

  it('that another model under the same name does not reproduce keep requests away from it', async () => {
    service = await startKserveService({ files: golden([2, 1.4, 1.25]) });
    expect(await service.ask()).toMatchObject({ status: 200, degraded: ['rerank_skipped'] });
    const { scorers } = (await service.app.inject('/readyz')).json();
    expect(scorers).toMatchObject([{ name: 'dcn-v2', state: 'open', problem: { code: 'BELFRY_GOLDEN' } }]);
    expect(scorers[0].problem.message).toContain('item 0: recorded score 1.4, scored 1.5 (tolerance 0.0001)');
  });
});

describe('S1', { retry: 2 }, () => {
  const plain: [Fault, string][] = [
    ['500', 'answers 500: "out of memory on device"'],
    ['503', 'answers 503'],
    ['garbage', 'inference-header-content-length is "999"'],
    ['short tensor', 'FP32 [40] takes 160 bytes, received 4'],
    ['wrong shape', 'expected [40], [40, 1] or [40, tasks], received [41]'],
    ['wrong dtype', 'received int32'],
    ['reset', 'failed'],
    ['too large', 'at most 16777216 are read'],
    ['redirect', 'redirects are not followed'],
    ['other version', 'version 1 was asked, version 9 answers'],
  ];
  it.each(plain)('%s: retrieval order, rerank_skipped, and the breaker knows why', async (fault, why) => {
    service = await startKserveService();
    const before = await service.ask({ rerank: false });
    service.fake.fault = fault;
    const answers = [];
    for (let i = 0; i < 5; i++) answers.push(await service.ask());
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 200, degraded: ['rerank_skipped'], ids: before.ids });
      expect(answer.reranker).toBeUndefined();
    }
    expect(service.states.at(-1)).toMatchObject({ state: 'open' });
    expect(service.states.at(-1)!.cause!.message).toContain(why);
    expect((await service.app.inject('/readyz')).statusCode).toBe(200);
  });

  it.each<[Fault]>([['hung'], ['slow drip']])(
    '%s: in time, with rerank_timeout, then without waiting',
    async (fault) => {
      service = await startKserveService();
      service.fake.fault = fault;
      const first = await service.ask({ timeout_ms: 150 });
      expect(first).toMatchObject({ status: 200, degraded: ['rerank_timeout'] });
      expect(first.ms).toBeLessThan(900);
      const opened = await until(async () => (await service.ask({ timeout_ms: 150 })).degraded[0] === 'rerank_skipped');
      expect(opened).toBeLessThan(3000); // five deadlines one after the other, and a busy machine
      const skipped = await service.ask({ timeout_ms: 150 });
      expect(skipped.degraded).toEqual(['rerank_skipped']);
      expect(skipped.ms).toBeLessThan(100);
    },
  );

  it('NaN in all scores keeps retrieval order and opens the breaker; NaN in some does not', async () => {
    service = await startKserveService();
    service.fake.fault = 'some NaN';
    for (let i = 0; i < 6; i++)
      expect(await service.ask()).toMatchObject({ status: 200, degraded: ['rerank_scores_invalid'] });
    expect(service.states.at(-1)!.state).toBe('closed');
    service.fake.fault = 'NaN';
    for (let i = 0; i < 5; i++)
      expect(await service.ask()).toMatchObject({ status: 200, degraded: ['rerank_scores_invalid'] });
    expect(service.states.at(-1)!.cause!.message).toBe('all 40 scores are not finite');
    expect(await service.ask()).toMatchObject({ degraded: ['rerank_skipped'] });
  });
});

describe('S2', { retry: 2 }, () => {
  it.each<[Fault | 'gone']>([['hung'], ['gone']])(
    '%s under load: every request is answered, the breaker opens within a second and closes by itself',
    async (fault) => {
      service = await startKserveService({ server: { timeoutMs: 500 } });
      const running = load(3500, { timeout_ms: 150 });
      await sleep(300);
      const broken = performance.now();
      if (fault === 'gone') await service.fake.stop();
      else Object.assign(service.fake, { fault, faultEverywhere: true });
      await sleep(1200);
      const infers = service.fake.infers;
      if (fault === 'gone') await service.fake.listen();
      else Object.assign(service.fake, { fault: undefined, faultEverywhere: false });
      const answers = await running;
      expect(answers.map(({ body }) => body).filter((body) => body !== '')).toEqual([]);
      const reasons = new Set(answers.flatMap(({ degraded }) => degraded));
      expect([...reasons].filter((reason) => !['rerank_skipped', 'rerank_timeout'].includes(reason))).toEqual([]);
      const opened = service.states.find(({ state, at }) => state === 'open' && at > broken);
      expect(opened!.at - broken).toBeLessThan(1000);
      await until(async () => (await service.ask()).degraded.length === 0);
      expect(service.states.at(-1)!.state).toBe('closed');
      // Probes went out one by one: metadata and one run each.
      const probes = service.states.filter(({ state }) => state === 'half-open').length;
      expect(probes).toBeGreaterThan(0);
      expect(service.fake.infers).toBeGreaterThan(infers);
    },
    20_000,
  );
});

it('strict: a request that takes nothing less than a re-ranked answer gets 504', async () => {
  service = await startKserveService();
  expect(await service.ask({ strict: true })).toMatchObject({ status: 200, degraded: [] });
  service.fake.fault = '500';
  const response = await service.post('/retrieve', { user_id: 3, rerank: true, strict: true });
  expect(response.statusCode).toBe(504);
  expect(response.json().code).toBe('BELFRY_RERANK_MISSING');
});
