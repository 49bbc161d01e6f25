/** Clients that go away before their answers: they are no longer in flight, and are in the metrics and in traces. */
import { rmSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { context, propagation, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import type { FastifyInstance } from 'fastify';
import { DEFAULTS } from '../../src/config/schema.js';
import { buildApp } from '../../src/http/app.js';
import type { RetrieveRequest, RetrieveResponse } from '../../src/retrieval/request.js';
import { Retriever } from '../../src/retrieval/retriever.js';
import { disableTracing, enableTracing } from '../../src/telemetry/tracing.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
const SLOW_MS = 400;
/** Answers after SLOW_MS. */
class SlowRetriever extends Retriever {
  override async answer(request: RetrieveRequest): Promise<RetrieveResponse> {
    await sleep(SLOW_MS);
    return super.answer(request);
  }
}
const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
let folder: string;
let service: Service;
let app: FastifyInstance;
let port: number;
beforeAll(async () => {
  provider.register();
  await enableTracing();
  folder = temporaryFolder({ keep: true });
  makeModelsFolder(folder, {
    items: { data: randomValues(300 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(20 * DIMS, 2), dims: DIMS },
  });
  service = await startService(folder);
  app = await buildApp({
    retriever: new SlowRetriever(service.store, service.metrics),
    metrics: service.metrics,
    settings: { ...DEFAULTS, timeout_ms: 1000, loop_delay_max_ms: 60_000 },
    version: 'test',
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  port = (app.server.address() as AddressInfo).port;
});
afterAll(async () => {
  await app.close();
  await service.close();
  rmSync(folder, { recursive: true, force: true });
  disableTracing();
  await provider.shutdown();
  trace.disable();
  context.disable();
  propagation.disable();
});
beforeEach(() => {
  service.metrics.requestSeconds.reset();
  exporter.reset();
});

const body = JSON.stringify({ user_id: 3, k: 5, timeout_ms: 1000 });
const head = (length = body.length) =>
  `POST /retrieve HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`;
const inFlight = () => service.metrics.searches.inFlight;
async function counted(): Promise<Record<string, number>> {
  const { values } = await service.metrics.requestSeconds.get();
  const counts = values.filter(({ metricName }) => metricName === 'belfry_request_seconds_count');
  return Object.fromEntries(counts.map(({ labels, value }) => [`${labels.route} ${labels.status}`, value]));
}
const statusesOfSpans = () =>
  exporter.getFinishedSpans().flatMap((span) => span.attributes['http.response.status_code'] ?? []);

async function send(text: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await new Promise((resolve) => socket.once('connect', resolve));
  socket.on('error', () => undefined).write(text);
  return socket;
}

it.each<[string, string, number]>([
  ['while the answer is made', head() + body, 1],
  ['while the body is read', head(body.length + 10) + body, 1],
  ['with more requests behind the first', (head() + body).repeat(3), 3],
])('a client that goes away %s is counted once, as 499', async (_, text, requests) => {
  const sockets = await Promise.all(Array.from({ length: 5 }, () => send(text)));
  await expect.poll(inFlight).toBe(5 * requests);
  for (const socket of sockets) socket.destroy();
  await expect.poll(inFlight).toBe(0);
  await sleep(1.5 * SLOW_MS); // until their answers are there, for nobody
  expect(inFlight()).toBe(0);
  expect(await counted()).toEqual({ '/retrieve 499': 5 * requests });
  expect(statusesOfSpans()).toEqual(Array.from({ length: 5 * requests }, () => 499));
});

it('answered requests of one connection are counted once each, whenever it is closed', async () => {
  const socket = await send(head() + body);
  let answers = '';
  socket.setEncoding('utf8').on('data', (text: string) => (answers += text));
  await expect.poll(() => answers, { timeout: 5000 }).toContain('"items"');
  socket.write(head() + body);
  await expect.poll(inFlight).toBe(1);
  await expect.poll(inFlight, { timeout: 5000 }).toBe(0);
  socket.destroy();
  await sleep(50);
  expect(inFlight()).toBe(0);
  expect(await counted()).toEqual({ '/retrieve 200': 2 });
  expect(statusesOfSpans()).toEqual([200, 200]);
});

it('a request that is refused before anything else leaves none in flight', async () => {
  const refused = await app.inject({ url: '/health?api_key=abc' });
  expect(refused.statusCode).toBe(401);
  expect(refused.headers['x-content-type-options']).toBe('nosniff');
  expect(inFlight()).toBe(0);
  expect(Object.values(await counted())).toEqual([1]);
});
