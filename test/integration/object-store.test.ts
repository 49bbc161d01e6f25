/** Exports under a prefix of an object store: mirrored whole, checked, resumed, and refused with a code when they cannot be. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseObjectAddress } from '../../src/config/object-address.js';
import type { ObjectStoreSettings } from '../../src/config/schema.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { digestOf } from '../../src/object-store/checksums.js';
import { PartsFolder } from '../../src/object-store/download-all.js';
import { mirrorExport } from '../../src/object-store/mirror.js';
import { ObjectStore } from '../../src/object-store/object-store.js';
import { expectError } from '../support/expect-error.js';
import { npyFile, randomValues, temporaryFolder } from '../support/folders.js';
import { TestStore } from '../support/object-store.js';

const DIMS = 16;
const ITEMS = 30_000;
const ITEM_FILE = 'embeddings/item_embeddings.npy';
const vectors = (seed: number) => npyFile(randomValues(ITEMS * DIMS, seed), [ITEMS, DIMS]);
const sha256 = (bytes: Uint8Array | string) => createHash('sha256').update(bytes).digest('hex');

let remote: TestStore;
let data: DataFolder;

beforeEach(async () => {
  remote = await TestStore.start();
  data = await DataFolder.open(temporaryFolder());
});
afterEach(() => remote.stop());

async function mirror(
  options: {
    address?: string;
    settings?: Partial<ObjectStoreSettings>;
    signal?: AbortSignal;
    onProgress?: (progress: { done: number; total: number }) => void;
  } = {},
): Promise<string> {
  const address = parseObjectAddress(options.address ?? 's3://models/nightly', 'models');
  const store = await ObjectStore.open(address, remote.settings(options.settings));
  try {
    return await mirrorExport(store, data, 'nightly', options);
  } finally {
    store.close();
  }
}

async function putExport(seed = 1, more: Record<string, string | Uint8Array> = {}): Promise<Buffer> {
  const items = vectors(seed);
  await remote.put(`nightly/${ITEM_FILE}`, items);
  await remote.put('nightly/registry.yaml', 'models: []\n');
  for (const [key, bytes] of Object.entries(more)) await remote.put(`nightly/${key}`, bytes);
  return items;
}

const mirrored = (key: string) => readFileSync(join(data.path, 'exports', 'nightly', key));
const leftovers = () =>
  readdirSync(join(data.path, 'exports')).filter((name) => name !== 'nightly' && name !== 'nightly.json');

describe('an export in an object store', () => {
  it('is mirrored, then only what changed; what was removed goes', async () => {
    const items = await putExport(1, { 'features/items.parquet': 'table', 'old.txt': 'x' });
    await remote.put('nightly/features/', new Uint8Array(), { ContentLength: 0 }); // stands for a folder
    const seen: number[] = [];
    const folder = await mirror({ onProgress: ({ done, total }) => seen.push(done / total) });
    expect(folder).toBe(join(data.path, 'exports', 'nightly'));
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
    expect(seen[0]).toBe(0);
    expect(seen.at(-1)).toBe(1);
    expect(leftovers()).toEqual([]);
    const record = JSON.parse(readFileSync(join(data.path, 'exports', 'nightly.json'), 'utf8'));
    expect(record.address).toBe('s3://models/nightly');
    expect(record.objects[ITEM_FILE]).toMatchObject({ bytes: items.length, sha256: sha256(items) });

    remote.seen.length = 0;
    await mirror();
    expect(remote.requests('GET', '').filter(({ key }) => key !== '')).toEqual([]);

    await remote.delete('nightly/old.txt');
    await remote.put('nightly/registry.yaml', 'models: [] # changed\n');
    remote.seen.length = 0;
    await mirror();
    expect(remote.requests('GET', ITEM_FILE)).toEqual([]);
    expect(String(mirrored('registry.yaml'))).toBe('models: [] # changed\n');
    expect(existsSync(join(folder, 'old.txt'))).toBe(false);
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
  });

  it('is downloaded again where the local copy was damaged', async () => {
    const items = await putExport();
    const folder = await mirror();
    const damaged = Buffer.from(items);
    damaged[500]! ^= 1;
    writeFileSync(join(folder, ITEM_FILE), damaged);
    await remote.put('nightly/registry.yaml', 'models: [] # 2\n'); // a reason to look
    await mirror();
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
  });

  it('goes on where a connection was reset, by a range of bytes', async () => {
    const items = await putExport();
    remote.fault = ({ key, method }, n) =>
      method === 'GET' && key.endsWith(ITEM_FILE) && n <= 2 ? { kind: 'reset', after: 600_000 } : undefined;
    await mirror();
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
    const ranges = remote.requests('GET', ITEM_FILE).map(({ range }) => range);
    expect(ranges[0]).toBeUndefined();
    expect(ranges).toHaveLength(3);
    for (const range of ranges.slice(1)) expect(range).toMatch(/^bytes=[1-9]\d*-$/);
  });

  it('goes on in a later run, after a stop', async () => {
    const items = await putExport();
    const stop = new AbortController();
    const why = new Error('enough');
    await expect(
      mirror({ signal: stop.signal, onProgress: ({ done }) => done > 200_000 && stop.abort(why) }),
    ).rejects.toBe(why);
    expect(existsSync(join(data.path, 'exports', 'nightly'))).toBe(false);
    remote.seen.length = 0;
    await mirror();
    expect(remote.requests('GET', ITEM_FILE)[0]?.range).toMatch(/^bytes=[1-9]\d{5,}-$/);
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
    expect(leftovers()).toEqual([]);
  });

  it('begins an object anew that changed between two runs, and one whose beginning on disk is wrong', async () => {
    await putExport(1);
    remote.fault = ({ key, method, range }) =>
      method === 'GET' && key.endsWith(ITEM_FILE)
        ? { kind: 'reset', after: range === undefined ? 300_000 : 0 }
        : undefined;
    const halfWay = () =>
      expectError(() => mirror(), 'BELFRY_OBJECT_STORE_UNREACHABLE', /the connection broke at byte/);
    await halfWay();
    const second = await putExport(2);
    await halfWay();
    const parts = join(data.path, 'exports', 'nightly.parts');
    expect(readdirSync(parts)).toHaveLength(2); // that of the first version is gone; the registry is whole
    for (const name of readdirSync(parts)) {
      const part = readFileSync(join(parts, name));
      if (part.length > 1000) writeFileSync(join(parts, name), part.fill(0, 0, 512));
    }
    remote.fault = () => undefined;
    await mirror();
    expect(mirrored(ITEM_FILE).equals(second)).toBe(true);
  });

  it('takes the whole of an object from a store that ignores ranges', async () => {
    const items = await putExport();
    remote.fault = ({ key, method, range }) => {
      if (method !== 'GET' || !key.endsWith(ITEM_FILE)) return undefined;
      return range === undefined ? { kind: 'reset', after: 600_000 } : { kind: 'whole' };
    };
    await mirror();
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
  });

  it('is refused when it changes while it is read, and the mirror before it stays', async () => {
    const before = await putExport(1);
    await mirror();
    await putExport(2);
    let isDone = false;
    remote.answered = async ({ key, method }) => {
      if (method !== 'GET' || !key.endsWith(ITEM_FILE) || isDone) return;
      isDone = true;
      await remote.put('nightly/registry.yaml', 'models: [] # meanwhile\n');
    };
    await expectError(() => mirror(), 'BELFRY_FILE_CHANGED', /changed while it was read; write an export under/);
    expect(mirrored(ITEM_FILE).equals(before)).toBe(true);
    remote.answered = () => undefined;
    await mirror();
    expect(mirrored(ITEM_FILE).equals(before)).toBe(false);
  });

  it('is refused when export.json lists other bytes, or a file that is not there', async () => {
    const items = vectors(1);
    const listed = (files: Record<string, string>) => ({ 'embeddings/export.json': JSON.stringify({ files }) });
    await putExport(1, listed({ [ITEM_FILE]: sha256(items) }));
    await mirror();
    await putExport(2, listed({ [ITEM_FILE]: sha256(items) }));
    await expectError(() => mirror(), 'BELFRY_OBJECT_CORRUPT', /item_embeddings\.npy: expected SHA-256 .*, twice/);
    await putExport(1, listed({ 'gone.npy': sha256(items) }));
    await expectError(() => mirror(), 'BELFRY_EXPORT_INVALID', 'files names gone.npy, which is not there');
    await putExport(1, listed({ [ITEM_FILE]: 'abc' }));
    await expectError(() => mirror(), 'BELFRY_EXPORT_INVALID', 'files: expected an object of paths and their SHA-256');
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
  });

  it('is checked against the checksum that the store keeps, also when it came in pieces', async () => {
    const items = await putExport();
    const crc = digestOf('CRC64NVME');
    crc.update(items);
    const value = crc.end();
    const keeping = (headers: Record<string, string>) => {
      remote.headers = ({ method, key }) => (method === 'HEAD' && key.endsWith(ITEM_FILE) ? headers : {});
    };
    const wrong = { 'x-amz-checksum-crc64nvme': Buffer.alloc(8).toString('base64') };
    keeping({ ...wrong, 'x-amz-checksum-type': 'FULL_OBJECT' });
    await expectError(() => mirror(), 'BELFRY_OBJECT_CORRUPT', /expected CRC64NVME AAAAAAAAAAA= as the store says/);
    remote.fault = ({ key, method }, n) =>
      method === 'GET' && key.endsWith(ITEM_FILE) && n % 2 === 1 ? { kind: 'reset', after: 500_000 } : undefined;
    keeping({ 'x-amz-checksum-crc64nvme': value, 'x-amz-checksum-type': 'FULL_OBJECT' });
    await mirror();
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
    // That of an object in parts is not that of its bytes.
    await putExport(2);
    keeping({ ...wrong, 'x-amz-checksum-type': 'COMPOSITE' });
    await mirror();
  });

  it('is refused where a key cannot be a file', async () => {
    await putExport(1, { 'a\\b': 'x' });
    await expectError(() => mirror(), 'BELFRY_EXPORT_INVALID', 'cannot be a file name; rename the object');
  });

  it('waits for nobody: a build or a fetch under way is BELFRY_LOCKED', async () => {
    await putExport();
    await data.withWriterLock(() => expectError(() => mirror(), 'BELFRY_LOCKED', 'is being written by process'));
    remote.seen.length = 0;
    await mirror();
    expect(remote.requests('GET', ITEM_FILE)).toEqual([]); // what was downloaded before is used
  });
});

describe('an object store that fails', () => {
  const get = (fault: Parameters<typeof setFault>[1]) => setFault('GET', fault);
  function setFault(method: string, fault: ReturnType<TestStore['fault']>): void {
    remote.fault = (request) => (request.method === method && request.key.endsWith(ITEM_FILE) ? fault : undefined);
  }

  it('wrong bytes: asked for twice, then refused; nothing of them stays', async () => {
    await putExport();
    get({ kind: 'flip', at: 1_000_000 });
    const error = await expectError(
      () => mirror(),
      'BELFRY_OBJECT_CORRUPT',
      /s3:\/\/models\/nightly\/embeddings\/item_embeddings\.npy: expected MD5 .* as the store says, received .*, twice/,
    );
    expect(error.field).toBe(ITEM_FILE);
    expect(remote.requests('GET', ITEM_FILE)).toHaveLength(2);
    expect(existsSync(join(data.path, 'exports', 'nightly'))).toBe(false);
  });

  it('wrong bytes once: mended by the second try', async () => {
    const items = await putExport();
    remote.fault = ({ key, method }, n) =>
      method === 'GET' && key.endsWith(ITEM_FILE) && n === 1 ? { kind: 'flip', at: 1_000_000 } : undefined;
    await mirror();
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
  });

  it('truncated: taken up again; without getting on, refused', async () => {
    const items = await putExport();
    remote.fault = ({ key, method }, n) =>
      method === 'GET' && key.endsWith(ITEM_FILE) && n === 1 ? { kind: 'end', after: 500_000 } : undefined;
    await mirror();
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
    await putExport(2);
    get({ kind: 'end', after: 0 });
    await expectError(() => mirror(), 'BELFRY_OBJECT_STORE_UNREACHABLE', /the connection broke at byte 0 of 1920128/);
  });

  it('403', async () => {
    await putExport();
    await expectError(
      () => mirror({ settings: { s3_access_key_id: 'nobody' } }),
      'BELFRY_OBJECT_STORE_DENIED',
      /the store refuses it \(403 InvalidAccessKeyId\); look at the keys and rights/,
    );
    get({ kind: 'status', status: 403, code: 'AccessDenied' });
    await expectError(() => mirror(), 'BELFRY_OBJECT_STORE_DENIED', /item_embeddings\.npy: the store refuses it \(403/);
  });

  it('404, no such bucket, an empty prefix, no vectors', async () => {
    await putExport();
    const nowhere = () => mirror({ address: 's3://nowhere/nightly' });
    await expectError(nowhere, 'BELFRY_OBJECT_STORE_NOT_FOUND', 's3://nowhere/nightly: there is no such bucket');
    const empty = () => mirror({ address: 's3://models/other' });
    await expectError(empty, 'BELFRY_OBJECT_STORE_NOT_FOUND', 's3://models/other holds no objects');
    get({ kind: 'status', status: 404, code: 'NoSuchKey' });
    await expectError(() => mirror(), 'BELFRY_OBJECT_STORE_NOT_FOUND', /item_embeddings\.npy: there is no such object/);
    await remote.delete(`nightly/${ITEM_FILE}`);
    await expectError(() => mirror(), 'BELFRY_MODELS_FOLDER', 'holds no embeddings/item_embeddings.npy');
  });

  it('5xx and resets: tried again, then BELFRY_OBJECT_STORE_UNREACHABLE', async () => {
    const items = await putExport();
    remote.fault = (_, n) => (n < 3 ? { kind: 'status', status: 503, code: 'SlowDown' } : undefined);
    await mirror();
    expect(mirrored(ITEM_FILE).equals(items)).toBe(true);
    remote.fault = () => ({ kind: 'status', status: 500, code: 'InternalError' });
    remote.seen.length = 0;
    await expectError(() => mirror(), 'BELFRY_OBJECT_STORE_UNREACHABLE', /status 500 .* after 3 attempts; try again/);
    expect(remote.seen).toHaveLength(3);
  });

  it('endpoint down', async () => {
    const settings = { s3_endpoint: 'http://127.0.0.1:1' };
    await expectError(
      () => mirror({ settings }),
      'BELFRY_OBJECT_STORE_UNREACHABLE',
      /http:\/\/127\.0\.0\.1:1 does not answer as it should \(ECONNREFUSED\)/,
    );
  });

  it('an answer that never comes', async () => {
    await putExport();
    get({ kind: 'hang' });
    const settings = { s3_timeout_ms: 300, s3_attempts: 2 };
    await expectError(() => mirror({ settings }), 'BELFRY_OBJECT_STORE_UNREACHABLE', /does not answer as it should/);
  });

  it('slow drip', async () => {
    await putExport();
    get({ kind: 'drip' });
    const settings = { s3_timeout_ms: 300, s3_attempts: 2 };
    const error = await expectError(
      () => mirror({ settings }),
      'BELFRY_OBJECT_STORE_SLOW',
      /item_embeddings\.npy: \d+ bytes came in 300 ms, expected 65536; raise s3_timeout_ms/,
    );
    expect(error.limit).toBe(65536);
  });

  it('too little disk: refused before the first byte, with numbers', async () => {
    const store = await ObjectStore.open(parseObjectAddress('s3://models/nightly', 'models'), remote.settings());
    const object = { key: ITEM_FILE, bytes: 2 ** 60, etag: '"x"', modified: new Date(0) };
    const parts = new PartsFolder(join(data.path, 'parts'));
    const error = await expectError(
      () => parts.fetch(store, [{ object }], 'download', {}),
      'BELFRY_DISK_SPACE',
      /the download needs 115292150467\d+ bytes free .*, there are \d+; free some/,
    );
    expect(error.limit).toBe(2 ** 60 + 64 * 1024 * 1024);
    expect(remote.seen).toEqual([]);
  });

  it('a stop while it waits for the store', async () => {
    await putExport();
    get({ kind: 'hang' });
    const stop = new AbortController();
    const why = new Error('stopped by SIGTERM');
    setTimeout(() => stop.abort(why), 200);
    await expect(mirror({ signal: stop.signal })).rejects.toBe(why);
  });
});
