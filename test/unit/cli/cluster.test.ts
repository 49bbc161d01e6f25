/** The channel between the processes of `belfry serve --workers N`, when one of them is no longer there. */
import { fork } from 'node:child_process';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { tell } from '../../../src/cli/cluster-messages.js';
import { ClusterMetrics } from '../../../src/cli/cluster-metrics.js';
import { PrimaryLink } from '../../../src/cli/cluster-worker.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { temporaryFolder } from '../../support/folders.js';

afterEach(() => vi.restoreAllMocks());

/** Dead, and this process has not heard of it yet: until it waits for something, the channel counts as open. */
async function deadWorker(): Promise<{ worker: Worker; errors: Error[]; gone: Promise<unknown> }> {
  const script = join(temporaryFolder(), 'worker.cjs');
  writeFileSync(script, "process.on('message', () => undefined); process.send('here');");
  const child = fork(script, { execArgv: [] });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  const { Worker: WorkerOf } = cluster as unknown as { Worker: new (options: object) => Worker };
  const worker = new WorkerOf({ process: child });
  const errors: Error[] = [];
  worker.on('error', (error) => errors.push(error));
  await once(child, 'message');
  child.kill('SIGKILL');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
  expect(worker.isConnected()).toBe(true);
  return { worker, errors, gone };
}
const settled = async (gone: Promise<unknown>) => {
  await gone;
  await new Promise((resolve) => setTimeout(resolve, 50));
};

describe('a worker that just died', () => {
  it.skipIf(process.platform === 'win32')('fails a send, which would be an error that stops the primary', async () => {
    const { worker, errors, gone } = await deadWorker();
    worker.send({ kind: 'stop' });
    await settled(gone);
    expect(errors).toMatchObject([{ code: 'EPIPE' }]);
  });

  it('is told nothing, and nothing comes of it', async () => {
    const { worker, errors, gone } = await deadWorker();
    tell(worker, { kind: 'stop' });
    await settled(gone);
    tell(worker, { kind: 'stop' });
    await settled(gone);
    expect(errors).toEqual([]);
  });

  it('is scraped without harm', async () => {
    const { worker, errors, gone } = await deadWorker();
    const collected = new ClusterMetrics(new Metrics(), () => [worker]);
    expect(await collected.text()).toContain('belfry_worker_deaths_total');
    await settled(gone);
    expect(errors).toEqual([]);
  });
});

describe('a worker that still loads', () => {
  it('ends when it is told to stop', () => {
    const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
    new PrimaryLink().onStop();
    expect(exit).toHaveBeenCalledExactlyOnceWith(0);
  });
});
