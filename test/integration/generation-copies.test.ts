/** Generations pushed to an object store and pulled out of it: whole or not at all, every byte checked. */
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseObjectAddress } from '../../src/config/object-address.js';
import type { ObjectStoreSettings } from '../../src/config/schema.js';
import { buildGeneration } from '../../src/generation/build.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { ObjectStore } from '../../src/object-store/object-store.js';
import { pullGeneration } from '../../src/object-store/pull.js';
import { pushGeneration } from '../../src/object-store/push.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { TestStore } from '../support/object-store.js';

const PART = 64 * 1024;
/** Few enough to be scanned: no graph is built. */
const [ITEMS, DIMS] = [2_000, 64];
const ITEM_FILE = 'embeddings/item_embeddings.npy';

let remote: TestStore;
let here: DataFolder;
let there: DataFolder;

beforeEach(async () => {
  remote = await TestStore.start();
  here = await DataFolder.open(temporaryFolder());
  there = await DataFolder.open(temporaryFolder());
});
afterEach(() => remote.stop());

async function build(seed = 1): Promise<string> {
  const items = { data: randomValues(ITEMS * DIMS, seed), dims: DIMS };
  const models = makeModelsFolder(temporaryFolder(), { items });
  return (await buildGeneration({ models, data: here.path, overrides: ['canaries'] })).id;
}

async function using<T>(
  action: (store: ObjectStore) => Promise<T>,
  settings: Partial<ObjectStoreSettings> = {},
): Promise<T> {
  const store = await ObjectStore.open(parseObjectAddress('s3://models/copies', 'to'), remote.settings(settings));
  try {
    return await action(store);
  } finally {
    store.close();
  }
}

const push = (id?: string, options = {}) =>
  using((store) => pushGeneration(store, here, id, { partBytes: PART, ...options }));
const pull = (id = 'latest', options = {}) => using((store) => pullGeneration(store, there, id, options));
const puts = () => remote.seen.filter(({ method }) => method === 'PUT').map(({ key }) => key);

/** Every file of both folders, byte by byte. */
function expectSame(id: string): void {
  const files = (data: DataFolder) =>
    readdirSync(data.folderOf(id), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(data.folderOf(id).length + 1))
      .sort();
  expect(files(there)).toEqual(files(here));
  for (const file of files(here)) {
    const bytes = readFileSync(join(here.folderOf(id), file));
    expect(readFileSync(join(there.folderOf(id), file)).equals(bytes), file).toBe(true);
  }
}

