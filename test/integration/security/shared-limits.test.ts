/** A key's limits are those of the server: one count for all workers, and for the server after it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../../support/folders.js';
import { type TestKeys, writeTestKeys } from '../../support/keys.js';

const MAIN = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
const QUOTA = 12;

let folder: string;
let data: string;
let keys: TestKeys;
let child: ChildProcess | undefined;

beforeAll(() => {
  folder = makeModelsFolder(temporaryFolder({ keep: true }), { items: { data: randomValues(40, 1), dims: 2 } });
  data = temporaryFolder({ keep: true });
  keys = writeTestKeys({ day: { requests_per_day: QUOTA }, second: { requests_per_second: 5 } });
});

afterAll(() => {
  child?.kill('SIGKILL');
  keys.remove();
  for (const one of [folder, data]) rmSync(one, { recursive: true, force: true });
});

async function serve(workers: number): Promise<{ address: string; stop: () => Promise<void> }> {
  const words = ['--workers', String(workers), '--port', '0', '--models', folder, '--data', data, '--keys', keys.file];
  const server = (child = spawn(process.execPath, [MAIN, 'serve', '--json', ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
  }));
  let log = '';
  server.stderr!.on('data', (chunk: Buffer) => (log += chunk.toString()));
  const gone = once(server, 'exit').then(() => Promise.reject(new Error(log)));
  const [line] = (await Promise.race([once(server.stdout!, 'data'), gone])) as [Buffer];
  gone.catch(() => undefined);
  const { address } = JSON.parse(line.toString()) as { address: string };
  return {
    address,
    stop: async () => {
      server.kill('SIGTERM');
      await once(server, 'exit');
    },
  };
}

/** Codes of as many answers, each on a connection of its own. */
async function ask(address: string, key: string, count: number): Promise<string[]> {
  const answers = Array.from({ length: count }, async () => {
    const answer = await fetch(`${address}/retrieve`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': key, connection: 'close' },
      body: JSON.stringify({ embedding: [1, 0], k: 1, timeout_ms: 1000 }),
    });
    const { code } = (await answer.json()) as { code?: string };
    return code ?? 'OK';
  });
  return Promise.all(answers);
}

const count = (codes: readonly string[], code: string) => codes.filter((one) => one === code).length;

describe('API4: limits of keys', () => {
  it('are counted by all workers together, and the day goes on after a restart', { timeout: 60_000 }, async () => {
    const two = await serve(2);
    const byDay = await ask(two.address, keys.keys.day!, 2 * QUOTA);
    expect([count(byDay, 'OK'), count(byDay, 'BELFRY_QUOTA_EXCEEDED')]).toEqual([QUOTA, QUOTA]);
    const started = performance.now();
    const bySecond = await ask(two.address, keys.keys.second!, 24);
    const filledSince = Math.ceil(((performance.now() - started) / 1000) * 5);
    expect(count(bySecond, 'OK')).toBeGreaterThanOrEqual(5);
    expect(count(bySecond, 'OK')).toBeLessThanOrEqual(5 + filledSince);
    expect(count(bySecond, 'OK') + count(bySecond, 'BELFRY_RATE_LIMITED')).toBe(24);
    await two.stop();
    const one = await serve(1);
    expect(await ask(one.address, keys.keys.day!, 1)).toEqual(['BELFRY_QUOTA_EXCEEDED']);
    expect(await ask(one.address, keys.keys.second!, 1)).toEqual(['OK']);
    await one.stop();
  });

  it('a file that is not theirs is named at the start, before anything is built', { timeout: 30_000 }, async () => {
    const broken = temporaryFolder();
    writeFileSync(join(broken, 'key-usage'), 'hello');
    const words = ['--port', '0', '--models', folder, '--data', broken, '--keys', keys.file];
    const server = spawn(process.execPath, [MAIN, 'serve', ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    server.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
    const [code] = (await once(server, 'exit')) as [number];
    expect(code).toBe(1);
    expect(text).toContain(`${broken}: key-usage: expected a file of 6291464 bytes, found 5; remove it`);
    expect(text).toContain('(BELFRY_FILE_VERSION)');
  });
});
