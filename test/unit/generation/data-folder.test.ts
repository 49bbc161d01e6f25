import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DataFolder, newGenerationId } from '../../../src/generation/data-folder.js';
import { writeDurable } from '../../../src/generation/files.js';
import { lockName } from '../../../src/generation/writer-lock.js';
import { MANIFEST_VERSION, type Manifest, readManifest, writeManifest } from '../../../src/generation/manifest.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';

const norms = { min: 1, mean: 1, max: 1 };

async function publish(data: DataFolder, id: string, content = 'vectors'): Promise<void> {
  await data.withWriterLock(async () => {
    const folder = data.newTemporary(id);
    mkdirSync(folder, { recursive: true });
    const facts = await writeDurable(join(folder, 'items.npy'), content, 'copy');
    const manifest: Manifest = {
      version: MANIFEST_VERSION,
      id,
      created: new Date(0).toISOString(),
      builder: { belfry: '0', node: '0', platform: 'test' },
      models_folder: '/models',
      metric: 'ip',
      items: {
        file: 'items.npy',
        count: 1,
        dims: 1,
        dtype: 'f4',
        idKind: 'row',
        norms,
        zeroVectors: 0,
        skippedRows: [],
      },
      models: [],
      sources: [],
      files: { 'items.npy': facts },
      exampleUsers: [],
      checks: [],
      buildMs: 1,
    };
    await writeManifest(folder, manifest);
    await data.publish(folder, id);
  });
}

const silent = () => undefined;

describe('data folder', () => {
  it('serves what was published last, and keeps one more', async () => {
    const data = await DataFolder.open(join(temporaryFolder(), 'deep', 'data'));
    expect(await data.current(silent)).toBeUndefined();
    for (const id of ['1', '2', '3']) await publish(data, id);
    expect((await data.current(silent))?.id).toBe('3');
    expect(await data.ids()).toEqual(['3', '2']);
    expect(readFileSync(join(data.path, 'CURRENT'), 'utf8')).toBe('3\n');
    expect(readdirSync(data.path).sort()).toEqual(['CURRENT', 'gen-2', 'gen-3']);
  });

  it('X1: passes over a generation whose bytes changed, and says so', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    await publish(data, '2');
    writeFileSync(join(data.folderOf('2'), 'items.npy'), 'vectorz');
    const bad: string[] = [];
    const served = await data.current((id, error) => bad.push(`${id} ${error.code} ${error.message}`));
    expect(served?.id).toBe('1');
    expect(bad).toEqual([
      expect.stringMatching(
        /^2 BELFRY_GENERATION_CORRUPT .*items\.npy: its checksum does not fit the manifest; rebuild/,
      ),
    ]);
  });

  it('X1: refuses a truncated file, a foreign manifest and one of another version', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    const manifest = join(data.folderOf('1'), 'manifest.json');
    writeFileSync(join(data.folderOf('1'), 'items.npy'), 'vec');
    const bad: string[] = [];
    expect(await data.current((_, error) => bad.push(error.message))).toBeUndefined();
    expect(bad[0]).toMatch(/expected 7 bytes, found 3/);
    writeFileSync(manifest, readFileSync(manifest, 'utf8').replace('"metric": "ip"', '"metric": "l2"'));
    await expectError(
      () => readManifest(data.folderOf('1')),
      'BELFRY_GENERATION_CORRUPT',
      /manifest\.json: its checksum does not fit its content/,
    );
    writeFileSync(manifest, '{"half":');
    await expectError(
      () => readManifest(data.folderOf('1')),
      'BELFRY_GENERATION_CORRUPT',
      /manifest\.json: cannot be read/,
    );
  });

  it.each([
    ['empty', ''],
    ['pointing nowhere', 'gone\n'],
    ['hostile', '../../etc\n'],
  ])('X2: falls back to the newest when CURRENT is %s', async (_, content) => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    writeFileSync(join(data.path, 'CURRENT'), content);
    expect((await data.current(silent))?.id).toBe('1');
  });

  it('X5: has one writer; a lock of a process that is gone is taken over, its leftovers removed', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await data.withWriterLock(() =>
      expectError(
        () => data.withWriterLock(async () => 1),
        'BELFRY_LOCKED',
        new RegExp(`is being written by process ${process.pid}; wait for it`),
      ),
    );
    mkdirSync(data.newTemporary('half'));
    // Gone; and, as after a kill in a container, of this very number but another start.
    writeFileSync(join(data.path, lockName(999_999_999)), '');
    writeFileSync(join(data.path, lockName(process.pid, '1')), '');
    await publish(data, '1');
    expect(existsSync(data.newTemporary('half'))).toBe(false);
    expect((await data.current(silent))?.id).toBe('1');
    expect(readdirSync(data.path).sort()).toEqual(['CURRENT', 'gen-1']);
  });

  it('X5: a writer in another container lives as long as its heart beats', async () => {
    const data = await DataFolder.open(temporaryFolder());
    const lock = join(data.path, lockName(1, '5', '12345'));
    writeFileSync(lock, '');
    await expectError(
      () => data.withWriterLock(async () => 1),
      'BELFRY_LOCKED',
      'is being written by process 1; wait for it, or name another folder with --data DIR',
    );
    utimesSync(lock, new Date(0), new Date(0));
    expect(await data.withWriterLock(async () => 1)).toBe(1);
    expect(existsSync(lock)).toBe(false);
  });

  it('X5: of many that come at once, no two write at the same time, and a lock left by nobody is taken by one', async () => {
    const path = temporaryFolder();
    writeFileSync(join(path, lockName(999_999_999)), '');
    const data = await DataFolder.open(path);
    let writing = 0;
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, () =>
        data.withWriterLock(async () => {
          expect(++writing).toBe(1);
          await new Promise((resolve) => setTimeout(resolve, 5));
          writing--;
        }),
      ),
    );
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'BELFRY_LOCKED' });
    expect(readdirSync(path)).toEqual([]);
  });

  it('X1: passes over a generation that cannot be read', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    await publish(data, '2');
    rmSync(data.folderOf('2'), { recursive: true });
    symlinkSync(data.folderOf('2'), data.folderOf('2')); // a look at it fails, whoever runs this
    const bad: string[] = [];
    expect((await data.current((id, { code }) => bad.push(`${id} ${code}`)))?.id).toBe('1');
    expect(bad).toEqual(['2 BELFRY_GENERATION_CORRUPT']);
  });

  it('keeps the generation that served before, whatever its name', async () => {
    const data = await DataFolder.open(temporaryFolder());
    for (const id of ['5', '3', '4']) await publish(data, id);
    expect(await data.ids()).toEqual(['4', '3']);
  });

  it('names generations by time', () => {
    expect(newGenerationId(new Date('2026-11-23T10:15:02Z'))).toMatch(/^20261123-101502-[0-9a-f]{4}$/);
  });
});
