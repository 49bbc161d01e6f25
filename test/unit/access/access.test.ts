import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { FAILURES_MAX, FailedKeys } from '../../../src/access/failures.js';
import { KeyRing } from '../../../src/access/key-ring.js';
import { changeKeys, permissionProblem, readKeys } from '../../../src/access/keys-file.js';
import { digestOf, idOfKey, KEY_PATTERN, makeKey } from '../../../src/access/keys.js';
import { KeyUsage } from '../../../src/access/limits.js';
import { watchFiles } from '../../../src/access/watched-files.js';
import { makeLogger } from '../../../src/cli/logger.js';
import { redacted, withoutFolders, withoutSecrets } from '../../../src/config/secrets.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';
import { writeTestKeys } from '../../support/keys.js';

describe('keys', () => {
  it('A1: have an id that is public and 256 bits that are not, of which the file holds a hash', () => {
    const { key, id, sha256 } = makeKey();
    expect(key).toMatch(/^belfry_[a-z0-9]{10}_[A-Za-z0-9_-]{43}$/);
    expect(idOfKey(key)).toBe(id);
    expect(digestOf(key).toString('hex')).toBe(sha256);
    expect(KEY_PATTERN.test(`https://host/x?y=${key}`)).toBe(true);
    expect(new Set(Array.from({ length: 200 }, () => makeKey().key)).size).toBe(200);
    for (const broken of ['', 'belfry_', key.slice(0, -1), `${key}x`, key.replace('belfry_', 'belfri_')])
      expect(idOfKey(broken)).toBeUndefined();
  });

  it('A1: are found by their id, and are wrong in every way but one', () => {
    const test = writeTestKeys({
      app: {},
      old: { expires: '2026-01-02T00:00:00Z' },
      odd: { expires: '2026-99-99T00:00:00Z' },
    });
    const ring = KeyRing.open(test.file);
    const { app, old, odd } = test.keys as { app: string; old: string; odd: string };
    expect(ring.find(app)).toMatchObject({ name: 'app', userPrefix: undefined, allowance: undefined });
    const last = app.endsWith('A') ? 'B' : 'A';
    for (const wrong of [
      '',
      'x',
      app.slice(0, -1),
      app.slice(0, -1) + last,
      app.toUpperCase(),
      makeKey().key,
      old,
      odd,
    ])
      expect(ring.find(wrong)).toBeUndefined();
    // The id of one key with the secret of another.
    expect(ring.find(app.slice(0, 18) + old.slice(18))).toBeUndefined();
    ring.close();
    test.remove();
  });
});

describe('the keys file', () => {
  it('is made for its owner alone, and changed whole', async () => {
    const path = join(temporaryFolder(), 'keys.json');
    const record = {
      id: 'abcdefghij',
      name: 'app',
      scopes: ['retrieve' as const],
      sha256: '0'.repeat(64),
      created: '2026-01-01T00:00:00Z',
    };
    changeKeys(path, (keys) => [...keys, record]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readKeys(path)).toEqual([record]);
    expect(permissionProblem(path)).toBeUndefined();
    chmodSync(path, 0o640); // given to the group of the server
    changeKeys(path, (keys) => keys);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(() =>
      changeKeys(path, () => {
        throw new Error('in the middle');
      }),
    ).toThrow('in the middle');
    expect(readKeys(path)).toEqual([record]);
    expect(existsSync(`${path}.new`)).toBe(false);
    writeFileSync(`${path}.new`, '');
    await expectError(() => changeKeys(path, (keys) => keys), 'BELFRY_LOCKED', /keys\.json\.new: another belfry keys/);
  });

  it.skipIf(process.platform === 'win32')('that others may read or write is told of', () => {
    const path = join(temporaryFolder(), 'keys.json');
    writeFileSync(path, '{"version":1,"keys":[]}');
    chmodSync(path, 0o644);
    expect(permissionProblem(path)).toMatch(/everybody on this machine may read.*chmod 600/);
    chmodSync(path, 0o660);
    expect(permissionProblem(path)).toMatch(/others may write it.*chmod 600/);
    chmodSync(path, 0o640);
    expect(permissionProblem(path)).toBeUndefined();
  });

  it.each<[string, RegExp]>([
    ['{', /JSON/],
    ['[]', /expected an object/],
    ['{"version":2,"keys":[]}', /version: expected 1/],
    ['{"version":1,"keys":[{"id":"short"}]}', /keys\.0/],
    ['{"version":1,"keys":[],"more":1}', /more: unknown key/],
  ])('that is %s is refused', async (text, message) => {
    const path = join(temporaryFolder(), 'keys.json');
    writeFileSync(path, text);
    const error = await expectError(() => readKeys(path), 'BELFRY_KEYS_INVALID', message);
    expect([error.field, error.message.startsWith(path)]).toEqual(['keys', true]);
  });

  it('that is not there says what makes it; one id twice is refused', async () => {
    const path = join(temporaryFolder(), 'keys.json');
    await expectError(() => KeyRing.open(path), 'BELFRY_KEYS_INVALID', 'belfry keys add');
    const test = writeTestKeys({ app: {} });
    test.write([...test.records(), ...test.records()]);
    await expectError(() => readKeys(test.file), 'BELFRY_KEYS_INVALID', /stands in it twice/);
    expect(readFileSync(test.file, 'utf8')).not.toContain(test.keys.app);
    test.remove();
  });
});

