/** P8: a server without a good generation is alive, says why it is not ready, and gets ready by itself. */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const belfry = (...args: string[]) => promisify(execFile)(process.execPath, [MAIN, ...args]);

it('P8, X1: starts with nothing but a damaged generation and a bad export, and serves what is published later', async () => {
  const items = { data: randomValues(300 * 8, 1), dims: 8 };
  const models = makeModelsFolder(temporaryFolder(), { items });
  const data = temporaryFolder();
  await belfry('build', '--models', models, '--data', data);
  const [generation] = readdirSync(data).filter((name) => name.startsWith('gen-'));
  writeFileSync(join(data, generation!, 'embeddings/item_embeddings.npy'), 'x', { flag: 'r+' });
  writeFileSync(join(models, 'embeddings/item_embeddings.npy'), 'half an export');

  const args = ['serve', '--json', '--models', models, '--data', data, '--port', '0', '--log-level', 'fatal'];
  const server = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => {
    server.kill('SIGKILL');
  });
  const [line] = (await once(createInterface({ input: server.stdout }), 'line')) as [string];
  const said = JSON.parse(line) as { ready: boolean; address: string; admin: string; code: string };
  expect(said).toMatchObject({ ready: false, code: 'BELFRY_GENERATION_CORRUPT' });
  const { address, admin } = said;
  const get = async (path: string, from = address) => {
    const answer = await fetch(from + path);
    return [answer.status, (await answer.json()) as unknown];
  };
  expect(await get('/healthz')).toEqual([200, { status: 'ok' }]);
  expect(await get('/readyz')).toMatchObject([
    503,
    { ready: false, reason: expect.stringMatching(/item_embeddings\.npy: its checksum does not fit the manifest/) },
  ]);
  expect((await get('/admin/generations', admin))[0]).toBe(200);
  const asked = await fetch(`${address}/retrieve`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ item_ids: [1], k: 3 }),
  });
  expect([asked.status, await asked.json()]).toMatchObject([503, { code: 'BELFRY_NOT_READY' }]);

  const good = makeModelsFolder(temporaryFolder(), { items });
  await belfry('build', '--models', good, '--data', data);
  for (let tries = 0; (await get('/readyz'))[0] !== 200; tries++) {
    if (tries > 200) throw new Error(`not ready: ${JSON.stringify(await get('/readyz'))}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const metrics = await (await fetch(`${address}/metrics`)).text();
  expect(metrics).toMatch(/^belfry_generations_passed_over_total\{code="BELFRY_GENERATION_CORRUPT"\} 1$/m);
  expect(metrics).toMatch(/^belfry_generation_swaps_total 1$/m);
  server.kill('SIGTERM');
  expect(await once(server, 'exit')).toEqual([0, null]);
}, 60_000);
