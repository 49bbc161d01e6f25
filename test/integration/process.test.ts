/** The real process: ports, signals, exit codes, what is printed. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, SAMPLE, temporaryFolder } from '../support/folders.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
});

interface Finished {
  code: number | null;
  out: string;
  err: string;
}

function belfry(args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<Finished> {
  return new Promise((resolve) => {
    // CI makes some libraries colour pipes; what scripts read must stay plain.
    const env = { ...process.env, CI: 'true', ...options.env };
    execFile(process.execPath, [MAIN, ...args], { ...options, env, maxBuffer: 1 << 26 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : (error.code as unknown as number), out, err });
    });
  });
}

async function serve(
  args: string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<{ address: string; child: ChildProcess; ended: Promise<number | null> }> {
  const child = spawn(process.execPath, [MAIN, 'serve', '--json', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const ended = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => resolve(code));
  });
  const address = await new Promise<string>((resolve, reject) => {
    let out = '';
    let err = '';
    child.stderr!.on('data', (chunk) => {
      err += chunk;
    });
    child.stdout!.on('data', (chunk) => {
      out += chunk;
      try {
        resolve(JSON.parse(out).address);
      } catch {
        // not the whole line yet
      }
    });
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${err}`)));
  });
  return { address, child, ended };
}

const post = (address: string, body: object) =>
  fetch(`${address}/retrieve`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

describe('belfry serve', () => {
  it('serves a folder of two .npy files, 100,000 x 64, at PORT, and stops cleanly', { timeout: 120_000 }, async () => {
    const models = makeModelsFolder(temporaryFolder(), {
      items: { data: randomValues(100_000 * 64, 1), dims: 64 },
      users: { data: randomValues(1000 * 64, 2), dims: 64 },
    });
    const { address, child, ended } = await serve(['--models', models, '--data', temporaryFolder()], {
      ...process.env,
      PORT: '0',
    });
    const answer = (await (await post(address, { user_id: 42, k: 10 })).json()) as { items: { id: unknown }[] };
    expect(answer).toMatchObject({ returned: 10, degraded: [] });
    expect(answer.items.every(({ id }) => Number.isInteger(id))).toBe(true);
    expect(await (await post(address, { user_id: 1000, k: 3 })).json()).toMatchObject({ degraded: ['cold_start'] });
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
  });

  it('O1: finishes what is under way when told to stop', async () => {
    const { address, child, ended } = await serve(['--sample', '--data', temporaryFolder(), '--port', '0']);
    const asked = Promise.all(
      Array.from({ length: 8 }, () =>
        post(address, { user_id: 'gimp', k: 10, rerank: true, candidates: 2000, timeout_ms: 1000 }),
      ),
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill('SIGTERM');
    const statuses = (await asked).map(({ status }) => status);
    expect(statuses.every((status) => status === 200 || status === 503)).toBe(true);
    expect(statuses).toContain(200);
    expect(await ended).toBe(0);
  });

  it('W2: ends by a crash in native code, and does not hang in it', async () => {
    const { child, ended } = await serve(['--sample', '--data', temporaryFolder(), '--port', '0']);
    child.kill('SIGSEGV');
    expect(await ended).toBe(null);
    expect(child.signalCode).toBe('SIGSEGV');
  });

  it('P5: a refused export leaves the generation before it serving, and says so', async () => {
    const items = { data: randomValues(100 * 8, 1), dims: 8 };
    const models = makeModelsFolder(temporaryFolder(), { items });
    const data = temporaryFolder();
    const built = JSON.parse((await belfry(['build', '--models', models, '--data', data, '--json'])).out);
    writeFileSync(join(models, 'embeddings/item_embeddings.npy'), 'half an export');
    const { address, child, ended } = await serve(['--models', models, '--data', data, '--port', '0']);
    // Served at once; the build aside takes a moment to fail.
    const status = async () => (await (await fetch(`${address}/readyz`)).json()) as Record<string, unknown>;
    expect(await status()).toMatchObject({ ready: true, generation: built.id });
    while ((await status()).build_problem === undefined) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await status()).toMatchObject({
      ready: true,
      generation: built.id,
      build_problem: { code: 'BELFRY_NPY_INVALID', message: expect.stringMatching(/item_embeddings\.npy/) },
    });
    expect((await post(address, { item_ids: [3], k: 5 })).status).toBe(200);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    const first = await belfry(['serve', '--models', models, '--data', temporaryFolder(), '--port', '0']);
    expect([first.code, first.err]).toEqual([1, expect.stringMatching(/BELFRY_NPY_INVALID/)]);
  });

  it('says which port is taken and how to choose another', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => {
      other.listen(0, '127.0.0.1', resolve);
    });
    const { port } = other.address() as { port: number };
    const data = temporaryFolder();
    const { code, err } = await belfry(['serve', '--sample', '--data', data, '--port', String(port)]);
    // Found before the build, not after it.
    expect(readdirSync(data)).toEqual([]);
    other.close();
    expect(code).toBe(1);
    expect(err).toMatch(
      new RegExp(
        `error port ${port} on 127\\.0\\.0\\.1 is taken by another program; choose one with --port ${port + 1}, or PORT=${port + 1} \\(BELFRY_PORT_TAKEN\\)`,
      ),
    );
  });

  it.each<[string[], number, RegExp]>([
    [
      ['serve', '--models', '/no/such/folder'],
      1,
      /models folder \/no\/such\/folder does not exist or is not a folder \(BELFRY_MODELS_FOLDER\)/,
    ],
    [
      ['serve', '--sample', '--port', '99999'],
      2,
      /settings: port: expected at most 65535, received 99999 \(BELFRY_CONFIG_INVALID\)/,
    ],
    [
      ['serve', '--sample', '--kernel', 'mmx'],
      2,
      /settings: kernel: expected "amx" or "avx512vnni" or "avxvnni" or "avx2" or "portable", received "mmx"/,
    ],
    [['serve', '--colour'], 2, /unknown option '--colour'/],
    [['fly'], 2, /unknown command 'fly'/],
  ])('%j ends with %i', async (args, code, message) => {
    const cwd = temporaryFolder();
    const result = await belfry(args, { cwd });
    expect([result.code, result.err]).toEqual([code, expect.stringMatching(message)]);
  });
});

describe('other commands', () => {
  it('build, then query, print tables and JSON', { timeout: 120_000 }, async () => {
    const cwd = temporaryFolder();
    const built = await belfry(['build', '--sample', '--data', 'data'], { cwd });
    expect([built.code, built.out]).toEqual([0, expect.stringMatching(/items +22\d{3}|items +\d+ x 64 f2/)]);
    expect(built.err).toMatch(/building \d+ items and \d+ users of 64 dims: writes .* free\), needs .* of memory/);
    expect(built.out).toMatch(/skew +passed .*two-tower@1\.0 on 256 users/);
    const again = JSON.parse((await belfry(['build', '--sample', '--data', 'data', '--json'], { cwd })).out);
    expect(again).toMatchObject({ reused: true, metric: 'ip' });
    const forced = JSON.parse(
      (await belfry(['build', '--sample', '--data', 'data', '--json', '--force'], { cwd })).out,
    );
    expect([forced.reused, forced.id === again.id]).toEqual([false, false]);

    const shown = await belfry(
      ['query', '--sample', '--data', 'data', '--user', 'gimp', '-k', '5', '--with-metadata', 'section'],
      { cwd },
    );
    expect(shown.code).toBe(0);
    expect(shown.out.split('\n')).toHaveLength(8);
    expect(shown.out).toMatch(/^.*# +item +score +retrieval +rank +section/);
    const asJson = JSON.parse(
      (await belfry(['query', '--sample', '--data', 'data', '--features', '{"history":["bash"]}', '--json'], { cwd }))
        .out,
    );
    expect(asJson.returned).toBe(10);
    const bad = await belfry(['query', '--sample', '--data', 'data', '--user', 'gimp', '-k', '0', '--json'], { cwd });
    expect(bad.code).toBe(2);
    expect(JSON.parse(bad.err.trim().split('\n').at(-1)!)).toMatchObject({
      code: 'BELFRY_INVALID_ARGUMENT',
      message: 'k: expected at least 1, received 0',
    });
    const nobody = await belfry(['query', '--url', 'http://127.0.0.1:9', '--user', 'gimp'], { cwd });
    expect([nobody.code, nobody.err]).toEqual([
      1,
      expect.stringMatching(
        /http:\/\/127\.0\.0\.1:9: no answer .*; start it with belfry serve \(BELFRY_SERVER_UNREACHABLE\)/,
      ),
    ]);
  });

  it('inspect every kind of file and folder', async () => {
    const cwd = temporaryFolder();
    await belfry(['build', '--sample', '--data', 'data'], { cwd });
    const inspect = async (path: string) => JSON.parse((await belfry(['inspect', path, '--json'], { cwd })).out);
    expect(await inspect(join(SAMPLE, 'embeddings/item_embeddings.npy'))).toMatchObject({
      dtype: 'f2',
      fortranOrder: false,
      shape: [expect.any(Number), 64],
    });
    expect(await inspect(join(SAMPLE, 'exported/onnx/two_tower.onnx'))).toMatchObject({
      inputs: [{ name: 'user_features', dtype: 'float32' }, { name: 'item_features' }],
      outputs: [{ name: 'user_embedding' }, { name: 'item_embedding' }],
    });
    expect((await inspect(join(SAMPLE, 'features/items.parquet'))).columns).toContainEqual({
      name: 'section',
      kind: 'string',
    });
    expect(await inspect(SAMPLE)).toMatchObject({ userTower: { name: 'two-tower' } });
    const data = await inspect('data');
    expect(data.generations).toEqual([{ id: data.current, state: 'serves' }]);
    expect(await inspect(`data/gen-${data.current}`)).toMatchObject({ id: data.current, metric: 'ip' });
    for (const path of [
      SAMPLE,
      join(SAMPLE, 'exported/onnx/dlrm.onnx'),
      join(SAMPLE, 'features/users.parquet'),
      `data/gen-${data.current}`,
    ]) {
      const { code, out } = await belfry(['inspect', path], { cwd });
      expect([code, out.length > 100]).toEqual([0, true]);
    }
    mkdirSync(join(cwd, 'empty'));
    expect((await belfry(['inspect', 'nothing.npy'], { cwd })).err).toMatch(
      /nothing\.npy does not exist \(BELFRY_FILE_UNREADABLE\)/,
    );
    expect((await belfry(['inspect', 'empty'], { cwd })).err).toMatch(/holds no embeddings\/item_embeddings\.npy/);
  });

  it('doctor finds what is wrong and says how to mend it', async () => {
    const cwd = temporaryFolder();
    const good = JSON.parse((await belfry(['doctor', '--sample', '--port', '0', '--json'], { cwd })).out);
    expect(good.healthy).toBe(true);
    expect(good.findings.map(({ check }: { check: string }) => check)).toEqual([
      'node',
      'native core',
      'machine',
      'settings',
      'models folder',
      'data folder',
      'embeddings',
      'exclusions',
      'models',
      'port',
      'access',
    ]);
    const models = makeModelsFolder(temporaryFolder(), {
      items: { data: randomValues(64, 1), dims: 8 },
      files: { 'embeddings/item_ids.txt': 'a\n' },
    });
    const bad = await belfry(['doctor', '--models', models], { cwd });
    expect(bad.code).toBe(3);
    expect(bad.out).toMatch(
      /✗ embeddings +item_ids\.txt holds 1 ids and item_embeddings\.npy 8 rows; export both from the same run/,
    );
  });
});
