/** A build in a process of its own: how it ends, and that nothing of it stays when it ends badly. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { BelfryError } from '../../src/errors.js';
import type { BuildProgress } from '../../src/generation/build.js';
import type { BuildPlan } from '../../src/generation/build-plan.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { lockName } from '../../src/generation/writer-lock.js';
import { type BuildCallbacks, runBuilder } from '../../src/rebuild/builder-process.js';
import { recordedBuild } from '../../src/rebuild/recorded-build.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { errorOf } from '../support/errors.js';

const nodeOptions = process.env.NODE_OPTIONS;
afterEach(() => {
  if (nodeOptions === undefined) delete process.env.NODE_OPTIONS;
  else process.env.NODE_OPTIONS = nodeOptions;
});

const small = () => makeModelsFolder(temporaryFolder(), { items: { data: randomValues(100 * 8, 1), dims: 8 } });
/** Enough rows for a graph, in which it is interrupted. */
const large = () => makeModelsFolder(temporaryFolder(), { items: { data: randomValues(20_000 * 32, 1), dims: 32 } });
const visible = (data: string) => readdirSync(data).filter((name) => !['builds.json', 'upserts'].includes(name));

/** Does something to the builder when it reaches a stage. */
function atStage(stage: string, action: (pid: number) => void): Pick<BuildCallbacks, 'onStart' | 'onProgress'> {
  let builder = 0;
  let isDone = false;
  return {
    onStart: (pid) => (builder = pid),
    onProgress: (progress) => {
      if (progress.stage !== stage || isDone) return;
      isDone = true;
      action(builder);
    },
  };
}

describe('the builder process', () => {
  it('builds with low priority and tells its plan, progress, gates and peak memory', async () => {
    const data = temporaryFolder();
    const stages = new Set<string>();
    const gates: string[] = [];
    let plan: BuildPlan | undefined;
    let pid = 0;
    let priority: string | undefined;
    const outcome = await runBuilder(
      { models: small(), data, metric: 'cosine' },
      {
        onPlan: (one) => (plan = one),
        onStart: (one) => (pid = one),
        onGate: ({ name, status }) => gates.push(`${name} ${status}`),
        onProgress: ({ stage }: BuildProgress) => {
          stages.add(stage);
          priority ??= niceOf(pid);
        },
      },
    );
    expect(plan).toMatchObject({ items: 100, dims: 8, availableMemoryBytes: expect.any(Number) });
    expect([...stages]).toEqual(expect.arrayContaining(['item embeddings', 'publish']));
    expect(gates).toContain('input passed');
    expect(priority).toBe(process.platform === 'linux' ? '15' : 'unknown');
    expect(outcome).toMatchObject({ reused: false });
    expect(outcome.peakMemoryBytes).toBeGreaterThan(30e6);
    const folder = await DataFolder.open(data);
    expect((await folder.verify(outcome.id)).metric).toBe('cosine');
    const again = await runBuilder({ models: (await folder.verify(outcome.id)).models_folder, data, metric: 'cosine' });
    expect(again).toMatchObject({ id: outcome.id, reused: true });
  });

  it('F2: hands on the error of a build with its code, message, field and limit', async () => {
    const models = small();
    writeFileSync(join(models, 'embeddings/item_embeddings.npy'), 'half an export');
    const data = temporaryFolder();
    const error = await runBuilder({ models, data }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(BelfryError);
    expect(error).toMatchObject({
      code: 'BELFRY_NPY_INVALID',
      message: expect.stringContaining('item_embeddings.npy'),
    });
    expect(visible(data)).toEqual([]);
  });

  it('X4: killed, it is named, and what it made is removed', async () => {
    const data = temporaryFolder();
    let isHalfMade = false;
    const callbacks = atStage('graph', (pid) => {
      isHalfMade = visible(data).some((name) => name.startsWith('tmp-'));
      process.kill(pid, 'SIGKILL');
    });
    expect(await errorOf(() => runBuilder({ models: large(), data }, callbacks))).toMatch(
      /^BELFRY_BUILD_DIED the builder process ended with SIGKILL at "graph"; nothing was published/,
    );
    expect([isHalfMade, visible(data)]).toEqual([true, []]);
  });

  it('W1: out of memory, it says so', async () => {
    const data = temporaryFolder();
    process.env.NODE_OPTIONS = '--max-old-space-size=5';
    expect(await errorOf(() => runBuilder({ models: small(), data }))).toMatch(
      /^BELFRY_BUILD_OUT_OF_MEMORY the builder process ran out of memory at "\w+".*; nothing was published: raise/,
    );
    expect(visible(data)).toEqual([]);
  });

  it('X3: a full disk ends it, and leaves nothing', async () => {
    const data = temporaryFolder();
    process.env.BELFRY_FAULTS = 'ENOSPC@copy.write';
    try {
      const models = makeModelsFolder(small(), {
        files: { 'embeddings/item_ids.txt': Array.from({ length: 100 }, (_, row) => `i${row}\n`).join('') },
      });
      expect(await errorOf(() => runBuilder({ models, data }))).toMatch(/^BELFRY_DISK_SPACE .*full \(ENOSPC\)/);
    } finally {
      delete process.env.BELFRY_FAULTS;
    }
    expect(visible(data)).toEqual([]);
  });

  it('cancelled, it is gone and so is what it made', async () => {
    const data = temporaryFolder();
    const stop = new AbortController();
    const callbacks = atStage('graph', () => stop.abort(new BelfryError('BELFRY_STOPPED', 'stopped by the test')));
    expect(await errorOf(() => runBuilder({ models: large(), data }, { ...callbacks, signal: stop.signal }))).toBe(
      'BELFRY_STOPPED stopped by the test',
    );
    expect(visible(data)).toEqual([]);
    expect(await errorOf(() => runBuilder({ models: small(), data }, { signal: stop.signal }))).toMatch(/stopped by/);
  });

  it('X5: a second builder is refused while the first one builds on', async () => {
    const data = temporaryFolder();
    const models = large();
    let second: Promise<string> | undefined;
    const callbacks = atStage('graph', (pid) => {
      second = errorOf(() => runBuilder({ models: small(), data, force: true })).then((text) =>
        text.replace(String(pid), 'PID'),
      );
    });
    const first = await runBuilder({ models, data }, callbacks);
    expect(await second).toMatch(/^BELFRY_LOCKED .* is being written by process PID; wait for it/);
    expect(visible(data).filter((name) => name.startsWith('gen-'))).toEqual([`gen-${first.id}`]);
  });
});

describe('a recorded build', () => {
  it('writes what became of it, but not that another one was building', async () => {
    const data = temporaryFolder();
    const models = small();
    const published = await recordedBuild({ models, data }, 'cli');
    expect(published).toMatchObject({
      isRecorded: true,
      record: { trigger: 'cli', result: 'published', generation: published.outcome!.id },
    });
    expect(Object.keys(published.record.stages)).toContain('item embeddings');
    expect(await recordedBuild({ models, data }, 'schedule')).toMatchObject({
      isRecorded: false,
      record: { result: 'unchanged' },
    });
    writeFileSync(join(data, lockName(process.pid)), '');
    const locked = await recordedBuild({ models, data, force: true }, 'api');
    expect(locked).toMatchObject({ isRecorded: false, error: { code: 'BELFRY_LOCKED' }, record: { result: 'failed' } });
    expect(JSON.parse(readFileSync(join(data, 'builds.json'), 'utf8'))).toEqual([published.record]);
  });
});

function niceOf(pid: number): string {
  if (process.platform !== 'linux') return 'unknown';
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ')[16]!;
}
