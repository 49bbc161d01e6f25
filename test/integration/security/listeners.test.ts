/** API5, API8: two listeners, TLS, CORS, headers; over real sockets of this machine. */
import { copyFileSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULTS, type Settings } from '../../../src/config/schema.js';
import { AdminDoor } from '../../../src/http/admin-door.js';
import { listen } from '../../../src/http/server.js';
import { followTls, readTls } from '../../../src/http/tls.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';
import { type Secured, startSecured, vector } from '../../support/secured.js';

const TLS = fileURLToPath(new URL('../../fixtures/tls/', import.meta.url));
const cert = (name: string) => join(TLS, `${name}-cert.pem`);
const key = (name: string) => join(TLS, `${name}-key.pem`);
const local = { ...DEFAULTS, port: 0, models: '.' } satisfies Settings;

interface Got {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: string;
  readonly subject?: string;
}

/** Without following redirects, and with any headers. */
function get(url: string, options: RequestOptions & { body?: object } = {}): Promise<Got> {
  const { body, ...more } = options;
  const ask = url.startsWith('https') ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    const asked = ask(url, { agent: false, rejectUnauthorized: false, ...more }, (answer) => {
      const { socket } = answer;
      const subject =
        'getPeerCertificate' in socket
          ? String((socket as { getPeerCertificate(): { subject: { CN: string } } }).getPeerCertificate().subject.CN)
          : undefined;
      let text = '';
      answer.on('data', (chunk: Buffer) => (text += chunk.toString()));
      answer.on('end', () =>
        resolve({ status: answer.statusCode!, headers: answer.headers, body: text, ...(subject && { subject }) }),
      );
    });
    asked.once('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

let service: Secured;
let address: string;
let admin: string;
beforeAll(async () => {
  const adminDoor = AdminDoor.of(local)!;
  service = await startSecured(undefined, { parts: { adminDoor } });
  await service.app.ready();
  admin = await adminDoor.listen(service.app);
  address = await listen(service.app, local);
});
afterAll(() => service.close());

describe('API5: administration', () => {
  it('has an address of its own, on loopback', async () => {
    expect(admin).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(admin).not.toBe(address);
    expect((await get(`${admin}/admin/rebuild`)).status).toBe(200);
    for (const path of ['/admin/rebuild', '/admin/generations']) {
      const { status, body } = await get(address + path);
      expect([status, JSON.parse(body)]).toMatchObject([
        404,
        {
          code: 'BELFRY_NOT_FOUND',
          message: `GET ${path}: no such route here; administration has an address of its own: ${admin}${path}`,
        },
      ]);
    }
  });

  it('does not tell others where it is', async () => {
    const { status, body } = await get(`${address}/admin/rebuild`, { headers: { 'x-forwarded-for': '192.0.2.7' } });
    expect([status, body.includes(new URL(admin).port)]).toEqual([404, false]);
  });

  it('A2: is not asked by a page of another site, nor by a name that leads here', async () => {
    for (const headers of [{ origin: 'http://evil.example' }, { host: 'evil.example' }, { origin: address }])
      expect((await get(`${admin}/admin/rebuild`, { headers })).status).toBe(403);
  });

  it('has the page, to which people on this machine are sent', async () => {
    const sent = await get(`${address}/?a=b`);
    expect([sent.status, sent.headers.location]).toEqual([307, `${admin}/?a=b`]);
    expect((await get(`${address}/docs`)).headers.location).toBe(`${admin}/docs`);
    expect((await get(`${admin}/`)).body).toContain('<html');
    const others = await get(`${address}/`, { headers: { host: 'belfry.example' } });
    expect([others.status, JSON.parse(others.body).code]).toEqual([404, 'BELFRY_NOT_FOUND']);
  });

  it('answers requests like the other one', async () => {
    const options = { method: 'POST', headers: { 'content-type': 'application/json' }, body: { embedding: vector } };
    for (const one of [address, admin]) expect((await get(`${one}/retrieve`, options)).status).toBe(200);
    expect((await get(`${address}/openapi.json`)).status).toBe(200);
  });
});

describe('the port of administrators', () => {
  const free = async () => {
    const probe = createServer();
    await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
    const { port } = probe.address() as { port: number };
    return { port, close: () => new Promise((resolve) => probe.close(resolve)) };
  };

  it('is 10,000 further, a free one where that is taken, an error where it was asked for', async () => {
    const taken = await free();
    const near = taken.port > 10_000 ? taken.port - 10_000 : taken.port + 10_000;
    const settings = { ...local, port: near };
    const first = AdminDoor.of(settings)!;
    const address = await first.listen(service.app);
    expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    // Where the port 10,000 further is the one that is taken, another was found.
    if (near < taken.port) expect(address).not.toBe(`http://127.0.0.1:${taken.port}`);
    await first.close();
    const asked = AdminDoor.of({ ...settings, admin_port: taken.port })!;
    const error = await expectError(asked.listen(service.app), 'BELFRY_PORT_TAKEN', `--admin-port ${taken.port + 1}`);
    expect(error.field).toBe('admin_port');
    await taken.close();
    const again = AdminDoor.of({ ...settings, admin_port: taken.port })!;
    expect(await again.listen(service.app)).toBe(`http://127.0.0.1:${taken.port}`);
    await again.close();
    expect(AdminDoor.of({ ...settings, admin_port: near })).toBeUndefined();
    expect(AdminDoor.of({ ...settings, admin: false })).toBeUndefined();
  });
});

describe('API8: TLS', () => {
  it('speaks it with the certificate, and with a new one without a restart', async () => {
    const folder = temporaryFolder();
    const settings = { tls_cert: join(folder, 'cert.pem'), tls_key: join(folder, 'key.pem') };
    const put = (name: string) => {
      copyFileSync(cert(name), settings.tls_cert);
      copyFileSync(key(name), settings.tls_key);
    };
    put('server');
    const service = await startSecured(undefined, { parts: { tls: readTls(settings) } });
    const address = await listen(service.app, local);
    const reloads: object[] = [];
    const stop = followTls(settings, [service.app.server as never], (outcome) => reloads.push(outcome), 20);
    const first = await get(`${address}/healthz`);
    expect([address.startsWith('https://'), first.status, first.subject]).toEqual([true, 200, 'belfry-test-server']);
    expect(first.headers['strict-transport-security']).toMatch(/max-age/);
    await expect(get(address.replace('https', 'http'))).rejects.toThrow();

    writeFileSync(settings.tls_cert, 'half a certificate');
    while (reloads.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(reloads[0]).toMatchObject({ error: { code: 'BELFRY_CONFIG_INVALID' } });
    expect((await get(`${address}/healthz`)).subject).toBe('belfry-test-server');
    put('other');
    while (!('expires' in reloads.at(-1)!)) await new Promise((resolve) => setTimeout(resolve, 20));
    expect((await get(`${address}/healthz`)).subject).toBe('belfry-test-other');
    stop();
    await service.close();
  });

  it('asks clients for a certificate where an authority is set', async () => {
    const tls = readTls({ tls_cert: cert('server'), tls_key: key('server'), tls_client_ca: cert('other') });
    const service = await startSecured(undefined, { parts: { tls } });
    const address = await listen(service.app, local);
    const { readFileSync } = await import('node:fs');
    const shown = (name: string) => ({ cert: readFileSync(cert(name)), key: readFileSync(key(name)) });
    expect((await get(`${address}/healthz`, shown('other'))).status).toBe(200);
    await expect(get(`${address}/healthz`)).rejects.toThrow();
    await expect(get(`${address}/healthz`, shown('server'))).rejects.toThrow();
    await service.close();
  });

  it.each<[object, RegExp]>([
    [{ tls_cert: cert('server') }, /^tls_key: goes with tls_cert/],
    [{ tls_key: key('server') }, /^tls_cert: goes with tls_key/],
    [{ tls_client_ca: cert('other') }, /^tls_client_ca: goes with/],
    [{ tls_cert: '/nowhere/cert.pem', tls_key: key('server') }, /^tls_cert: ENOENT.*\/nowhere\/cert\.pem/],
    [
      { tls_cert: cert('server'), tls_key: key('other') },
      /^tls_key: .*other-key\.pem: is not the key of .*server-cert/,
    ],
    [{ tls_cert: key('server'), tls_key: key('server') }, /^tls_cert: .*expected a certificate in PEM/],
    [{ tls_cert: cert('server'), tls_key: cert('server') }, /^tls_key: .*expected a private key in PEM/],
    [
      { tls_cert: cert('server'), tls_key: key('server'), tls_client_ca: key('other') },
      /^tls_client_ca: .*expected cert/,
    ],
  ])('says what is wrong with %j', async (settings, message) => {
    await expectError(() => readTls(settings), 'BELFRY_CONFIG_INVALID', message);
  });
});

describe('API8: pages of other origins', () => {
  const preflight = (url: string, origin: string) => ({
    method: 'OPTIONS' as const,
    url,
    headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' },
  });

  it('may not call', async () => {
    const asked = await service.app.inject(preflight('/retrieve', 'https://shop.example'));
    expect([asked.statusCode, asked.headers['access-control-allow-origin']]).toEqual([405, undefined]);
  });

  it('may where they are allowed to, and never administer', async () => {
    const service = await startSecured({ app: {} }, { settings: { cors_origins: ['https://shop.example'] } });
    const allowed = await service.app.inject(preflight('/retrieve', 'https://shop.example'));
    expect([allowed.statusCode, allowed.headers['access-control-allow-origin']]).toEqual([204, 'https://shop.example']);
    expect(allowed.headers['access-control-allow-credentials']).toBeUndefined();
    for (const [url, origin] of [
      ['/retrieve', 'https://evil.example'],
      ['/retrieve', 'https://shop.example.evil.example'],
      ['/admin/rebuild', 'https://shop.example'],
    ] as const) {
      const refused = await service.app.inject(preflight(url, origin));
      expect(refused.headers['access-control-allow-origin']).not.toBe(origin);
    }
    await service.close();
  });
});

it('API8: answers carry the headers of a careful server', async () => {
  for (const url of ['/healthz', '/nowhere', '/openapi.json']) {
    const { headers } = await service.app.inject(url);
    expect(headers['x-content-type-options']).toBe('nosniff');
    expect(headers['content-security-policy']).toContain("default-src 'self'");
    expect(headers['x-powered-by'] ?? headers.server).toBeUndefined();
  }
});
