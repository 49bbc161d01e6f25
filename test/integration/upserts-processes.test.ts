/** Two servers on one data folder: each sees what the other took, a kill loses nothing, and a rebuild folds it in under both. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const DIMS = 8;
const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
});

interface Server {
  readonly address: string;
  readonly child: ChildProcess;
}

async function serve(models: string, data: string): Promise<Server> {
  const args = [MAIN, 'serve', '--json', '--models', models, '--data', data, '--port', '0', '--log-level', 'error'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  const address = await new Promise<string>((resolve, reject) => {
    let out = '';
    child.stdout!.on('data', (chunk) => {
      out += chunk;
      const found = /"address":"([^"]+)"/.exec(out)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('exit', (code) => reject(new Error(`belfry serve ended with ${code}`)));
  });
  await until(async () => (await fetch(`${address}/readyz`)).status === 200, 30_000);
  return { address, child };
}

/** Resolves to how long it took, in milliseconds. */
async function until(isSo: () => Promise<boolean>, timeoutMs: number): Promise<number> {
  const started = performance.now();
  while (!(await isSo())) {
    if (performance.now() - started > timeoutMs) throw new Error(`not so after ${timeoutMs} ms`);
    await setTimeout(5);
  }
  return performance.now() - started;
}

const json = { 'content-type': 'application/json' };
const far = (scale: number) => [scale, ...Array<number>(DIMS - 1).fill(0)];

async function put({ address }: Server, id: string, scale: number): Promise<number> {
  const body = JSON.stringify({ embedding: far(scale) });
  return (await fetch(`${address}/items/${id}`, { method: 'PUT', headers: json, body })).status;
}

async function ids({ address }: Server): Promise<string[]> {
  const body = JSON.stringify({ embedding: far(1), k: 1000, exact: true, timeout_ms: 1000 });
  const response = await fetch(`${address}/retrieve`, { method: 'POST', headers: json, body });
  return ((await response.json()) as { items: { id: string }[] }).items.map(({ id }) => id);
}

describe('two servers on one data folder', () => {
  it(
    'show each other their upserts within a second, keep them over kills, and fold them in',
    { timeout: 120_000 },
    async () => {
      const itemIds = Array.from({ length: 20 }, (_, row) => `i${row}`);
      const models = makeModelsFolder(temporaryFolder(), {
        items: { data: randomValues(20 * DIMS, 1), dims: DIMS },
        files: { 'embeddings/item_ids.txt': itemIds.join('\n') },
      });
      const data = temporaryFolder();
      let first = await serve(models, data);
      const second = await serve(models, data);

      const waits: number[] = [];
      for (let n = 0; n < 10; n++) {
        const [writer, reader] = n % 2 === 0 ? [first, second] : [second, first];
        expect(await put(writer, `n${n}`, 100 + n)).toBe(201);
        expect((await ids(writer))[0]).toBe(`n${n}`);
        waits.push(await until(async () => (await ids(reader))[0] === `n${n}`, 5000));
      }
      expect(Math.max(...waits)).toBeLessThan(1000);
      expect(await put(second, 'n0', 500)).toBe(200);
      expect((await fetch(`${first.address}/items/i3`, { method: 'DELETE' })).status).toBe(200);
      await until(async () => !(await ids(second)).includes('i3'), 1000);
      expect((await fetch(`${second.address}/items/i3`, { method: 'DELETE' })).status).toBe(404);

      // Both at once, and then one is killed: what was acknowledged is there in the other, and after a restart.
      const taken = Array.from({ length: 18 }, (_, n) => `x${n}`);
      await Promise.all(taken.map((id, n) => put(n % 2 === 0 ? first : second, id, 10)));
      first.child.kill('SIGKILL');
      await until(async () => (await ids(second)).length >= 20 - 1 + 10 + 18, 1000);
      const expected = (await ids(second)).sort();
      expect(taken.every((id) => expected.includes(id))).toBe(true);
      first = await serve(models, data);
      expect((await ids(first)).sort()).toEqual(expected);

      const build = promisify(execFile);
      const generation = async ({ address }: Server) =>
        ((await (await fetch(`${address}/readyz`)).json()) as { generation: string }).generation;
      const before = await generation(second);
      await build(process.execPath, [MAIN, 'build', '--force', '--models', models, '--data', data]);
      for (const server of [first, second]) await until(async () => (await generation(server)) !== before, 20_000);
      for (const server of [first, second]) expect((await ids(server)).sort()).toEqual(expected);
      expect(await put(first, 'last', 1000)).toBe(201);
      await until(async () => (await ids(second))[0] === 'last', 1000);
      const metrics = async () => (await fetch(`${first.address}/metrics`)).text();
      await until(async () => /^belfry_item_delta_rows\{kind="items"\} 1$/m.test(await metrics()), 1000);
    },
  );
});
