/** The proxy of `belfry bench load --during scorer-outage`: what a client sees of each fault, and that it ends. */
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { FaultProxy, type ProxyFault } from '../../../src/bench/load/fault-proxy.js';
import { KserveClient } from '../../../src/rerank/kserve/kserve-client.js';
import type { ErrorCode } from '../../../src/errors.js';
import { expectError } from '../../support/expect-error.js';
import { KserveFake } from '../../support/kserve-fake.js';

const INPUTS = [{ name: 'dense', datatype: 'FP32', shape: [-1, 1] }];
const FEEDS = { dense: { dtype: 'float32', dims: [2, 1], data: Float32Array.of(1, 2) } } as const;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function start() {
  const fake = await KserveFake.start({ inputs: INPUTS });
  const port = await freePort();
  const proxy = await FaultProxy.open(port, new URL(fake.url));
  const client = new KserveClient({ name: 'proxied', url: `http://127.0.0.1:${port}`, timeoutMs: 150 });
  onTestFinished(async () => {
    await client.close();
    await proxy.close();
    await fake.stop();
  });
  const infer = () => client.infer({ model: 'dcn-v2' }, FEEDS, ['score'], true);
  return { fake, proxy, infer, port };
}

it.each<[ProxyFault, ErrorCode, string]>([
  ['hung', 'BELFRY_DEADLINE_EXCEEDED', 'no answer'],
  ['slow-drip', 'BELFRY_DEADLINE_EXCEEDED', 'no answer'],
  ['5xx', 'BELFRY_MODEL_SERVER_FAILED', 'answers 503'],
  ['garbage', 'BELFRY_MODEL_OUTPUT_INVALID', 'not JSON'],
  ['gone', 'BELFRY_MODEL_SERVER_FAILED', 'failed'],
])('%s, on a connection that was fine, and fine again', async (fault, code, message) => {
  const { proxy, infer, fake } = await start();
  for (let i = 0; i < 3; i++) expect((await infer()).outputs.score!.data).toEqual(Float32Array.of(3, 5));
  await proxy.begin(fault);
  for (let i = 0; i < 3; i++) await expectError(infer(), code, message);
  expect(fake.infers).toBe(3);
  await proxy.end();
  await sleep(50); // until the client has seen that its connections are gone
  expect((await infer()).outputs.score!.data).toEqual(Float32Array.of(3, 5));
});

it('says which port is taken', async () => {
  const { port, fake } = await start();
  await expectError(
    FaultProxy.open(port, new URL(fake.url)),
    'BELFRY_PORT_TAKEN',
    `--outage-proxy: port ${port} cannot be taken (EADDRINUSE)`,
  );
});
