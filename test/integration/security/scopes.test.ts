/** A2, API3, API5, API9: which key may do what; every route has a decision, and the OpenAPI document says it. */
import type { HTTPMethods, InjectOptions } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SCOPES, type Scope } from '../../../src/access/keys.js';
import { decisionOf, isScope } from '../../../src/http/decisions.js';
import { bearer } from '../../support/keys.js';
import { type Secured, startSecured, vector } from '../../support/secured.js';

let keyed: Secured;
let open: Secured;
beforeAll(async () => {
  const one = Object.fromEntries(SCOPES.map((scope) => [scope, { scopes: [scope] }]));
  keyed = await startSecured({ ...one, two: { scopes: ['retrieve', 'metrics'] } });
  open = await startSecured(undefined);
});
afterAll(() => Promise.all([keyed.close(), open.close()]));

const ASKED: [Scope, InjectOptions][] = [
  ['retrieve', { method: 'POST', url: '/retrieve', payload: { embedding: vector } }],
  ['retrieve', { method: 'POST', url: '/retrieve/batch', payload: { requests: [{ embedding: vector }] } }],
  ['retrieve', { method: 'POST', url: '/similar/items', payload: { embedding: vector } }],
  ['retrieve', { method: 'POST', url: '/similar/users', payload: { embedding: vector } }],
  ['retrieve', { url: '/console/info' }],
  ['retrieve', { url: '/console/users?q=a' }],
  ['retrieve', { url: '/console/benches' }],
  ['write', { method: 'PUT', url: '/items/new', payload: { embedding: vector } }],
  ['write', { method: 'DELETE', url: '/items/new' }],
  ['metrics', { url: '/metrics' }],
  ['admin', { url: '/admin/rebuild' }],
  ['admin', { url: '/admin/generations' }],
];

describe.each(ASKED)('A2, API5: %s is needed by %j', (needed, request) => {
  it.each(SCOPES)('and a key for %s', async (scope) => {
    const answer = await keyed.app.inject({ ...request, headers: bearer(keyed.keys[scope]!) });
    if (scope === needed) {
      expect(answer.statusCode).toBeLessThan(300);
    } else {
      expect([answer.statusCode, answer.json()]).toMatchObject([
        403,
        {
          code: 'BELFRY_FORBIDDEN',
          message: expect.stringMatching(new RegExp(`^this key has the scopes ${scope}; .* needs ${needed}$`)),
        },
      ]);
    }
  });

  it('and no key', async () => {
    const answer = await keyed.app.inject(request);
    expect([answer.statusCode, answer.json().code]).toEqual([401, 'BELFRY_UNAUTHORIZED']);
  });
});

it('A2: a refused change changes nothing', async () => {
  const known = { method: 'POST' as const, url: '/similar/items', payload: { item_id: 'item-1', k: 1 } };
  const headers = bearer(keyed.keys.retrieve!);
  expect((await keyed.app.inject({ method: 'DELETE', url: '/items/item-1', headers })).statusCode).toBe(403);
  expect((await keyed.app.inject({ ...known, headers })).statusCode).toBe(200);
});

it.each(['..%2F..%2Fx', '%2e%2e', 'a%00b', '..%5Cx', 'x'.repeat(65)])('A2: %s is no generation', async (id) => {
  const headers = bearer(keyed.keys.admin!);
  for (const [method, url] of [
    ['POST', `/admin/generations/${id}/activate`],
    ['GET', `/admin/generations/${id}/report`],
    ['GET', `/admin/generations/${id}/report.svg`],
    ['GET', `/console/benches/${id}`],
  ] as [HTTPMethods, string][]) {
    const answer = await keyed.app.inject({
      method,
      url,
      headers: url.startsWith('/admin') ? headers : bearer(keyed.keys.two!),
    });
    expect([400, 404]).toContain(answer.statusCode);
    expect(answer.json().code).toMatch(/^BELFRY_(INVALID_ARGUMENT|NOT_FOUND|MALFORMED_REQUEST|METHOD_NOT_ALLOWED)$/);
  }
});

it.each([
  '/../package.json',
  '/..%2f..%2fpackage.json',
  '/%2e%2e/%2e%2e/etc/passwd',
  '/docs/static/..%2f..%2fpackage.json',
])('A2: %s is no file of the page', async (url) => {
  const answer = await keyed.app.inject({ url, headers: { host: '127.0.0.1' } });
  expect(answer.statusCode).toBeGreaterThanOrEqual(400);
  expect(answer.body).not.toMatch(/"dependencies"|root:/);
});

