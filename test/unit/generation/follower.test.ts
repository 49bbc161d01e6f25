/** Following CURRENT: small real generations in a real folder, one follower for each serving process. */
import { cpSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { BelfryError } from '../../../src/errors.js';
import { buildGeneration } from '../../../src/generation/build.js';
import { DataFolder } from '../../../src/generation/data-folder.js';
import { type FollowerEvent, type FollowerOptions, GenerationFollower } from '../../../src/generation/follower.js';
import type { Generation } from '../../../src/generation/generation.js';
import { loadMemoryBytes } from '../../../src/generation/load-memory.js';
import { GenerationStore } from '../../../src/generation/store.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../../support/folders.js';

const DIMS = 8;

async function publish(data: DataFolder, seed: number): Promise<string> {
  const models = makeModelsFolder(temporaryFolder(), {
    items: { data: randomValues(200 * DIMS, seed), dims: DIMS },
    users: { data: randomValues(50 * DIMS, seed + 1), dims: DIMS },
    files: { 'embeddings/item_ids.txt': Array.from({ length: 200 }, (_, row) => `s${seed}-${row}`).join('\n') },
  });
  return (await buildGeneration({ models, data: data.path })).id;
}

interface Followed {
  readonly follower: GenerationFollower;
  readonly store: GenerationStore;
  readonly events: FollowerEvent[];
  readonly kinds: () => string[];
}

function follow(data: DataFolder, options: Partial<FollowerOptions> = {}): Followed {
  const store = new GenerationStore();
  const events: FollowerEvent[] = [];
  const onEvent = (event: FollowerEvent): void => {
    events.push(event);
  };
  const follower = new GenerationFollower({ data, store, onEvent, ...options });
  onTestFinished(async () => {
    await follower.close();
    await store.close();
  });
  return { follower, store, events, kinds: () => events.map(({ kind }) => kind) };
}

async function until(isTrue: () => boolean): Promise<void> {
  for (let tries = 0; !isTrue(); tries++) {
    if (tries > 1_000) throw new Error('it did not come to pass within ten seconds');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const firstItem = (generation: Generation) => generation.itemIds.idOf(0);

describe('a follower of CURRENT', () => {
  it('P8: without a generation waits for one, alive and saying why, and serves it when it is published', async () => {
    const data = await DataFolder.open(temporaryFolder());
    const { follower, store } = follow(data);
    await follower.start();
    expect(store.peek()).toBeUndefined();
    expect([follower.problem?.code, follower.problem?.message]).toEqual([
      'BELFRY_NOT_READY',
      expect.stringMatching(/holds no generation yet; build one with belfry build/),
    ]);
    const id = await publish(data, 1);
    await until(() => store.peek()?.id === id);
    await follower.check();
    expect(follower.problem).toBeUndefined();
  });

  it('any number of processes swap to what is published, and back after a rollback', async () => {
    const data = await DataFolder.open(temporaryFolder());
    const one = await publish(data, 1);
    const processes = [follow(data), follow(data, { pollMs: 20 })];
    for (const { follower } of processes) await follower.start();
    const two = await publish(data, 2);
    for (const { store } of processes) await until(() => store.peek()?.id === two);
    await data.rollback();
    for (const { store } of processes) await until(() => store.peek()?.id === one);
    for (const { kinds, store } of processes) {
      expect(kinds()).toEqual(['swapped', 'swapped', 'swapped']);
      await until(() => store.held === 1);
    }
  });

  it('M2: a request in flight finishes on its own generation, which is freed after it', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, 1);
    const { follower, store } = follow(data);
    await follower.start();
    let go: () => void = () => undefined;
    const slow = store.use(async (generation) => {
      await new Promise<void>((resolve) => {
        go = resolve;
      });
      const { rows } = await generation.searcher.search({
        query: generation.defaultQuery,
        k: 3,
        exact: true,
        exclude: new Uint32Array(0),
      });
      return [firstItem(generation), rows.length];
    });
    const two = await publish(data, 2);
    await until(() => store.peek()?.id === two);
    expect(store.held).toBe(2);
    expect(await store.use(async (generation) => firstItem(generation))).toBe('s2-0');
    go();
    expect(await slow).toEqual(['s1-0', 3]);
    await until(() => store.held === 1);
  });

  it.each([
    ['a flipped byte', (path: string) => writeFileSync(path, 'x', { flag: 'r+' })],
    ['a shorter file', (path: string) => truncateSync(path, 100)],
    ['a missing file', (path: string) => rmSync(path)],
  ])('X1: %s in the next generation: it is quarantined, what serves goes on', async (_what, damage) => {
    const data = await DataFolder.open(temporaryFolder());
    const one = await publish(data, 1);
    const { follower, store, events } = follow(data, { pollMs: 60_000 });
    await follower.start();
    const other = await DataFolder.open(temporaryFolder());
    const two = await publish(other, 2);
    damage(join(other.folderOf(two), 'embeddings/item_embeddings.npy'));
    cpSync(other.folderOf(two), data.folderOf(two), { recursive: true });
    writeFileSync(join(data.path, 'CURRENT'), `${two}\n`);
    await until(() => events.length === 2);
    await follower.check();
    expect(store.peek()?.id).toBe(one);
    expect(events[1]).toMatchObject({ kind: 'passed over', id: two, isQuarantined: true });
    expect(follower.problem?.code).toBe('BELFRY_GENERATION_CORRUPT');
    expect((await data.quarantined()).map(({ id }) => id)).toEqual([two]);

    await follower.check(); // and is not tried, or reported, again and again
    expect(events).toHaveLength(2);
    const three = await publish(data, 3);
    await until(() => store.peek()?.id === three);
    await follower.check();
    expect(follower.problem).toBeUndefined();
  });

  it('X2: at start-up takes the newest good one when CURRENT is damaged, empty or points nowhere', async () => {
    const data = await DataFolder.open(temporaryFolder());
    for (const seed of [1, 2]) await publish(data, seed);
    const [newest, older] = (await data.ids()) as [string, string];
    for (const content of ['', 'no-such-generation\n', '../../etc\n']) {
      writeFileSync(join(data.path, 'CURRENT'), content);
      const { follower, store } = follow(data);
      await follower.start();
      expect([content, store.peek()?.id]).toEqual([content, newest]);
    }
    writeFileSync(join(data.path, 'CURRENT'), `${newest}\n`);
    truncateSync(join(data.folderOf(newest), 'embeddings/item_ids.txt'), 10);
    const { follower, store, events } = follow(data);
    await follower.start();
    expect(store.peek()?.id).toBe(older);
    expect(events.map(({ kind }) => kind)).toEqual(['passed over', 'swapped']);
    expect(follower.problem?.message).toMatch(/item_ids\.txt: expected \d+ bytes, found 10/);
  });

  it('refuses what the canary refuses, and closes it', async () => {
    const data = await DataFolder.open(temporaryFolder());
    const one = await publish(data, 1);
    let refused: Generation | undefined;
    const { follower, store, events } = follow(data, {
      canary: async (generation) => {
        if (generation.id === one) return;
        refused = generation;
        throw new BelfryError('BELFRY_SKEW', 'canary 3 moved');
      },
    });
    await follower.start();
    const two = await publish(data, 2);
    await until(() => events.length === 2);
    expect(events[1]).toMatchObject({ kind: 'passed over', id: two, isQuarantined: false });
    expect([store.peek()?.id, follower.problem?.message]).toEqual([one, 'canary 3 moved']);
    expect(() => refused!.items.readRows(Uint32Array.of(0))).toThrow(/was used after close/);
  });
});

describe('X6: when both generations do not fit into memory', () => {
  const tight = (available: number) => () => ({
    limitBytes: 1e9,
    availableBytes: available,
    by: 'cgroup' as const,
  });

  it('the next is refused with numbers, and loaded once there is room', async () => {
    const data = await DataFolder.open(temporaryFolder());
    const one = await publish(data, 1);
    let available = 1e9;
    const { follower, store, events } = follow(data, { memory: () => tight(available)(), pollMs: 50 });
    await follower.start();
    available = 1_000_000;
    const two = await publish(data, 2);
    await until(() => events.length === 2);
    expect(events[1]).toMatchObject({ kind: 'refused', id: two });
    expect(follower.problem?.code).toBe('BELFRY_MEMORY_SPACE');
    expect(follower.problem?.message).toMatch(
      /takes about \d{8,} bytes of memory beside the one that serves, there are 1000000 \(limit 1000000000, of the cgroup\)/,
    );
    expect(store.peek()?.id).toBe(one);
    available = 1e9;
    await until(() => store.peek()?.id === two);
  });

  it('stop-then-load frees the old one first; when the new one is bad, the old one comes back', async () => {
    const data = await DataFolder.open(temporaryFolder());
    const one = await publish(data, 1);
    const held: number[] = [];
    let bad = '';
    const { follower, store, kinds } = follow(data, {
      swap: 'stop-then-load',
      memory: tight(1_000_000),
      canary: async ({ id }) => {
        held.push(store.held);
        if (id === bad) throw new BelfryError('BELFRY_SKEW', 'canary 3 moved');
      },
    });
    await follower.start();
    expect(store.peek()?.id).toBe(one); // a first one loads where it could fit
    const two = await publish(data, 2);
    await until(() => store.peek()?.id === two);
    expect([kinds(), held]).toEqual([
      ['swapped', 'stopped', 'swapped'],
      [0, 0],
    ]);
    // Known to the canary before it is published: ids are made from the clock.
    const other = await DataFolder.open(temporaryFolder());
    bad = await publish(other, 3);
    cpSync(other.folderOf(bad), data.folderOf(bad), { recursive: true });
    writeFileSync(join(data.path, 'CURRENT'), `${bad}\n`);
    await until(() => kinds().length === 6);
    expect(kinds().slice(3)).toEqual(['stopped', 'passed over', 'swapped']);
    expect(store.peek()?.id).toBe(two);
  });

  it('the estimate grows with rows, dims, ids, tables and models', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, 1);
    const manifest = (await data.current(() => undefined))!.manifest;
    const base = loadMemoryBytes(manifest);
    const more = { ...manifest, items: { ...manifest.items, count: manifest.items.count + 1_000_000 } };
    expect(loadMemoryBytes(more) - base).toBeGreaterThan(64e6);
    expect(loadMemoryBytes(more) - base).toBeLessThan(120e6);
  });
});