describe('a file that is watched', () => {
  it('has changed when it cannot be reached, and when it can again', async () => {
    const folder = join(temporaryFolder(), 'held');
    const path = join(folder, 'keys.json');
    let changes = 0;
    const stop = watchFiles([path], () => changes++, 5);
    const changed = (count: number) => vi.waitFor(() => expect(changes).toBe(count));
    writeFileSync(folder, ''); // ENOTDIR, after ENOENT
    await changed(1);
    rmSync(folder);
    await changed(2);
    mkdirSync(folder);
    writeFileSync(path, '1');
    await vi.waitFor(() => expect(changes).toBeGreaterThan(2));
    stop();
  });

  it('and cannot be read leaves the keys before in force', async () => {
    const folder = join(temporaryFolder(), 'held');
    mkdirSync(folder);
    const path = join(folder, 'keys.json');
    const test = writeTestKeys({ app: {} });
    copyFileSync(test.file, path);
    const outcomes: object[] = [];
    const ring = KeyRing.open(path, { watchMs: 5, onReload: (outcome) => outcomes.push(outcome) });
    rmSync(folder, { recursive: true });
    writeFileSync(folder, 'no folder any more');
    await vi.waitFor(() => expect(ring.problem?.code).toBe('BELFRY_KEYS_INVALID'));
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(ring.find(test.keys.app!)?.name).toBe('app');
    rmSync(folder);
    mkdirSync(folder);
    copyFileSync(test.file, path);
    await vi.waitFor(() => expect(ring.problem).toBeUndefined());
    expect(outcomes.at(-1)).toEqual({ keys: 1 });
    ring.close();
    test.remove();
  });
});

describe('API4: an allowance', () => {
  const clock = () => {
    const time = { now: Date.parse('2026-11-23T23:00:00Z') };
    const usage = KeyUsage.open(undefined, () => time.now);
    return { time, usage, make: (limits: object) => usage.of({ id: 'app0000001', name: 'app', ...limits }) };
  };

  it('is a rate with the burst of a second', async () => {
    const { time, make } = clock();
    const start = time.now;
    const allowance = make({ requests_per_second: 10 });
    for (let i = 0; i < 10; i++) allowance.take(1);
    const error = await expectError(
      () => allowance.take(1),
      'BELFRY_RATE_LIMITED',
      'key app: more than 10 requests a second',
    );
    expect([error.statusCode, error.limit, error.retryAfterSeconds]).toEqual([429, 10, 1]);
    time.now = start + 100;
    allowance.take(1);
    await expectError(() => allowance.take(1), 'BELFRY_RATE_LIMITED', '');
    time.now = start + 1e6;
    for (let i = 0; i < 10; i++) allowance.take(1);
    await expectError(() => allowance.take(1), 'BELFRY_RATE_LIMITED', '');
  });

  it('counts a batch by its requests, which later ones wait for', async () => {
    const { time, make } = clock();
    const start = time.now;
    const allowance = make({ requests_per_second: 10 });
    allowance.take(1);
    allowance.take(255);
    const error = await expectError(() => allowance.take(1), 'BELFRY_RATE_LIMITED', '');
    expect(error.retryAfterSeconds).toBe(25);
    time.now = start + 24_000;
    await expectError(() => allowance.take(1), 'BELFRY_RATE_LIMITED', '');
    time.now = start + 25_000;
    allowance.take(1);
  });

  it('lets a batch of a slow key pass, whose first request took the only token', async () => {
    const { time, make } = clock();
    const start = time.now;
    const allowance = make({ requests_per_second: 0.5, requests_per_day: 8 });
    allowance.take(1);
    allowance.take(3, true);
    const error = await expectError(() => allowance.take(1), 'BELFRY_RATE_LIMITED', '');
    expect(error.retryAfterSeconds).toBe(8);
    time.now = start + 8_000;
    allowance.take(1);
    await expectError(() => allowance.take(4, true), 'BELFRY_QUOTA_EXCEEDED', '5 of 8');
  });

  it('is a quota of the day, which ends at midnight UTC', async () => {
    const { time, make } = clock();
    const allowance = make({ requests_per_day: 5 });
    allowance.take(4);
    const error = await expectError(
      () => allowance.take(2),
      'BELFRY_QUOTA_EXCEEDED',
      '4 of 5 requests of this day (UTC) are used, 2 were asked for',
    );
    expect([error.statusCode, error.limit, error.retryAfterSeconds]).toEqual([429, 5, 3600]);
    allowance.take(1);
    await expectError(() => allowance.take(1), 'BELFRY_QUOTA_EXCEEDED', '');
    time.now += 3_600_000;
    allowance.take(5);
  });

  it('that is slower than one a second lets one through', async () => {
    const { time, make } = clock();
    const start = time.now;
    const allowance = make({ requests_per_second: 0.1 });
    allowance.take(1);
    const error = await expectError(() => allowance.take(1), 'BELFRY_RATE_LIMITED', '');
    expect(error.retryAfterSeconds).toBe(10);
    time.now = start + 10_000;
    allowance.take(1);
  });

  it('owes no more at a new rate than a batch does, nor to a clock that was set back', async () => {
    const { time, make } = clock();
    const start = time.now;
    const slow = make({ requests_per_second: 0.1 });
    slow.take(1);
    slow.take(255, true);
    await expectError(() => slow.take(1), 'BELFRY_RATE_LIMITED', '');
    const fast = make({ requests_per_second: 1000 });
    for (const now of [start, start - 86_400_000]) {
      time.now = now;
      const refused = await expectError(() => fast.take(1), 'BELFRY_RATE_LIMITED', '');
      expect(refused.retryAfterSeconds).toBe(1);
      time.now += 1_000;
      fast.take(1);
    }
  });
});

