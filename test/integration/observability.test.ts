/** What a running server tells of itself: metrics, live recall, request ids, slow requests. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { observeServer } from '../../src/cli/observe.js';
import type { AdminParts } from '../../src/http/parts.js';
import { RecallSampler, recallByScore, type Sampled } from '../../src/retrieval/recall-sampler.js';
import { Retriever } from '../../src/retrieval/retriever.js';
import { buildApp } from '../../src/http/app.js';
import { DEFAULTS } from '../../src/config/schema.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
/** A busy machine must not turn an answer into a 504. */
const PATIENT = { ...DEFAULTS, timeout_ms: 1000, loop_delay_max_ms: 60_000 };
const SLOW = `export async function rerank(request, candidates) {
  await new Promise((resolve) => setTimeout(resolve, 30));
  return candidates.map(({ rank }) => -rank);
}`;
let folder: string;
let service: Service;
const lines: Record<string, unknown>[] = [];
const logger = pino(
  { level: 'info' },
  new Writable({
    write(chunk, _encoding, done) {
      lines.push(JSON.parse(String(chunk)));
      done();
    },
  }),
);
beforeAll(async () => {
  folder = temporaryFolder({ keep: true });
  const rerankModule = join(folder, 'rerank.mjs');
  writeFileSync(rerankModule, SLOW);
  makeModelsFolder(folder, {
    items: { data: randomValues(300 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(20 * DIMS, 2), dims: DIMS },
  });
  service = await startService(folder, {
    load: { rerankModule },
    settings: { slow_request_ms: 25, access_log_share: 1 },
    parts: { logger },
  });
});
afterAll(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

const ask = (body: object, headers: Record<string, string> = {}) =>
  service.post('/retrieve', { user_id: 3, k: 5, ...body }, headers);
const scrape = async () => (await service.app.inject({ url: '/metrics' })).body;
const valueOf = (text: string, line: string) => {
  const found = text.split('\n').find((one) => one.startsWith(`${line} `));
  expect(found, line).toBeDefined();
  return Number(found!.split(' ').at(-1));
};

describe('metrics', () => {
  it('tell the ways of searches, what waits together, what caches hold and what is in flight', async () => {
    const stop = observeServer(
      { recall_sample_share: 0, recall_sample_gap_ms: 1000 },
      new Retriever(service.store, service.metrics),
      service.metrics,
    );
    const filter = { must: [{ field: 'id', lt: 200 }] };
    const asked = await Promise.all(Array.from({ length: 20 }, (_, user_id) => ask({ user_id })));
    expect(asked.map(({ statusCode }) => statusCode)).toEqual(asked.map(() => 200));
    for (let round = 0; round < 3; round++) await ask({ filter });
    const text = await scrape();
    expect(valueOf(text, 'belfry_search_seconds_count{path="scan"}')).toBeGreaterThanOrEqual(20);
    expect(valueOf(text, 'belfry_batch_size_sum{queue="scan"}')).toBeGreaterThanOrEqual(20);
    expect(valueOf(text, 'belfry_queue_wait_seconds_count{queue="scan"}')).toBe(
      valueOf(text, 'belfry_batch_size_count{queue="scan"}'),
    );
    expect(valueOf(text, 'belfry_filter_cache_lookups_total{result="miss"}')).toBe(1);
    expect(valueOf(text, 'belfry_filter_cache_lookups_total{result="hit"}')).toBe(2);
    expect(valueOf(text, 'belfry_filter_cache_bytes')).toBeGreaterThan(38);
    expect(valueOf(text, 'belfry_requests_in_flight')).toBe(1); // this scrape itself
    expect(text).not.toMatch(/^belfry_recall_live /m);
    await stop();
  });
});

describe('ids of requests', () => {
  it('are the caller’s where they are well-formed', async () => {
    for (const id of ['job-7:42/a', 'A'.repeat(128), '4bf92f3577b34da6a3ce929d0e0e4736'])
      expect((await ask({}, { 'x-request-id': id })).headers['x-request-id']).toBe(id);
    const refused = await ask({ k: 0 }, { 'x-request-id': 'trace-1' });
    expect(refused.json().request_id).toBe('trace-1');
  });

  it.each(['', 'a b', '-a', 'A'.repeat(129), 'a\u00e9', '{"level":60}'])('%j is replaced', async (id) => {
    expect((await ask({}, { 'x-request-id': id })).headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('the log', () => {
  it('has slow requests with their stages, and a share of the others', async () => {
    lines.length = 0;
    await ask({ rerank: true }, { 'x-request-id': 'slow-1' });
    await ask({}, { 'x-request-id': 'quick-1' });
    const [slow, quick] = lines;
    expect(slow).toMatchObject({
      level: 40,
      msg: 'slow request',
      reqId: 'slow-1',
      route: 'POST /retrieve',
      status: 200,
    });
    expect(slow!.ms).toBeGreaterThanOrEqual(25);
    expect((slow!.stages_ms as Record<string, number>).rerank).toBeGreaterThan(20);
    expect(quick).toMatchObject({ level: 30, msg: 'request', reqId: 'quick-1', route: 'POST /retrieve' });
    expect(JSON.stringify(lines)).not.toContain('user_id');
  });

  it('has none of it unless it is asked for', async () => {
    lines.length = 0;
    const retriever = new Retriever(service.store, service.metrics);
    const settings = { ...PATIENT, slow_request_ms: 0 };
    const app = await buildApp({ retriever, metrics: service.metrics, settings, logger, version: 'test' });
    await app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 1, rerank: true } });
    await app.close();
    expect(lines).toEqual([]);
  });
});

describe('live recall', () => {
  async function serve(doctor: (sampled: Sampled) => Sampled, gapMs = 0) {
    const retriever = new Retriever(service.store, service.metrics);
    const sampler = new RecallSampler({ share: 1, gapMs, random: () => 0 }, service.store, service.metrics.searches);
    const take = sampler.take.bind(sampler);
    sampler.take = (one) => take(doctor(one));
    retriever.sampler = sampler;
    const app = await buildApp({
      retriever,
      metrics: service.metrics,
      settings: PATIENT,
      version: 'test',
      admin: { data: { path: folder } } as unknown as AdminParts,
    });
    return { app, sampler };
  }
  const settled = async (sampler: RecallSampler, samples: number) =>
    expect.poll(() => sampler.report().all?.samples ?? 0, { timeout: 30_000 }).toBe(samples);

  it('is measured by exact answers, and told as a gauge, a histogram and a report', async () => {
    const { app, sampler } = await serve((one) => {
      // As a search that misses every fifth item would answer: its scores are those of worse ones.
      const scores = one.hits.scores.map((score, at) => (at % 5 === 0 ? -1e6 : score));
      return { ...one, hits: { ...one.hits, scores } };
    });
    const payload = { user_id: 3, k: 10, filter: { must: [{ field: 'id', lt: 250 }] } };
    expect((await app.inject({ method: 'POST', url: '/retrieve', payload })).statusCode).toBe(200);
    await settled(sampler, 1);
    const second = await app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 4, k: 10 } });
    expect(second.statusCode).toBe(200);
    await settled(sampler, 2);
    const report = (await app.inject({ url: '/admin/recall' })).json();
    expect(report).toMatchObject({ share: 1, gap_ms: 0, generation: service.generation.id, dropped: 0 });
    expect(report.all).toMatchObject({ samples: 2, recall: 0.8, low: 0.8, high: 0.8 });
    expect(Object.values<{ samples: number }>(report.by_path).reduce((sum, { samples }) => sum + samples, 0)).toBe(2);
    const text = await scrape();
    expect(valueOf(text, 'belfry_recall_live')).toBe(0.8);
    expect(valueOf(text, 'belfry_recall_samples_total{result="measured"}')).toBe(2);
    expect(text).toMatch(/^belfry_recall_sampled_bucket\{le="0.8",path="[a-z ]+"\} 1$/m);
    await sampler.close();
    await app.close();
  });

  it('an honest search of a small index is perfect; exact searches are no samples; samples keep their distance', async () => {
    const { app, sampler } = await serve((one) => one, 60_000);
    await app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 1, exact: true } });
    await app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 1 } });
    await settled(sampler, 1);
    await app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 2 } });
    await sampler.close();
    expect(sampler.report()).toMatchObject({ all: { samples: 1, recall: 1 }, dropped: 0 });
    await app.close();
  });

  it('counts by score: ties count as found, too few hits do not', () => {
    const of = (...values: number[]) => Float32Array.from(values);
    expect(recallByScore(of(3, 2, 1), of(3, 2, 1))).toBe(1);
    expect(recallByScore(of(3, 1, 1, 1), of(3, 1, 1, 1))).toBe(1);
    expect(recallByScore(of(3, 0.5), of(3, 2, 1))).toBeCloseTo(1 / 3);
    expect(recallByScore(of(), of(1))).toBe(0);
    expect(recallByScore(of(), of())).toBe(1);
  });
});
