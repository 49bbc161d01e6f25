/** Fault W1: workers that die, also when the replacement cannot start. */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { ModelWorkers } from '../../../src/inference/model-workers.js';
import { temporaryFolder } from '../../support/folders.js';

/** Workers that end when a task says so, and cannot start while the file `broken` or `exits` is there. */
function workersOf(count = 1): { workers: ModelWorkers; set: (file: string) => void; folder: string } {
  const folder = temporaryFolder();
  const filename = join(folder, 'worker.mjs');
  writeFileSync(
    filename,
    `import { existsSync, writeFileSync } from 'node:fs';
     import { threadId } from 'node:worker_threads';
     const at = (file) => ${JSON.stringify(`${folder}/`)} + file;
     if (existsSync(at('broken'))) throw new Error('no start');
     if (existsSync(at('exits'))) process.exit(7);
     export function work(die) {
       if (die === 'break') { writeFileSync(at('broken'), ''); process.exit(3); }
       if (die === 'break-exit') { writeFileSync(at('exits'), ''); process.exit(3); }
       if (die === 'exit') process.exit(3);
       return threadId;
     }`,
  );
  const workers = new ModelWorkers({ filename, workerData: undefined, count });
  onTestFinished(() => workers.close());
  return { workers, folder, set: (file) => writeFileSync(join(folder, file), '') };
}

it('replaces a worker that ends', async () => {
  const { workers } = workersOf();
  const first = await workers.run(undefined, 'work');
  await expect(workers.run('exit', 'work')).rejects.toThrow('worker exited with code: 3');
  expect(await workers.run(undefined, 'work')).toBeGreaterThan(first as number);
});

it.each([
  ['throws', 'break', 'broken'],
  ['ends', 'break-exit', 'exits'],
])(
  'fails the task that waits for a replacement that %s while it starts, and starts again when it can',
  async (_, die, file) => {
    const { workers, folder } = workersOf();
    await workers.run(undefined, 'work');
    await expect(workers.run(die, 'work')).rejects.toThrow('worker exited with code: 3');
    expect(existsSync(join(folder, file))).toBe(true);
    await expect(workers.run(undefined, 'work')).rejects.toThrow(
      /Terminating worker thread|no start|exited with code: 7/,
    );
    rmSync(join(folder, file));
    expect(await workers.run(undefined, 'work')).toBeGreaterThan(0);
  },
);

it('closes when no worker could start', async () => {
  const { workers, set } = workersOf(2);
  // Both must have started: one that starts after `broken` is there would die of that, and not of its task.
  const started = new Set<unknown>();
  await vi.waitFor(async () => {
    for (const id of await Promise.all([workers.run(undefined, 'work'), workers.run(undefined, 'work')]))
      started.add(id);
    expect(started.size).toBe(2);
  });
  set('broken');
  const ended = await Promise.allSettled([workers.run('exit', 'work'), workers.run('exit', 'work')]);
  expect(ended.map((one) => (one.status === 'rejected' ? String(one.reason.message) : 'answered'))).toEqual([
    'worker exited with code: 3',
    'worker exited with code: 3',
  ]);
  await workers.close();
  await expect(workers.run(undefined, 'work')).rejects.toThrow('its workers are closed');
});
