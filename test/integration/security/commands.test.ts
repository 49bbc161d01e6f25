/** A1, API8: `belfry keys`, and what a server refuses to do without them. */
import { execFile } from 'node:child_process';
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KeyRing } from '../../../src/access/key-ring.js';
import { loadSettings } from '../../../src/config/load.js';
import { expectError } from '../../support/expect-error.js';
import { makeModelsFolder, temporaryFolder } from '../../support/folders.js';

const MAIN = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
let folder: string;
beforeAll(() => {
  folder = temporaryFolder({ keep: true });
  makeModelsFolder(join(folder, 'models'), { items: { data: new Float32Array(16).fill(1), dims: 8 } });
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function belfry(args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise((resolve) => {
    const options = { cwd: folder, env: { ...process.env, ...env } };
    const child = execFile(process.execPath, [MAIN, ...args], options, (_error, out, err) =>
      resolve({ code: child.exitCode ?? -1, out, err }),
    );
  });
}

describe('belfry keys', () => {
  it('makes a key that is shown once, lists, rotates with an overlap and revokes', async () => {
    const file = join(folder, 'keys.json');
    const env = { BELFRY_KEYS: file };
    const added = await belfry([
      'keys',
      'add',
      '--keys',
      'keys.json',
      '--name',
      'shop',
      '--scopes',
      'retrieve',
      'write',
      '--expires',
      '90d',
      '--per-second',
      '50',
    ]);
    expect([added.code, added.err]).toMatchObject([0, expect.stringMatching(/only time.*retrieve, write until 20/)]);
    const key = added.out.trim();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).not.toContain(key.slice(18));
    const ring = () => {
      const opened = KeyRing.open(file);
      opened.close();
      return opened;
    };
    expect(ring().find(key)).toMatchObject({ name: 'shop', scopes: new Set(['retrieve', 'write']) });

    const rotated = JSON.parse((await belfry(['keys', 'rotate', 'shop', '--overlap', '1h', '--json'], env)).out);
    expect(rotated).toMatchObject({ name: 'shop', scopes: ['retrieve', 'write'], requests_per_second: 50 });
    expect([ring().find(key)?.name, ring().find(rotated.key)?.name]).toEqual(['shop', 'shop']);
    const { keys } = JSON.parse((await belfry(['keys', 'list', '--json'], env)).out);
    expect(keys.map(({ id }: { id: string }) => id)).toEqual([key.slice(7, 17), rotated.id]);
    expect(Date.parse(keys[0].expires) - Date.now()).toBeLessThan(3_600_001);
    expect(Date.parse(keys[1].expires) - Date.now()).toBeGreaterThan(89 * 86_400_000);
    expect(JSON.stringify(keys)).not.toContain('sha256');

    const two = await belfry(['keys', 'revoke', 'shop'], env);
    expect([two.code, two.err]).toMatchObject([
      2,
      expect.stringContaining(`expected an id: ${keys[0].id}, ${keys[1].id}`),
    ]);
    expect((await belfry(['keys', 'revoke', keys[0].id], env)).code).toBe(0);
    expect([ring().find(key), ring().find(rotated.key)?.id]).toEqual([undefined, rotated.id]);
  });

  it.each<[string[], RegExp]>([
    [['add', '--name', 'x'], /name the file of the keys with --keys FILE/],
    [
      ['add', '--keys', 'k.json', '--name', 'x', '--scopes', 'root'],
      /Allowed choices are retrieve, write, metrics, admin/,
    ],
    [['add', '--keys', 'k.json', '--name', 'x', '--expires', 'soon'], /--expires: expected a time from now on/],
  ])('%j is refused', async (args, message) => {
    const { code, err } = await belfry(['keys', ...args]);
    expect([code === 0, err]).toEqual([false, expect.stringMatching(message)]);
  });
});

describe('API8: belfry serve', () => {
  it('does not listen for other machines without keys, and says what to do', async () => {
    for (const env of [{ BELFRY_HOST: '0.0.0.0' }, { BELFRY_ADMIN_HOST: '::' }] as Record<string, string>[]) {
      const { code, err } = await belfry(['serve', '--port', '0'], env);
      expect([code, err]).toMatchObject([
        2,
        expect.stringMatching(/nothing asks them for a key; make keys \(belfry keys add .*--open-access/),
      ]);
    }
    const wrong = await belfry(['serve', '--port', '0', '--tls-cert', 'nowhere.pem', '--tls-key', 'nowhere.pem']);
    expect([wrong.code, wrong.err]).toMatchObject([2, expect.stringContaining('nowhere.pem')]);
  });

  it('is told by belfry doctor to be open', async () => {
    const { out } = await belfry(['doctor', '--port', '0', '--json'], {
      BELFRY_HOST: '0.0.0.0',
      BELFRY_OPEN_ACCESS: 'true',
    });
    const access = JSON.parse(out).findings.find(({ check }: { check: string }) => check === 'access');
    expect(access).toMatchObject({
      status: 'warning',
      detail: expect.stringMatching(/^open_access: everybody.*; no TLS:/),
    });
  });
});

it('A1: a message about a setting does not hold the secret', async () => {
  const file = join(folder, 'secret.yaml');
  writeFileSync(file, 'admin_key: hunter2\n');
  const options = { file, workingDirectory: folder, environment: {} };
  await expectError(
    () => loadSettings(options),
    'BELFRY_CONFIG_INVALID',
    /admin_key: expected at least 16 characters, received 7$/,
  );
  writeFileSync(file, 'admin_key: 1234567890123456\n');
  const error = await expectError(() => loadSettings(options), 'BELFRY_CONFIG_INVALID', /admin_key: expected a string/);
  expect(error.message).not.toContain('1234567890');
});
