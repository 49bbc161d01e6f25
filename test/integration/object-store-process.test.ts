/** Real processes on an object store: one watches an export, builds and pushes; another pulls and serves. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { npyFile, randomValues, temporaryFolder } from '../support/folders.js';
import { TestStore } from '../support/object-store.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const EXPORT = 's3://models/nightly';
const COPIES = 's3://models/copies';

let remote: TestStore;
beforeEach(async () => {
  remote = await TestStore.start();
});
afterEach(() => remote.stop());

/** The number of items tells exports apart; otherwise they are alike, as the gates want them. */
async function putExport(items: number): Promise<void> {
  const vectors = npyFile(randomValues(items * 16, 5), [items, 16]);
  await remote.put('nightly/embeddings/item_embeddings.npy', vectors);
  await remote.put('nightly/_SUCCESS', `${items}\n`);
}

function environment(more: Record<string, string> = {}): NodeJS.ProcessEnv {
  const { s3_endpoint, s3_access_key_id, s3_secret_access_key } = remote.settings();
  return {
    ...process.env,
    CI: 'true',
    BELFRY_S3_ENDPOINT: s3_endpoint,
    BELFRY_S3_ACCESS_KEY_ID: s3_access_key_id,
    BELFRY_S3_SECRET_ACCESS_KEY: s3_secret_access_key,
    BELFRY_WATCH_SETTLE_MS: '100',
    ...more,
  };
}

function belfry(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { env: environment() }, (error, out, err) => {
      resolve({ code: error === null ? 0 : (error.code as unknown as number), out, err });
    });
  });
}

interface Ready {
  readonly ready: boolean;
  readonly address: string;
  readonly admin: string;
  readonly generation: string;
  readonly items: number;
}

async function serve(args: string[], env: NodeJS.ProcessEnv): Promise<Ready> {
  const child: ChildProcess = spawn(process.execPath, [MAIN, 'serve', '--json', '--port', '0', ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(async () => {
    const gone = new Promise((resolve) => child.once('exit', resolve));
    if (child.exitCode === null && child.kill('SIGKILL')) await gone;
  });
  return new Promise((resolve, reject) => {
    let [out, err] = ['', ''];
    child.stderr!.on('data', (chunk) => (err += chunk));
    child.stdout!.on('data', (chunk) => {
      out += chunk;
      if (out.includes('\n')) resolve(JSON.parse(out) as Ready);
    });
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${err}`)));
  });
}

/** Until the server answers from a generation of so many items; returns its id. */
async function untilItems({ address, admin }: Ready, items: number): Promise<string> {
  const deadline = performance.now() + 60_000;
  for (;;) {
    const text = await (await fetch(`${address}/readyz`)).text();
    const body = (await (await fetch(`${admin}/admin/generations`)).json()) as {
      serving: string;
      generations: { id: string; items: number }[];
    };
    const serving = body.generations.find(({ id }) => id === body.serving);
    if (serving?.items === items) return serving.id;
    if (performance.now() > deadline) throw new Error(`waited for ${items} items: ${text} ${JSON.stringify(body)}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

describe('belfry on an object store', () => {
  it('builds from s3://, pushes, pulls elsewhere, and says what it did', async () => {
    await putExport(300);
    const [here, there] = [temporaryFolder(), temporaryFolder()];
    const built = await belfry('build', '--models', EXPORT, '--data', here, '--json');
    expect(built.err).not.toContain('"code"');
    expect(built.code).toBe(0);
    const { id, models_folder } = JSON.parse(built.out) as { id: string; models_folder: string };
    expect(models_folder).toBe(EXPORT);
    const again = await belfry('build', '--models', `${EXPORT}/`, '--data', here, '--json');
    expect(JSON.parse(again.out)).toMatchObject({ id, reused: true });
    const pushed = await belfry('push', '--data', here, '--to', COPIES);
    expect(pushed.out).toMatch(
      new RegExp(`^generation ${id} is the latest of ${COPIES} \\(.*every file checked\\)\n$`),
    );
    const pulled = await belfry('pull', '--data', there, '--from', COPIES, '--json');
    expect(JSON.parse(pulled.out)).toMatchObject({ id, was_here: false, items: 300, from: COPIES });
    expect(readFileSync(join(there, 'CURRENT'), 'utf8')).toMatch(new RegExp(`^${id}\n`));
    const asked = await belfry('query', '--models', EXPORT, '--data', here, '--items', '7', '-k', '3', '--json');
    expect(asked.code, asked.err).toBe(0);
    const wrong = await belfry('pull', '--data', there, '--from', 's3://nowhere/x', '--json');
    expect(wrong.code).toBe(1);
    expect(wrong.err).toContain('"code":"BELFRY_OBJECT_STORE_NOT_FOUND"');
    const bad = await belfry('push', '--data', here, '--to', 'http://elsewhere/x', '--json');
    expect(bad.code).toBe(2);
    expect(bad.err).toContain('to: expected s3://bucket/prefix, received http://elsewhere/x');
  }, 120_000);

  it('a server follows the export and pushes; another follows the copies; both outlive the store', async () => {
    await putExport(300);
    const [here, there] = [temporaryFolder(), temporaryFolder()];
    const builder = await serve(
      ['--models', EXPORT, '--data', here, '--watch'],
      environment({ BELFRY_PUSH_TO: COPIES }),
    );
    expect(builder).toMatchObject({ ready: true, items: 300 });
    const follower = await serve(['--data', there], environment({ BELFRY_PULL_FROM: COPIES }));
    expect(follower).toMatchObject({ ready: true, items: 300, generation: builder.generation });
    await putExport(320);
    const next = await untilItems(builder, 320);
    expect(next).not.toBe(builder.generation);
    expect(await untilItems(follower, 320)).toBe(next);
    expect(readdirSync(here).filter((name) => name.startsWith('tmp-'))).toEqual([]);

    // The store is gone: what is here serves, also after a restart.
    remote.fault = () => ({ kind: 'status', status: 503 });
    const fast = { BELFRY_S3_ATTEMPTS: '1' };
    const later = await serve(['--data', there], environment({ BELFRY_PULL_FROM: COPIES, ...fast }));
    expect(later).toMatchObject({ ready: true, generation: next });
    const rebuilt = await serve(['--models', EXPORT, '--data', here, '--watch'], environment(fast));
    expect(rebuilt).toMatchObject({ ready: true, generation: next });
  }, 120_000);
});
