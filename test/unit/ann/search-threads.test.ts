/** Threads that search go behind the one that reads requests, in servers. */
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { expect, it, onTestFinished } from 'vitest';
import { loadAddon } from '../../../src/ann/addon.js';
import { VectorIndex } from '../../../src/ann/vector-index.js';
import { randomValues } from '../../support/folders.js';

/** Of all threads of this process. */
function nices(): number[] {
  return readdirSync('/proc/self/task').map((thread) => {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[16]);
  });
}

it.runIf(process.platform === 'linux')('are at nice 10 once they were told to yield, and nobody else is', async () => {
  const own = getPriority();
  const lowered = Math.max(10, own);
  const index = await VectorIndex.open({ vectors: { data: randomValues(5000 * 8, 1), dims: 8 }, metric: 'ip' });
  onTestFinished(() => index.close());
  const search = () => index.search(randomValues(8, 2), { k: 10, exact: true });
  await search();
  if (own < 10) expect(nices()).not.toContain(lowered);
  loadAddon().yieldToRequests();
  await search();
  expect(nices()).toContain(lowered);
  expect(getPriority()).toBe(own);
});
