/** Traces with the real SDK: a request joins its caller's trace, its stages lie below it, the model server hears of it. */
import { context, propagation, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { disableTracing, enableTracing, traceHeaders } from '../../src/telemetry/tracing.js';
import { type KserveService, startKserveService } from '../support/kserve-service.js';

const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
let service: KserveService;
beforeAll(async () => {
  provider.register();
  await enableTracing();
  service = await startKserveService();
});
afterAll(async () => {
  await service.close();
  disableTracing();
  await provider.shutdown();
  trace.disable();
  context.disable();
  propagation.disable();
});

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';
const millis = ([seconds, nanos]: [number, number]) => seconds * 1000 + nanos / 1e6;

it('a request, its stages and its call to the model server are one trace', async () => {
  exporter.reset();
  const body = { user_id: 3, k: 5, candidates: 40, rerank: true };
  const response = await service.post('/retrieve', body, { traceparent: `00-${TRACE}-${PARENT}-01` });
  expect(response.statusCode, response.body).toBe(200);
  const spans = exporter.getFinishedSpans();
  const request = spans.find(({ name }) => name === 'POST /retrieve')!;
  expect(request.spanContext().traceId).toBe(TRACE);
  expect(request.parentSpanContext?.spanId).toBe(PARENT);
  expect(request.attributes).toMatchObject({
    'http.request.method': 'POST',
    'http.route': '/retrieve',
    'http.response.status_code': 200,
    'belfry.generation': service.generation.id,
    'belfry.request_id': response.headers['x-request-id'],
    'belfry.k': 5,
    'belfry.depth': 40,
    'belfry.degraded': [],
  });
  const stages = spans.filter(({ name }) => name.startsWith('belfry.'));
  expect(stages.map(({ name }) => name)).toEqual(['belfry.query', 'belfry.filter', 'belfry.search', 'belfry.rerank']);
  for (const stage of stages) {
    expect(stage.spanContext().traceId).toBe(TRACE);
    expect(stage.parentSpanContext?.spanId).toBe(request.spanContext().spanId);
    expect(millis(stage.startTime)).toBeGreaterThanOrEqual(millis(request.startTime) - 2);
    expect(millis(stage.endTime)).toBeLessThanOrEqual(millis(request.endTime) + 2);
  }
  const infer = service.fake.seen.filter(({ path }) => path.endsWith('/infer')).at(-1)!;
  expect(infer.headers.traceparent).toBe(`00-${TRACE}-${request.spanContext().spanId}-01`);
});

it('a request without a caller begins a trace, and two at once do not mix', async () => {
  exporter.reset();
  await Promise.all([1, 2, 3].map((user_id) => service.post('/retrieve', { user_id, k: 2 })));
  const requests = exporter.getFinishedSpans().filter(({ name }) => name === 'POST /retrieve');
  expect(new Set(requests.map((span) => span.spanContext().traceId)).size).toBe(3);
  for (const stage of exporter.getFinishedSpans().filter(({ name }) => name.startsWith('belfry.'))) {
    const parent = requests.find((span) => span.spanContext().spanId === stage.parentSpanContext?.spanId);
    expect(parent?.spanContext().traceId).toBe(stage.spanContext().traceId);
  }
});

it('a refused request is a span too, an error only where the server is at fault', async () => {
  exporter.reset();
  await service.post('/retrieve', { user_id: 1, k: 0 });
  const [span] = exporter.getFinishedSpans();
  expect(span!.attributes['http.response.status_code']).toBe(400);
  expect(span!.status.code).toBe(0);
});

it('off, nothing is made', async () => {
  exporter.reset();
  disableTracing();
  expect(traceHeaders()).toEqual({});
  expect((await service.post('/retrieve', { user_id: 1, k: 2 })).statusCode).toBe(200);
  expect(exporter.getFinishedSpans()).toEqual([]);
  await enableTracing();
});
