/** /admin: builds and generations over HTTP, and who may ask. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { FastifyInstance, InjectOptions } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULTS } from '../../src/config/schema.js';
import { buildGeneration } from '../../src/generation/build.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { GenerationFollower } from '../../src/generation/follower.js';
import { GenerationStore } from '../../src/generation/store.js';
import { lockName } from '../../src/generation/writer-lock.js';
import { buildApp } from '../../src/http/app.js';
import { BuildHistory } from '../../src/rebuild/history.js';
import { Rebuilder, type RebuildEvent } from '../../src/rebuild/rebuilder.js';
import { Retriever } from '../../src/retrieval/retriever.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';

/** So many that the graph and its calibration take a second, in which a build can be looked at and cancelled. */
const ITEMS = 60_000;
const KEY = 'a-key-of-sixteen-characters';
const models = temporaryFolder({ keep: true });
const folder = temporaryFolder({ keep: true });
const events: RebuildEvent[] = [];
let data: DataFolder;
let follower: GenerationFollower;
let rebuilder: Rebuilder;
let app: FastifyInstance;
let keyed: FastifyInstance;
let store: GenerationStore;

beforeAll(async () => {
  makeModelsFolder(models, { items: { data: randomValues(ITEMS * 16, 1), dims: 16 } });
  data = await DataFolder.open(folder);
  await buildGeneration({ models, data: folder });
  store = new GenerationStore();
  const metrics = new Metrics();
  follower = new GenerationFollower({ data, store });
  await follower.start();
  rebuilder = new Rebuilder({ task: { models, data: folder }, pollMs: 50, onEvent: (event) => events.push(event) });
  await rebuilder.open();
  const parts = {
    retriever: new Retriever(store, metrics),
    metrics,
    rebuilder,
    admin: { data, rebuilder, follower },
    version: 'test',
  };
  app = await buildApp({ ...parts, settings: DEFAULTS });
  keyed = await buildApp({ ...parts, settings: { ...DEFAULTS, admin_key: KEY } });
});
afterAll(async () => {
  await rebuilder.close();
  await Promise.all([app.close(), keyed.close()]);
  await follower.close();
  await store.close();
  for (const path of [models, folder]) rmSync(path, { recursive: true, force: true });
});

const local = { host: '127.0.0.1:8080' };

async function ask(method: 'GET' | 'POST' | 'DELETE', url: string, payload?: object, more: InjectOptions = {}) {
  const answer = await app.inject({
    method,
    url,
    headers: local,
    ...(payload === undefined ? {} : { payload }),
    ...more,
  });
  return { status: answer.statusCode, body: answer.json() };
}

