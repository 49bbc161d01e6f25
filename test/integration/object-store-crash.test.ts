/** A download that is killed, or whose disk fails, at every failpoint: the mirror is of one export, and the next run mends all. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { folderNameOf, parseObjectAddress } from '../../src/config/object-address.js';
import { planFaults } from '../../src/generation/faults.js';
import { fetchExport } from '../../src/object-store/object-export.js';
import { npyFile, temporaryFolder } from '../support/folders.js';
import { TestStore } from '../support/object-store.js';

const MIRROR = fileURLToPath(new URL('../fixtures/mirror.mjs', import.meta.url));
const ADDRESS = 's3://models/nightly';
const FILES = ['embeddings/item_embeddings.npy', 'registry.yaml', 'features/note.txt'] as const;

let remote: TestStore;
let data: string;
const root = temporaryFolder({ keep: true });
beforeAll(async () => {
  remote = await TestStore.start(root);
});
afterAll(async () => {
  await remote.stop();
  rmSync(root, { recursive: true, force: true });
});
afterEach(() => planFaults(undefined));

/** `note.txt` is the same in all versions: it is linked, not downloaded. */
async function putVersion(version: number): Promise<void> {
  await remote.put(`nightly/${FILES[0]}`, npyFile(Float32Array.of(version, 1), [1, 2]));
  await remote.put(`nightly/${FILES[1]}`, `models: [] # ${version}\n`);
  await remote.put(`nightly/${FILES[2]}`, 'a note');
}

const fetch = () => fetchExport(ADDRESS, data, remote.settings({ s3_attempts: 1 }));
const folder = () => join(data, 'exports', folderNameOf(parseObjectAddress(ADDRESS, 'models')));

/** The version whose files the mirror holds; undefined where it is just being exchanged. */
function mirroredVersion(): number | undefined {
  if (!existsSync(folder())) return undefined;
  const version = Number(/# (\d+)/.exec(readFileSync(join(folder(), FILES[1]), 'utf8'))?.[1]);
  expect(readFileSync(join(folder(), FILES[0])).equals(npyFile(Float32Array.of(version, 1), [1, 2]))).toBe(true);
  expect(readFileSync(join(folder(), FILES[2]), 'utf8')).toBe('a note');
  return version;
}

/** A data folder that holds version 1; the store has version 2. */
async function begin(): Promise<void> {
  data = join(root, `data-${Math.random().toString(36).slice(2)}`);
  mkdirSync(data);
  await putVersion(1);
  await fetch();
  expect(mirroredVersion()).toBe(1);
  await putVersion(2);
}

/** Failpoints of downloads in the order in which a fetch of version 2 passes them, with their passages: `point#2`. */
async function passages(): Promise<string[]> {
  await begin();
  const trace = join(root, 'trace');
  rmSync(trace, { force: true });
  planFaults(`trace=${trace}`);
  await fetch();
  planFaults(undefined);
  const counts = new Map<string, number>();
  return readFileSync(trace, 'utf8')
    .trim()
    .split('\n')
    .filter((point) => point.startsWith('download.'))
    .map((point) => {
      counts.set(point, (counts.get(point) ?? 0) + 1);
      return `${point}#${counts.get(point)}`;
    });
}

async function expectMended(): Promise<void> {
  expect([undefined, 1, 2]).toContain(mirroredVersion());
  await fetch();
  expect(mirroredVersion()).toBe(2);
  const name = folderNameOf(parseObjectAddress(ADDRESS, 'models'));
  expect(readdirSync(join(data, 'exports')).sort()).toEqual([name, `${name}.json`]);
  rmSync(data, { recursive: true });
}

describe('a download', () => {
  it('whose disk is full, at every call', async () => {
    const points = await passages();
    expect(new Set(points.map((point) => point.split('#')[0]))).toEqual(
      new Set(['mkdir', 'open', 'write', 'sync', 'rename', 'remove', 'sync-folder'].map((call) => `download.${call}`)),
    );
    for (const point of points) {
      await begin();
      planFaults(`ENOSPC@${point}`);
      await expect(fetch(), point).rejects.toMatchObject({ code: 'BELFRY_DISK_SPACE' });
      planFaults(undefined);
      await expectMended();
    }
  }, 120_000);

  it('that is killed at every rename and removal, and once at each other call', async () => {
    const points = (await passages()).filter((point) => /rename|remove|#1$/.test(point));
    for (const point of points) {
      await begin();
      for (const when of /rename|remove/.test(point) ? ['kill-before', 'kill-after'] : ['kill-before']) {
        const { signal, err } = await new Promise<{ signal: unknown; err: string }>((resolve) => {
          const env = { ...process.env, BELFRY_FAULTS: `${when}@${point}` };
          const args = [MIRROR, ADDRESS, data, JSON.stringify(remote.settings())];
          execFile(process.execPath, args, { env }, (error, _, err) => resolve({ signal: error?.signal, err }));
        });
        // The second run may have less to do, so that it does not come to this passage.
        if (when === 'kill-before') expect(signal, `${point} ${err}`).toBe('SIGKILL');
        expect([undefined, 1, 2], point).toContain(mirroredVersion());
      }
      await expectMended();
    }
  }, 180_000);
});