describe('API9: routes', () => {
  /** `POST /retrieve` …, from the tree that Fastify prints: four characters a level. */
  function routesOf({ app }: Secured): string[] {
    const found: string[] = [];
    const path: string[] = [];
    for (const line of app.printRoutes({ commonPrefix: false }).split('\n')) {
      const [, indent, part, methods] = /^(.*?)── (.*?)(?: \((.+)\))?$/.exec(line) ?? [];
      if (indent === undefined) continue;
      path.splice(Math.floor(indent.length / 4), Infinity, part!);
      for (const method of methods?.split(', ') ?? []) found.push(`${method} ${path.join('')}`);
    }
    return found;
  }

  it('are all decided on', () => {
    const urls = routesOf(keyed).map((route) => route.split(' ')[1]!);
    expect(urls).toEqual(expect.arrayContaining(['/retrieve/batch', '/admin/rebuild', '/console/info']));
    expect(urls.filter((url) => decisionOf(url) === undefined)).toEqual([]);
    expect(decisionOf('/debug')).toBeUndefined();
    expect(decisionOf('/constructor')).toBeUndefined();
  });

  it('that tell of the data need a key; those that do not are these', async () => {
    const free = routesOf(keyed)
      .map((route) => route.split(' ')[1]!)
      .filter((url) => !isScope(decisionOf(url)!));
    const own = [...new Set(free)].filter((url) => !url.startsWith('/docs')).sort();
    expect(own.filter((url) => !/^\/([\w.-]+\.(html|js|css|svg))?$/.test(url))).toEqual([
      '/healthz',
      '/openapi.json',
      '/readyz',
    ]);
  });

  it('say in the OpenAPI document what they need, and it holds each of them', async () => {
    const { paths, components } = (await keyed.app.inject('/openapi.json')).json();
    expect(Object.keys(components.securitySchemes)).toEqual(['bearer', 'header']);
    const documented = Object.entries<Record<string, { security?: object[] }>>(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { security }]) => ({
        path: path.replace(/\{(\w+)\}/g, ':$1'),
        method,
        security,
      })),
    );
    for (const { path, security } of documented) {
      const decision = decisionOf(path)!;
      expect([path, security]).toEqual([
        path,
        isScope(decision) ? [{ bearer: [decision] }, { header: [decision] }] : undefined,
      ]);
    }
    const undocumented = routesOf(keyed)
      .filter((route) => !route.startsWith('HEAD ') && !route.startsWith('OPTIONS '))
      .filter((route) => !documented.some(({ path, method }) => route === `${method.toUpperCase()} ${path}`))
      .map((route) => route.split(' ')[1]!)
      .filter((url) => decisionOf(url) !== 'page' && !url.startsWith('/console/') && url !== '/openapi.json');
    expect(undocumented).toEqual([]);
  });
});

describe('without keys', () => {
  it.each(ASKED)('%s is open to this machine: %j', async (_scope, request) => {
    const answer = await open.app.inject({ ...request, headers: { host: '127.0.0.1:8080' } });
    expect(answer.statusCode).toBeLessThan(300);
  });

  it('A2: what changes or administers is not open to others', async () => {
    const far = { remoteAddress: '192.0.2.7' };
    expect((await open.app.inject({ url: '/admin/generations', ...far })).json().code).toBe('BELFRY_FORBIDDEN');
    const wide = await startSecured(undefined, { settings: { host: '0.0.0.0' } });
    const put = { method: 'PUT' as const, url: '/items/new', payload: { embedding: vector } };
    const refused = await wide.app.inject({ ...put, ...far });
    expect([refused.statusCode, refused.json()]).toMatchObject([
      403,
      { code: 'BELFRY_FORBIDDEN', message: expect.stringContaining('belfry keys add --scopes write') },
    ]);
    expect((await wide.app.inject({ ...put, headers: { host: '127.0.0.1' } })).statusCode).toBe(201);
    await wide.close();
  });
});

it('API3: answers hold what their schema says, and no vector', async () => {
  const headers = bearer(keyed.keys.two!);
  const ask = (body: object) => keyed.app.inject({ method: 'POST', url: '/retrieve', headers, payload: body });
  const answer = await ask({ user_id: 'acme:1', k: 2, explain: true });
  expect(Object.keys(answer.json().items[0]).sort()).toEqual(['id', 'retrieval_rank', 'retrieval_score', 'score']);
  expect(answer.body).not.toContain('embedding');
  const asked = await ask({ user_id: 'acme:1', with_vector: true });
  expect([asked.statusCode, asked.json().message]).toEqual([400, 'with_vector: unknown key']);
});
