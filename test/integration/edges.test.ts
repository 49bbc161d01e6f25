/** What HTTP lets a client do besides asking well: addresses, ranges, headers, broken bytes; and what the log and metrics hear. */
import { connect } from 'node:net';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import type { BelfryError } from '../../src/errors.js';
import { buildApp } from '../../src/http/app.js';
import { listen } from '../../src/http/server.js';
import { Retriever } from '../../src/retrieval/retriever.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
let service: Service;
let rerankModule: string;
beforeAll(async () => {
  const folder = makeModelsFolder(temporaryFolder({ keep: true }), {
    items: { data: randomValues(200 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(50 * DIMS, 2), dims: DIMS },
  });
  rerankModule = join(folder, 'rerank.mjs');
  writeFileSync(rerankModule, 'export const rerank = () => [1];\n');
  service = await startService(folder, { load: { rerankModule } });
});
afterAll(() => service.close());

const REQUEST_ID = expect.stringMatching(/^[0-9a-f-]{36}$/);

describe('addresses', () => {
  it('a broken percent-encoding has our envelope', async () => {
    const answer = await service.app.inject({ method: 'GET', url: '/%zz' });
    expect([answer.statusCode, answer.json()]).toEqual([
      400,
      {
        code: 'BELFRY_MALFORMED_REQUEST',
        message: 'address: a percent sign must begin two hexadecimal digits',
        request_id: REQUEST_ID,
      },
    ]);
  });

  it('a long one is not repeated whole', async () => {
    const answer = await service.app.inject({ method: 'GET', url: `/${'a'.repeat(5000)}` });
    expect(answer.json()).toMatchObject({
      code: 'BELFRY_NOT_FOUND',
      message: `GET /${'a'.repeat(76)}...: no such route; see /docs`,
    });
  });

  it('a bad query string names what came', async () => {
    const answer = await service.app.inject({ method: 'GET', url: '/console/items?q=1&limit=abc' });
    expect([answer.statusCode, answer.json()]).toMatchObject([
      400,
      {
        code: 'BELFRY_INVALID_ARGUMENT',
        message: 'querystring: limit: must match pattern "^[0-9]{1,3}$", received "abc"',
        field: 'limit',
      },
    ]);
  });

  it('ranges and preconditions of the page are no failure of ours', async () => {
    const range = await service.app.inject({ method: 'GET', url: '/', headers: { range: 'bytes=99999999-' } });
    expect(range.statusCode).toBe(200);
    const match = await service.app.inject({ method: 'GET', url: '/', headers: { 'if-match': '"x"' } });
    expect([match.statusCode, match.json()]).toMatchObject([
      400,
      { code: 'BELFRY_MALFORMED_REQUEST', message: 'request: Precondition Failed' },
    ]);
  });
});

it.each([
  ['GARBAGE\r\n\r\n', 400, 'BELFRY_MALFORMED_REQUEST', 'request: not well-formed HTTP/1.1'],
  [
    `GET / HTTP/1.1\r\nhost: x\r\nlong: ${'a'.repeat(40_000)}\r\n\r\n`,
    431,
    'BELFRY_HEADERS_TOO_LARGE',
    'headers: expected at most 16384 bytes with the address; ids and vectors belong into a body',
  ],
])('bytes that are no request: %j', async (bytes, status, code, message) => {
  if (!service.app.server.listening) await listen(service.app, { host: '127.0.0.1', port: 0, max_connections: 100 });
  const { port } = service.app.server.address() as { port: number };
  const text = await new Promise<string>((resolve) => {
    let received = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.on('data', (chunk) => {
      received += chunk;
    });
    socket.on('error', () => undefined); // the server may close while the rest is still being sent
    socket.on('close', () => resolve(received));
  });
  expect(text).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  expect(JSON.parse(text.slice(text.indexOf('\r\n\r\n')))).toMatchObject({ code, message, request_id: REQUEST_ID });
});

it('S1: a reranker that answers nonsense is in the log and the metrics, its answer in retrieval order', async () => {
  const heard: [string, BelfryError][] = [];
  const metrics = new Metrics();
  const retriever = new Retriever(service.store, metrics, (model, error) => heard.push([model, error]));
  const app = await buildApp({ retriever, metrics, settings: { ...DEFAULTS, timeout_ms: 1000 }, version: 'test' });
  const answer = (
    await app.inject({ method: 'POST', url: '/retrieve', payload: { user_id: 1, k: 3, rerank: true } })
  ).json();
  expect(answer).toMatchObject({ returned: 3, degraded: ['rerank_skipped'] });
  expect(heard.map(([model, { code, message }]) => [model, code, message])).toEqual([
    ['module@0', 'BELFRY_MODEL_OUTPUT_INVALID', 'reranker module: expected 200 numbers, received 1 values'],
  ]);
  expect(await metrics.registry.metrics()).toMatch(/belfry_model_output_invalid_total\{model="module@0"\} 1/);
  await app.close();
});
