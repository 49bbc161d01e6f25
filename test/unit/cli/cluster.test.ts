/** The channel between the processes of `belfry serve --workers N`, when one of them is no longer there. */
import { fork } from 'node:child_process';
import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { keepConnections } from '../../../src/cli/cluster-connections.js';
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

describe('connections on their way to a worker that just died', () => {
  /** What Node sends to hand a connection over. */
  const newConnection = (seq: number) => ({ cmd: 'NODE_CLUSTER', act: 'newconn', key: 'x', seq });
  async function lost(hasOther: boolean) {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { _handle: handle } = server as unknown as { _handle: { close: () => void } };
    const close = vi.spyOn(handle, 'close');
    const { worker, errors, gone } = await deadWorker();
    const said: unknown[] = [];
    keepConnections(worker, () => hasOther);
    worker.process.on('internalMessage', (message) => said.push(message));
    for (const seq of [7, 8]) worker.process.send!(newConnection(seq), handle as never);
    worker.process.emit('internalMessage', { cmd: 'NODE_CLUSTER', ack: 8, accepted: true });
    said.length = 0;
    await settled(gone);
    expect(errors).toEqual([]);
    const closed = close.mock.calls.length;
    server.close();
    return { said, closed };
  }

  it('are refused in its name, so that Node gives them to another one; what it took is its own', async () => {
    expect(await lost(true)).toEqual({ said: [{ cmd: 'NODE_CLUSTER', ack: 7, accepted: false }], closed: 0 });
  });

  it('are closed where there is no other one', async () => {
    expect(await lost(false)).toEqual({ said: [], closed: 1 });
  });
});

describe('a worker that still loads', () => {
  it('ends when it is told to stop', () => {
    const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
    new PrimaryLink().onStop();
    expect(exit).toHaveBeenCalledExactlyOnceWith(0);
  });
});
