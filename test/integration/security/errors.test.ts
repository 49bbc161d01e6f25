/** Q3, API8: whatever is sent, the answer is ours: an envelope with a code, without stacks, paths or secrets. */
import { tmpdir } from 'node:os';
import fc from 'fast-check';
import type { HTTPMethods } from 'fastify';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ERROR_TABLE, type ErrorCode } from '../../../src/errors.js';
import { bearer } from '../../support/keys.js';
import { type Secured, startSecured, vector } from '../../support/secured.js';

let service: Secured;
let log = '';
beforeAll(async () => {
  const logger = pino({ level: 'info' }, { write: (line: string) => (log += line) });
  service = await startSecured(
    { all: { scopes: ['retrieve', 'write', 'metrics', 'admin'] } },
    { parts: { logger }, settings: { admin_key: 'the-secret-of-administrators' } },
  );
});
afterAll(() => service.close());

const LEAKS = [
  /\n\s+at /,
  /node_modules|\.[jt]s:\d/,
  /\/(home|root|work|usr|etc|tmp|var)\//,
  /the-secret-of/,
  /sha256/,
];

const ROUTES: [HTTPMethods, string][] = [
  ['POST', '/retrieve'],
  ['POST', '/retrieve/batch'],
  ['POST', '/similar/items'],
  ['POST', '/similar/users'],
  ['PUT', '/items/:id'],
  ['DELETE', '/items/:id'],
  ['POST', '/admin/rebuild'],
  ['POST', '/admin/generations/:id/activate'],
  ['GET', '/admin/generations/:id/report'],
  ['GET', '/console/benches/:id'],
  ['GET', '/console/users?q=:id&limit=:id'],
  ['GET', '/:id'],
];

const nasty = fc.constantFrom(
  '..',
  '../../package.json',
  '%2e%2e%2f',
  '%',
  '%ff',
  '\u0000',
  '__proto__',
  'constructor',
  'x'.repeat(2000),
  "' OR 1=1 --",
  '{{7*7}}',
  'gen-1',
);
const text = fc.oneof(nasty, fc.string({ unit: 'binary', maxLength: 40 }));
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(null, -1, 0, 1e308, 0.5, '', [], {}, [[]], [null], vector),
  text,
);
const KEYS = [
  'user_id',
  'embedding',
  'item_ids',
  'item_id',
  'features',
  'k',
  'filter',
  'exclude',
  'exclude_sets',
  'requests',
  'rerank',
  'with_metadata',
  'metadata',
  'recall',
  'force',
  'overrides',
  'x',
];
const body = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.dictionary(fc.constantFrom(...KEYS), value, { maxKeys: 4 }).map((one) => JSON.stringify(one)),
  },
  {
    weight: 2,
    arbitrary: fc
      .dictionary(fc.constantFrom('must', 'should', 'must_not', 'field', 'eq', 'in', 'lt'), value)
      .map((filter) => JSON.stringify({ embedding: vector, filter: { must: [filter] } })),
  },
  { weight: 1, arbitrary: text },
  {
    weight: 1,
    arbitrary: fc.constantFrom('{"k":1e999}', '[NaN]', '{"a":'.repeat(5000), `{"__proto__":{"k":1}}`, '\ufeff{}'),
  },
);
const type = fc.constantFrom(
  'application/json',
  'application/json; charset=utf-8',
  'text/plain',
  'application/xml',
  'multipart/form-data',
  '',
);

it('Q3, API8: a thousand bad requests get no 500, no stack and no path', { timeout: 60_000 }, async () => {
  const seen = new Set<number>();
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...ROUTES),
      text,
      body,
      type,
      async ([method, route], id, payload, contentType) => {
        const url = route.replaceAll(':id', () => encodeURI(id).replace(/[#\s]/g, ''));
        const answer = await service.app.inject({
          method,
          url: url.startsWith('//') ? '/x' : url,
          headers: { ...bearer(service.keys.all!), ...(contentType === '' ? {} : { 'content-type': contentType }) },
          ...(method === 'GET' ? {} : { payload }),
        });
        seen.add(answer.statusCode);
        for (const leak of [...LEAKS, new RegExp(tmpdir())]) expect(answer.body).not.toMatch(leak);
        expect(answer.body).not.toContain(service.keys.all!);
        if (answer.statusCode < 400) return;
        const said = answer.json();
        expect(
          Object.keys(said).filter((name) => !['code', 'message', 'field', 'limit', 'request_id'].includes(name)),
        ).toEqual([]);
        expect(said.request_id).toBe(answer.headers['x-request-id']);
        const { status } = ERROR_TABLE[said.code as ErrorCode];
        // Codes of builds have no status of their own; under /admin they are conflicts.
        expect(answer.statusCode).toBe(status === 0 ? 409 : status);
        expect(answer.statusCode).not.toBe(500);
      },
    ),
    { numRuns: 1000, seed: 5 },
  );
  expect([...seen].sort()).toEqual(expect.arrayContaining([200, 400, 404, 415]));
  expect(log).not.toContain('"level":50');
  expect(log).not.toContain(service.keys.all!);
});
