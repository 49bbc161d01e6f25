/** A1, API2: who has no key, a wrong one, an old one, or one in the wrong place. */
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeKey } from '../../../src/access/keys.js';
import { FAILURES_MAX } from '../../../src/access/failures.js';
import { bearer } from '../../support/keys.js';
import { type Secured, startSecured, vector } from '../../support/secured.js';

const ADMIN_KEY = 'a-key-of-sixteen-characters';
const body = { embedding: vector, k: 3 };
let service: Secured;
let log = '';
const reloads: object[] = [];

beforeAll(async () => {
  const logger = pino({ level: 'info' }, { write: (line: string) => (log += line) });
  service = await startSecured(
    { app: {}, expired: { expires: '2026-01-02T00:00:00Z' }, later: {} },
    { settings: { admin_key: ADMIN_KEY }, parts: { logger }, onReload: (outcome) => reloads.push(outcome) },
  );
});
afterAll(() => service.close());

const ask = (headers: Record<string, string>, remoteAddress = '127.0.0.1') =>
  service.app.inject({ method: 'POST', url: '/retrieve', headers, payload: body, remoteAddress });

async function until(isThere: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await isThere()); tries++) {
    if (tries > 200) throw new Error('waited for 5 s');
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

describe('A1: a request', () => {
  it('is taken with a key in a header', async () => {
    const key = service.keys.app!;
    for (const headers of [bearer(key), { authorization: `bearer ${key}` }, { 'x-api-key': key }, bearer(ADMIN_KEY)])
      expect((await ask(headers)).statusCode).toBe(200);
  });

  it('is refused in the same words whatever is wrong with the key', async () => {
    const { app, expired } = service.keys as Record<string, string>;
    const answers = [];
    for (const headers of [
      {},
      bearer(''),
      bearer('nonsense'),
      bearer(makeKey().key),
      bearer(app!.slice(0, -1)),
      bearer(`${app!.slice(0, -2)}--`),
      bearer(expired!),
      { authorization: `Basic ${app}` },
      { 'x-api-key': `${ADMIN_KEY}x` },
      { 'x-api-key': 'x'.repeat(8000) },
    ]) {
      const answer = await ask(headers as Record<string, string>, '192.0.2.1');
      const { request_id, ...said } = answer.json();
      expect(request_id).toMatch(/^[0-9a-f-]{36}$/);
      expect(answer.headers['www-authenticate']).toBe('Bearer realm="belfry"');
      answers.push({ status: answer.statusCode, ...said });
    }
    expect(new Set(answers.map((one) => JSON.stringify(one))).size).toBe(1);
    expect(answers[0]).toEqual({
      status: 401,
      code: 'BELFRY_UNAUTHORIZED',
      message: 'a key of this server is needed: "authorization: Bearer <key>", or "x-api-key: <key>"',
      field: 'authorization',
    });
  });

  it('does not get further for being on this machine: keys are for everybody', async () => {
    const local = { host: '127.0.0.1:8080' };
    expect((await ask(local)).statusCode).toBe(401);
    expect((await service.app.inject({ url: '/admin/generations', headers: local })).statusCode).toBe(401);
    for (const url of ['/healthz', '/readyz']) expect((await service.app.inject(url)).statusCode).toBe(200);
  });

  it.each(['api_key', 'key', 'access_token', 'token', 'x'])(
    'with a key in the address as ?%s= is refused, and logged nowhere',
    async (name) => {
      const key = service.keys.later!;
      const answer = await service.app.inject({
        method: 'POST',
        url: `/retrieve?${name}=${key}`,
        headers: bearer(service.keys.app!),
        payload: body,
      });
      expect([answer.statusCode, answer.json()]).toMatchObject([
        401,
        { code: 'BELFRY_UNAUTHORIZED', message: expect.stringMatching(/header only.*rotate/) },
      ]);
      expect(answer.body + log).not.toContain(key);
      expect((await service.app.inject({ url: `/${key}` })).body).not.toContain(key);
    },
  );
});

describe('API2: keys', () => {
  it('that are wrong again and again are told to wait; right ones from there are not', async () => {
    const address = '198.51.100.9';
    for (let i = 0; i < FAILURES_MAX; i++) expect((await ask(bearer(`guess-${i}`), address)).statusCode).toBe(401);
    const answer = await ask(bearer('guess'), address);
    expect([answer.statusCode, answer.json().code]).toEqual([429, 'BELFRY_RATE_LIMITED']);
    const wait = Number(answer.headers['retry-after']);
    expect(wait > 0 && wait <= 60).toBe(true);
    expect((await ask(bearer(service.keys.app!), address)).statusCode).toBe(200);
    expect((await ask(bearer('guess'), '198.51.100.10')).statusCode).toBe(401);
    expect(log).toContain(`"address":"${address}"`);
    expect(log).not.toContain('guess');
  });

  it('are revoked, rotated with an overlap, and added while the server runs', async () => {
    const { app, later } = service.keys as { app: string; later: string };
    const status = async (key: string) => (await ask(bearer(key))).statusCode;
    const [first, , third] = service.records();
    const fresh = makeKey();
    const overlap = new Date(Date.now() + 60_000).toISOString();
    service.write([
      { ...first!, expires: overlap },
      { ...first!, id: fresh.id, sha256: fresh.sha256 },
    ]);
    await until(async () => (await status(fresh.key)) === 200);
    expect([await status(app), await status(later)]).toEqual([200, 401]);
    service.write([{ ...first!, expires: new Date(Date.now() - 1).toISOString() }, third!]);
    await until(async () => (await status(later)) === 200);
    expect([await status(app), await status(fresh.key)]).toEqual([401, 401]);
    service.write(service.records());
    await until(async () => (await status(app)) === 200);
  });

  it('of a file that became unreadable go on being good, and the log hears of it', async () => {
    const { writeFileSync } = await import('node:fs');
    reloads.length = 0;
    writeFileSync(service.file, '{"version":1,"keys":[');
    await until(() => reloads.length > 0);
    expect(reloads[0]).toMatchObject({ error: { code: 'BELFRY_KEYS_INVALID' } });
    expect(service.ring.problem?.code).toBe('BELFRY_KEYS_INVALID');
    expect((await ask(bearer(service.keys.app!))).statusCode).toBe(200);
    service.write(service.records());
    await until(() => service.ring.problem === undefined);
  });
});