it('API2: wrong keys are counted by address, IPv6 by network, in bounded memory', () => {
  let now = 0;
  const failed = new FailedKeys(() => now);
  for (let i = 0; i < FAILURES_MAX; i++) expect(failed.count('192.0.2.7')).toBeUndefined();
  expect(failed.count('192.0.2.7')).toBe(60);
  expect(failed.count('192.0.2.8')).toBeUndefined();
  now = 45_000;
  expect(failed.count('192.0.2.7')).toBe(15);
  now = 60_000;
  expect(failed.count('192.0.2.7')).toBeUndefined();
  for (let i = 0; i < FAILURES_MAX; i++) failed.count(`2001:db8::${i.toString(16)}`);
  expect(failed.count('2001:db8:0:0:1:2:3:4')).toBe(60);
  expect(failed.count('2001:db8:0:1::1')).toBeUndefined();
  for (let i = 0; i < 20_000; i++) failed.count(`10.0.${i >> 8}.${i & 255}`);
  expect(failed.size).toBe(10_000);
});

it('A1: secrets are not shown', () => {
  const { key } = makeKey();
  const text = `Bearer ${key} at https://belfry:hunter2@host/x and Authorization: Basic YmVsZnJ5Omh1bnRlcjI=`;
  expect(redacted(text)).toBe(`Bearer … at https://…@host/x and Authorization: Basic …`);
  expect(redacted(`key ${key} here`)).toBe(`key ${key.slice(0, 18)}… here`);
  const settings = {
    port: 8080,
    keys: '/etc/keys.json',
    admin_key: 'a-key-of-sixteen-characters',
    s3_secret_access_key: 's',
    tls_key: '/etc/key.pem',
    feature_stores: { redis: { url: 'redis://belfry:hunter2@cache:6379', password: 'p' } },
  };
  expect(withoutSecrets(settings)).toEqual({
    ...settings,
    admin_key: '(not shown)',
    s3_secret_access_key: '(not shown)',
    feature_stores: { redis: { url: 'redis://…@cache:6379', password: '(not shown)' } },
  });
});

it('API8: files are named without their folders', () => {
  expect(
    withoutFolders({
      a: '/data/x/gen-1/items.npy: its checksum does not fit',
      b: ['POST /admin/rebuild, "/srv/models/registry.yaml" (C:\\models\\dlrm.onnx)', 3, null],
    }),
  ).toEqual({
    a: 'items.npy: its checksum does not fit',
    b: ['POST /admin/rebuild, "registry.yaml" (dlrm.onnx)', 3, null],
  });
});

it('A1: a log holds no secret, wherever it stands in a line', () => {
  const { key } = makeKey();
  let log = '';
  const logger = makeLogger('info', { write: (line: string) => (log += line) });
  const error = new Error(`redis://belfry:hunter2@cache:6379 refused ${key}`);
  logger.warn({ err: error, key: 'k', headers: { authorization: `Bearer ${key}` } }, `asked with ${key}`);
  logger.child({ reqId: 'r-1' }).error({ password: 'hunter2', nested: [{ token: 'hunter2' }] }, 'failed');
  const lines = log
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines).toMatchObject([
    { msg: `asked with ${key.slice(0, 18)}…`, key: '(not shown)', err: { type: 'Error', stack: expect.any(String) } },
    { msg: 'failed', reqId: 'r-1', password: '(not shown)', nested: [{ token: '(not shown)' }] },
  ]);
  expect(lines[0].err.message).toBe(`redis://…@cache:6379 refused ${key.slice(0, 18)}…`);
  expect(log).not.toContain('hunter2');
  expect(log).not.toContain(key);
});
