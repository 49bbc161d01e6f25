/** What a swap leaves in memory: nothing of the generation that served before. */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it, onTestFinished } from 'vitest';
import { DataFolder } from '../../src/generation/data-folder.js';
import { Generation } from '../../src/generation/generation.js';
import { readManifest } from '../../src/generation/manifest.js';
import { SAMPLE } from '../support/folders.js';
import { startService } from '../support/service.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** More than once: what a finalizer lets go of is collected by the next. */
async function collected(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    collect();
    await sleep(20);
  }
}

const MB = 1e6;
const SWAPS = 4;

it('swapped generations are collected, with the bytes of their models', async () => {
  const service = await startService(SAMPLE);
  onTestFinished(() => service.close());
  const { store } = service;
  const data = await DataFolder.open(service.data);
  const id = service.generation.id;
  const folder = data.folderOf(id);
  const published = { id, folder, manifest: await readManifest(folder) };
  const asks = [
    { user_id: 'python3-pandas', rerank: true, candidates: 50 },
    { features: { section: 'python' } },
    { user_id: 'nobody at all' },
  ];
  const old: WeakRef<Generation>[] = [];
  const swap = async (): Promise<void> => {
    old.push(new WeakRef(store.peek()!));
    store.swap(await Generation.load(published));
    for (const body of asks) expect((await service.post('/retrieve', body)).statusCode).toBe(200);
    while (store.held > 1) await store.nextFreed();
  };
  await swap();
  await collected();
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < SWAPS; i++) await swap();
  await collected();
  const alive = old.slice(1).filter((one) => one.deref() !== undefined); // the first is the service's own
  expect(alive.length).toBe(0);
  expect((process.memoryUsage().arrayBuffers - before) / MB / SWAPS).toBeLessThan(0.5);
});
