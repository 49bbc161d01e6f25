/** Builds of the real processes: a server that builds beside what it serves, and what signals leave. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const SLOW = { timeout: 120_000 };
const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
});

function start(args: string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const said = { out: '', err: '' };
  child.stdout.on('data', (chunk) => (said.out += chunk));
  child.stderr.on('data', (chunk) => (said.err += chunk));
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  return { child, said, ended };
}

async function until<T>(look: () => Promise<T> | T, isThere: (found: T) => boolean): Promise<T> {
  for (;;) {
    const found = await look();
    if (isThere(found)) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const exported = (seed: number, rows = 200) => ({
  items: { data: randomValues(rows * 8, seed), dims: 8 },
  files: { 'embeddings/export.json': JSON.stringify({ metric: 'ip', version: String(seed) }) },
});
const parts = (data: string, prefix: string) => readdirSync(data).filter((name) => name.startsWith(prefix));
const json = async (url: string) => (await (await fetch(url)).json()) as Record<string, never>;
const builds = (data: string) =>
  JSON.parse(readFileSync(join(data, 'builds.json'), 'utf8')) as { trigger: string; result: string }[];

describe('belfry serve', () => {
  it(
    'serves an older generation at once, builds the export aside, and the next one when it is whole',
    SLOW,
    async () => {
      const models = makeModelsFolder(temporaryFolder(), exported(1));
      const data = temporaryFolder();
      const built = start(['build', '--models', models, '--data', data, '--json']);
      expect(await built.ended).toBe(0);
      const { id } = JSON.parse(built.said.out) as { id: string };

      makeModelsFolder(models, exported(2));
      const config = join(temporaryFolder(), 'belfry.yaml');
      // The vectors of each export are unlike those before: of another training, which the canaries would refuse.
      writeFileSync(config, 'watch_export: true\nwatch_settle_ms: 200\ngate_agreement: 0\n');
      const { child, said, ended } = start([
        'serve',
        '--json',
        '--models',
        models,
        '--data',
        data,
        '--port',
        '0',
        '--config',
        config,
      ]);
      await until(
        () => said.out,
        (text) => text.includes('\n'),
      );
      const first = JSON.parse(said.out) as { address: string; generation: string; reused: boolean };
      expect(first).toMatchObject({ ready: true, generation: id, reused: true });
      const served = async () => String((await json(`${first.address}/readyz`)).generation);
      const second = await until(served, (now) => now !== id);

      // A new export beside, renamed into place as a whole.
      const next = makeModelsFolder(temporaryFolder(), exported(3));
      renameSync(models, `${models}-old`);
      renameSync(next, models);
      const third = await until(served, (now) => now !== second);
      expect(new Set([id, second, third]).size).toBe(3);
      await until(
        () => builds(data).map(({ trigger, result }) => `${trigger} ${result}`),
        (records) => records.join(', ') === 'cli published, start published, export published',
      );
      child.kill('SIGTERM');
      expect(await ended).toBe(0);
    },
  );

  it('stopped while it builds, leaves nothing of the build and ends with 0', SLOW, async () => {
    const models = makeModelsFolder(temporaryFolder(), exported(1));
    const data = temporaryFolder();
    expect(await start(['build', '--models', models, '--data', data]).ended).toBe(0);
    makeModelsFolder(models, exported(2, 60_000));
    const { child, said, ended } = start([
      'serve',
      '--json',
      '--models',
      models,
      '--data',
      data,
      '--port',
      '0',
      '--log-level',
      'silent',
    ]);
    await until(
      () => said.out,
      (text) => text.includes('\n'),
    );
    const { address } = JSON.parse(said.out) as { address: string };
    await until(
      () => json(`${address}/readyz`),
      ({ build }) => ['graph', 'calibrate'].includes((build as { stage?: string } | undefined)?.stage ?? ''),
    );
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect([parts(data, 'tmp-'), parts(data, 'LOCK-'), parts(data, 'gen-').length]).toEqual([[], [], 1]);
    expect(builds(data).at(-1)).toMatchObject({ trigger: 'start', result: 'cancelled', code: 'BELFRY_STOPPED' });
  });

  it('refuses a schedule that is none', SLOW, async () => {
    const models = makeModelsFolder(temporaryFolder(), exported(1));
    const { ended, said } = start([
      'serve',
      '--models',
      models,
      '--data',
      temporaryFolder(),
      '--port',
      '0',
      '--schedule',
      'sometimes',
    ]);
    expect(await ended).toBe(2);
    expect(said.err).toMatch(/rebuild_schedule: expected "every 30m" .*received "sometimes"/);
  });
});

describe('belfry build', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('X4: ended by %s, leaves nothing', SLOW, async (signal) => {
    const models = makeModelsFolder(temporaryFolder(), exported(1, 60_000));
    const data = temporaryFolder();
    const { child, said, ended } = start(['build', '--models', models, '--data', data]);
    await until(
      () => said.err,
      (text) => text.includes('graph ...'),
    );
    expect(parts(data, 'tmp-')).toHaveLength(1);
    child.kill(signal);
    expect(await ended).toBe(signal === 'SIGKILL' ? null : 1);
    if (signal !== 'SIGKILL') expect(said.err).toMatch(new RegExp(`stopped by ${signal} \\(BELFRY_STOPPED\\)`));
    // Nobody is left to wait for it: the builder sees that it is alone.
    await until(
      () => [...parts(data, 'tmp-'), ...parts(data, 'LOCK-')],
      (left) => left.length === 0,
    );
    expect(parts(data, 'gen-')).toEqual([]);
  });
});