describe('copies of generations', () => {
  it.each(['when_supported', 'when_required'] as const)('go there and back, checksums %s', async (s3_checksums) => {
    const id = await build();
    const progress: number[] = [];
    const pushed = await using(
      (store) =>
        pushGeneration(store, here, undefined, {
          partBytes: PART,
          onProgress: ({ done, total }) => progress.push(done / total),
        }),
      { s3_checksums },
    );
    expect(pushed).toMatchObject({ id, wasThere: false });
    expect(progress.at(-1)).toBe(1);
    expect(puts().slice(-2)).toEqual([`copies/gen-${id}/manifest.json`, 'copies/latest']);
    const pulled = await pull();
    expect(pulled).toMatchObject({ id, wasHere: false });
    expectSame(id);
    expect(await there.pointed()).toBe(id);
    expect((await there.current(() => undefined))?.id).toBe(id);
    expect(readdirSync(there.path).sort()).toEqual(['CURRENT', `gen-${id}`, 'pulls']);
    expect(readdirSync(join(there.path, 'pulls'))).toEqual([]);
  });

  it('are not sent or brought twice', async () => {
    const id = await build();
    await push();
    await pull();
    remote.seen.length = 0;
    expect(await push()).toMatchObject({ id, wasThere: true });
    expect(puts()).toEqual(['copies/latest']);
    remote.seen.length = 0;
    expect(await pull(id)).toMatchObject({ id, wasHere: true });
    expect(remote.seen).toEqual([]);
  });

  it('pull activates an older one that is here', async () => {
    const first = await build(1);
    await push();
    await pull();
    const second = await build(2);
    await push();
    expect((await pull()).id).toBe(second);
    expect((await pull(first)).wasHere).toBe(true);
    expect(await there.pointed()).toBe(first);
  });

  it('a push goes on where it was stopped: parts and files are not sent again', async () => {
    const id = await build();
    const stop = new AbortController();
    const why = new Error('enough');
    const onProgress = ({ done }: { done: number }): void => {
      if (done >= 3 * PART) stop.abort(why);
    };
    await expect(push(id, { signal: stop.signal, onProgress })).rejects.toBe(why);
    await expectError(() => pull(id), 'BELFRY_UNKNOWN_GENERATION', `holds no whole generation ${id}`);
    await expectError(() => pull(), 'BELFRY_UNKNOWN_GENERATION', 'has no object called latest');
    const sent = remote.seen.filter(({ method, query }) => method === 'PUT' && query.includes('partNumber'));
    remote.seen.length = 0;
    await push();
    const more = remote.seen.filter(({ method, query }) => method === 'PUT' && query.includes('partNumber'));
    const numbers = [...sent, ...more].map(({ query }) => Number(/partNumber=(\d+)/.exec(query)?.[1]));
    expect(numbers.slice(0, 4)).toEqual([1, 2, 3, 4]); // none twice
    await pull();
    expectSame(id);
  });

  it('a push whose begun upload the store has dropped begins anew', async () => {
    const id = await build();
    const stop = new AbortController();
    const onProgress = ({ done }: { done: number }): void => {
      if (done >= 3 * PART) stop.abort(new Error('enough'));
    };
    await expect(push(id, { signal: stop.signal, onProgress })).rejects.toThrow('enough');
    let isDropped = false;
    remote.fault = ({ method, query }) => {
      if (isDropped || method !== 'PUT' || !query.includes('partNumber')) return undefined;
      isDropped = true;
      return { kind: 'status', status: 404, code: 'NoSuchUpload' };
    };
    await push();
    await pull();
    expectSame(id);
  });

  it('a push of damaged bytes never becomes readable', async () => {
    const id = await build();
    const file = join(here.folderOf(id), ITEM_FILE);
    const bytes = readFileSync(file);
    bytes[bytes.length >> 1]! ^= 1;
    writeFileSync(file, bytes);
    await expectError(() => push(), 'BELFRY_GENERATION_CORRUPT', /item_embeddings\.npy: its bytes are not what/);
    truncateSync(file, bytes.length - 16);
    await expectError(() => push(), 'BELFRY_GENERATION_CORRUPT', /item_embeddings\.npy: its bytes are not what/);
    expect(puts().filter((key) => /manifest\.json$|latest$/.test(key))).toEqual([]);
    expect(remote.seen.filter(({ method, key }) => method === 'POST' && key.endsWith(ITEM_FILE))).toHaveLength(1); // begun, never completed
  });

  it('a pull goes on where it was stopped', async () => {
    const id = await build();
    await push();
    const stop = new AbortController();
    const why = new Error('enough');
    const onProgress = ({ done }: { done: number }): void => {
      if (done > 100_000) stop.abort(why);
    };
    await expect(pull('latest', { signal: stop.signal, onProgress })).rejects.toBe(why);
    expect(await there.ids()).toEqual([]);
    remote.seen.length = 0;
    await pull();
    const ranges = remote.seen.filter(({ method, range }) => method === 'GET' && range !== undefined);
    expect(ranges.length).toBeGreaterThan(0);
    expectSame(id);
  });

  it('a pull of wrong bytes, a missing file or a strange manifest publishes nothing', async () => {
    const id = await build();
    await push();
    const at = `copies/gen-${id}`;
    const good = readFileSync(join(here.folderOf(id), ITEM_FILE));
    const bad = Buffer.from(good);
    bad[good.length - 1]! ^= 1;
    await remote.put(`${at}/${ITEM_FILE}`, bad);
    await expectError(() => pull(), 'BELFRY_OBJECT_CORRUPT', /item_embeddings\.npy: expected SHA-256 .*, twice/);
    await remote.put(`${at}/${ITEM_FILE}`, bad.subarray(1));
    await expectError(() => pull(), 'BELFRY_OBJECT_CORRUPT', /expected \d+ bytes as the manifest says, found \d+/);
    await remote.delete(`${at}/${ITEM_FILE}`);
    await expectError(() => pull(), 'BELFRY_OBJECT_CORRUPT', 'as the manifest says, found no object');
    const manifest = readFileSync(join(here.folderOf(id), 'manifest.json'), 'utf8');
    await remote.put(`${at}/manifest.json`, manifest.replace('"metric": "ip"', '"metric": "l2"'));
    await expectError(() => pull(), 'BELFRY_OBJECT_CORRUPT', 'its checksum does not fit its content');
    await remote.put('copies/gen-other/manifest.json', manifest);
    await expectError(() => pull('other'), 'BELFRY_OBJECT_CORRUPT', `is that of generation ${id}`);
    await remote.put('copies/latest', '../../etc\n');
    await expectError(() => pull(), 'BELFRY_OBJECT_CORRUPT', 's3://models/copies/latest names no generation');
    expect(await there.ids()).toEqual([]);
    expect(existsSync(join(there.path, 'CURRENT'))).toBe(false);
  });

  it('a push over another generation of the same id is refused', async () => {
    const id = await build();
    await remote.put(`copies/gen-${id}/manifest.json`, 'of somebody else');
    await expectError(() => push(), 'BELFRY_OBJECT_CORRUPT', `is not that of generation ${id} here`);
    await expectError(() => push('unknown'), 'BELFRY_UNKNOWN_GENERATION', 'holds no generation unknown');
  });
});