async function until<T>(look: () => Promise<T> | T, isThere: (found: T) => boolean): Promise<T> {
  for (;;) {
    const found = await look();
    if (isThere(found)) return found;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

const LONG_STAGES = ['graph', 'calibrate'];

const idle = () =>
  until(
    () => ask('GET', '/admin/rebuild'),
    ({ body }) => body.state === 'idle',
  );

describe('builds', () => {
  it('start, tell how far they are, are one at a time, and go live', async () => {
    const before = store.peek()!.id;
    const started = await ask('POST', '/admin/rebuild', { force: true });
    expect(started).toMatchObject({ status: 202, body: { state: 'running', running: { trigger: 'api' } } });
    expect(await ask('POST', '/admin/rebuild')).toMatchObject({
      status: 409,
      body: { code: 'BELFRY_BUILD_RUNNING', message: expect.stringContaining('DELETE /admin/rebuild') },
    });
    const running = await until(
      () => ask('GET', '/readyz'),
      ({ body }) => LONG_STAGES.includes(body.build?.stage),
    );
    expect(running.body).toMatchObject({
      ready: true,
      generation: before,
      build: { trigger: 'api', done: expect.any(Number), total: expect.any(Number), seconds: expect.any(Number) },
    });
    const { body } = await idle();
    expect(body.builds[0]).toMatchObject({
      trigger: 'api',
      result: 'published',
      stages: { graph: expect.any(Number) },
    });
    await until(
      () => store.peek()!.id,
      (id) => id === body.builds[0].generation,
    );
    expect(body.builds[0].generation).not.toBe(before);
    expect(events.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['started', 'stage', 'ended']));
    expect((await ask('GET', '/readyz')).body.build).toBeUndefined();
  });

  it('are cancelled, and leave nothing', async () => {
    expect(await ask('DELETE', '/admin/rebuild')).toMatchObject({ status: 409, body: { code: 'BELFRY_NO_BUILD' } });
    const before = await data.ids();
    await ask('POST', '/admin/rebuild', { force: true });
    await until(
      () => ask('GET', '/admin/rebuild'),
      ({ body }) => LONG_STAGES.includes(body.running?.stage),
    );
    expect(await ask('DELETE', '/admin/rebuild')).toMatchObject({
      status: 200,
      body: { result: 'cancelled', code: 'BELFRY_STOPPED', trigger: 'api' },
    });
    expect(await data.ids()).toEqual(before);
    expect((await idle()).body.problem).toBeUndefined();
  });

  it('X5: of another process are seen, and refused beside', async () => {
    const lock = join(folder, lockName(process.pid));
    writeFileSync(lock, '');
    expect(await ask('POST', '/admin/rebuild', {})).toMatchObject({
      status: 409,
      body: { code: 'BELFRY_BUILD_RUNNING', message: expect.stringContaining(`process ${process.pid} builds`) },
    });
    expect((await ask('GET', '/admin/rebuild')).body).toMatchObject({ state: 'elsewhere', process: process.pid });
    rmSync(lock);
    expect((await ask('GET', '/admin/rebuild')).body.state).toBe('idle');
  });

  it('P5: that fail leave what serves, and are a problem until one does not', async () => {
    const file = join(models, 'embeddings/item_embeddings.npy');
    const good = readFileSync(file);
    const serving = store.peek()!.id;
    writeFileSync(file, 'half an export');
    await ask('POST', '/admin/rebuild');
    const { body } = await idle();
    expect(body.problem).toMatchObject({ code: 'BELFRY_NPY_INVALID', message: expect.stringContaining('item_emb') });
    expect(body.builds[0]).toMatchObject({ result: 'failed', code: 'BELFRY_NPY_INVALID' });
    expect(rebuilder.problem?.code).toBe('BELFRY_NPY_INVALID');
    expect(store.peek()!.id).toBe(serving);
    writeFileSync(file, good);
    await ask('POST', '/admin/rebuild');
    const after = await idle();
    expect([after.body.problem, after.body.builds[0].result]).toEqual([undefined, 'unchanged']);
  });

  it('of other processes become known by the history', async () => {
    const record = {
      started: new Date().toISOString(),
      seconds: 1,
      trigger: 'cli' as const,
      result: 'failed' as const,
      code: 'BELFRY_SKEW',
      message: 'of another training',
      stages: {},
    };
    events.length = 0;
    await new BuildHistory(folder).add(record);
    await until(
      () => rebuilder.problem,
      (problem) => problem?.code === 'BELFRY_SKEW',
    );
    expect(events).toEqual([{ kind: 'ended', record }]);
    await new BuildHistory(folder).add({ ...record, started: `${record.started}2`, result: 'published' });
    await until(
      () => rebuilder.problem,
      (problem) => problem === undefined,
    );
  });
});

describe('generations', () => {
  it('are listed and activated, back and forth', async () => {
    const { body } = await ask('GET', '/admin/generations');
    const [newest, older] = body.generations;
    expect(body).toMatchObject({ current: newest.id, previous: older.id, serving: newest.id, quarantined: [] });
    expect(newest).toMatchObject({ items: ITEMS, users: 0, bytes: expect.any(Number), models: [] });
    for (const id of [older.id, newest.id]) {
      expect(await ask('POST', `/admin/generations/${id}/activate`)).toEqual({
        status: 200,
        body: { current: id, serving: id },
      });
      expect(store.peek()!.id).toBe(id);
    }
  });

  it('X1: that are damaged are refused with the reason', async () => {
    const { body } = await ask('GET', '/admin/generations');
    const { id } = body.generations[1];
    const path = join(data.folderOf(id), 'embeddings/item_embeddings.npy');
    const bytes = readFileSync(path);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(path, bytes);
    expect(await ask('POST', `/admin/generations/${id}/activate`)).toMatchObject({
      status: 409,
      body: { code: 'BELFRY_GENERATION_CORRUPT', message: expect.stringContaining('checksum') },
    });
    expect(store.peek()!.id).toBe(body.current);
    mkdirSync(join(folder, 'gen-empty'));
    expect((await ask('GET', '/admin/generations')).body.generations).toContainEqual({
      id: 'empty',
      problem: { code: 'BELFRY_GENERATION_CORRUPT', message: expect.stringContaining('manifest.json') },
    });
    rmSync(join(folder, 'gen-empty'), { recursive: true });
  });

  it.each(['nope', '20260101-000000-0000'])('that are not there: %s', async (id) => {
    expect(await ask('POST', `/admin/generations/${id}/activate`)).toMatchObject({
      status: 404,
      body: { code: 'BELFRY_UNKNOWN_GENERATION' },
    });
  });

  it('A2: dots alone are no id', async () => {
    await app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = app.server.address() as AddressInfo;
    for (const path of ['/admin/generations/../activate', '/admin/generations/%2e%2e/activate']) {
      // fetch would resolve the dots itself.
      const status = await new Promise<number>((resolve, reject) => {
        const asked = request({ port, host: '127.0.0.1', path, method: 'POST' }, (answer) => {
          answer.resume();
          resolve(answer.statusCode!);
        });
        asked.once('error', reject).end();
      });
      expect(status).toBe(400);
    }
  });

  it.each(['..%2F..%2Fx', 'a%00b', 'a b', 'x'.repeat(65), 'gen%2Fx', '%C3%A9'])('A2: %s is no id', async (id) => {
    const { status, body } = await ask('POST', `/admin/generations/${id}/activate`);
    expect([status, body.code]).toEqual([400, 'BELFRY_INVALID_ARGUMENT']);
  });
});

describe('requests', () => {
  it.each([
    [{ force: 1 }, 'force'],
    [{ now: true }, 'now'],
    [{ overrides: ['luck'] }, 'overrides.0'],
  ])('%j is refused', async (payload, field) => {
    expect(await ask('POST', '/admin/rebuild', payload)).toMatchObject({
      status: 400,
      body: { code: 'BELFRY_INVALID_ARGUMENT', field },
    });
  });

  it('are in the OpenAPI document', async () => {
    const { body } = await ask('GET', '/openapi.json');
    expect(Object.keys(body.paths)).toEqual(
      expect.arrayContaining(['/admin/rebuild', '/admin/generations', '/admin/generations/{id}/activate']),
    );
    expect(Object.keys(body.paths['/admin/rebuild'])).toEqual(['post', 'get', 'delete']);
  });

  const forbidden: [string, InjectOptions][] = [
    ['another machine', { remoteAddress: '192.0.2.7' }],
    ['a proxy on this one', { headers: { ...local, 'x-forwarded-for': '192.0.2.7' } }],
    ['a page of another site', { headers: { ...local, origin: 'http://example.com' } }],
    ['a request that a browser calls cross-site', { headers: { ...local, 'sec-fetch-site': 'cross-site' } }],
    ['a name that resolves to this machine', { headers: { host: 'rebound.example.com' } }],
    ['a key where none is set', { remoteAddress: '192.0.2.7', headers: { authorization: `Bearer ${KEY}` } }],
  ];
  it.each(forbidden)('A2: from %s are refused', async (_from, options) => {
    for (const url of ['/admin/rebuild', '/admin/generations'])
      expect(await ask('GET', url, undefined, options)).toMatchObject({
        status: 403,
        body: { code: 'BELFRY_FORBIDDEN', message: expect.stringContaining('admin_key') },
      });
    expect((await ask('POST', '/admin/rebuild', { force: true }, options)).status).toBe(403);
  });

  it('of the page of this server are taken', async () => {
    const headers = { ...local, origin: 'http://127.0.0.1:8080', 'sec-fetch-site': 'same-origin' };
    expect((await ask('GET', '/admin/rebuild', undefined, { headers })).status).toBe(200);
    const ipv6 = { remoteAddress: '::1', headers: { host: '[::1]:8080' } };
    expect((await ask('GET', '/admin/rebuild', undefined, ipv6)).status).toBe(200);
  });

  it.each([
    [`Bearer ${KEY}`, 200],
    [`bearer ${KEY}`, 200],
    [`Bearer ${KEY}x`, 401],
    [`Basic ${KEY}`, 401],
    ['', 401],
  ])('A1: from another machine with %j', async (authorization, status) => {
    const answer = await keyed.inject({
      url: '/admin/rebuild',
      remoteAddress: '192.0.2.7',
      headers: { host: 'belfry.example.com', authorization },
    });
    expect([answer.statusCode, answer.json().code]).toEqual([
      status,
      status === 200 ? undefined : 'BELFRY_UNAUTHORIZED',
    ]);
    expect(answer.body).not.toContain(KEY);
  });

  it('have no /admin to go to where it is switched off', async () => {
    const metrics = new Metrics();
    const bare = await buildApp({ retriever: new Retriever(store, metrics), metrics, settings: DEFAULTS, version: '' });
    expect((await bare.inject({ url: '/admin/rebuild', headers: local })).statusCode).toBe(404);
    await bare.close();
  });
});
