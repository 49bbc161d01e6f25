import { spawn } from 'node:child_process';
import { once } from 'node:events';
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
import type { BelfryError } from '../../../src/errors.js';
import { DataFolder, newGenerationId } from '../../../src/generation/data-folder.js';
import { lockName } from '../../../src/generation/writer-lock.js';
import { leaseGeneration } from '../../../src/generation/file-locks.js';
import { listGenerations } from '../../../src/generation/list-generations.js';
import { type Manifest, readManifest, writeManifest } from '../../../src/generation/manifest.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';
import { publishTiny as publish } from '../../support/tiny-generation.js';

const silent = () => undefined;

describe('data folder', () => {
  it('serves what was published last, and keeps one more', async () => {
    const data = await DataFolder.open(join(temporaryFolder(), 'deep', 'data'));
    expect(await data.current(silent)).toBeUndefined();
    for (const id of ['1', '2', '3']) await publish(data, id);
    expect((await data.current(silent))?.id).toBe('3');
    expect(await data.ids()).toEqual(['3', '2']);
    expect(readFileSync(join(data.path, 'CURRENT'), 'utf8')).toBe('3\n2\n');
    expect(readdirSync(data.path).sort()).toEqual(['CURRENT', 'gen-2', 'gen-3']);
  });

  it('X1: a generation whose bytes changed is moved aside, named, and never served again', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    await publish(data, '2');
    writeFileSync(join(data.folderOf('2'), 'items.npy'), 'vectorz');
    const bad: string[] = [];
    const hear = (id: string, error: BelfryError, isQuarantined: boolean) =>
      bad.push(`${id} ${error.code} ${isQuarantined} ${error.message}`);
    expect((await data.current(hear))?.id).toBe('1');
    expect(bad).toEqual([
      expect.stringMatching(
        /^2 BELFRY_GENERATION_CORRUPT true .*items\.npy: its checksum does not fit the manifest; rebuild/,
      ),
    ]);
    expect((await data.current(hear))?.id).toBe('1');
    expect(bad).toHaveLength(1);
    expect(await data.ids()).toEqual(['1']);
    expect(await listGenerations(data)).toEqual([
      expect.objectContaining({ id: '1', state: 'serving', items: 1 }),
      expect.objectContaining({
        id: '2',
        state: 'quarantined',
        problem: expect.stringMatching(/items\.npy: its checksum does not fit .* \(moved aside 20/),
      }),
    ]);
    await expectError(() => data.activate('2'), 'BELFRY_UNKNOWN_GENERATION', `${data.path} holds no generation 2`);
    // The newest two are kept to be looked at.
    for (const id of ['3', '4', '5']) {
      await publish(data, id);
      writeFileSync(join(data.folderOf(id), 'items.npy'), 'vectorz');
      expect(await data.quarantine(id)).toBe(true);
    }
    await publish(data, '6');
    expect(readdirSync(data.path).sort()).toEqual(['CURRENT', 'gen-1', 'gen-6', 'quarantined-4', 'quarantined-5']);
  });

  it('X1: what is good, cannot be read now or is of another version is not moved aside', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    expect(await data.quarantine('1')).toBe(false);
    const path = join(data.folderOf('1'), 'manifest.json');
    const { manifest } = JSON.parse(readFileSync(path, 'utf8')) as { manifest: Manifest };
    for (const other of [
      { ...manifest, version: 99 },
      { ...manifest, ofNewerBelfry: true },
    ]) {
      await writeManifest(data.folderOf('1'), other as Manifest);
      const bad: string[] = [];
      expect(await data.current((_, { code }, isQuarantined) => bad.push(`${code} ${isQuarantined}`))).toBeUndefined();
      expect(bad).toEqual(['BELFRY_FILE_VERSION false']);
    }
    rmSync(path);
    mkdirSync(path); // reading it fails with EISDIR, whoever runs this
    expect(await data.quarantine('1')).toBe(false);
    expect(await data.ids()).toEqual(['1']);
  });

  it('X1: refuses a truncated file, a foreign manifest and one of another version', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    const manifest = join(data.folderOf('1'), 'manifest.json');
    writeFileSync(join(data.folderOf('1'), 'items.npy'), 'vec');
    const bad: string[] = [];
    expect(await data.current((_, error) => bad.push(error.message))).toBeUndefined();
    expect(bad[0]).toMatch(/expected 7 bytes, found 3/);
    await publish(data, '1');
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
    expect(await data.pointer()).toEqual({ current: '4', previous: '3' });
  });

  it('rolls back by the pointer alone, and comes back the same way', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await expectError(() => data.rollback(), 'BELFRY_UNKNOWN_GENERATION', /holds no generation to go back to/);
    await publish(data, '1');
    await expectError(() => data.rollback(), 'BELFRY_UNKNOWN_GENERATION', /holds no generation to go back to/);
    await publish(data, '2');
    expect((await data.rollback()).id).toBe('1');
    expect(await data.pointer()).toEqual({ current: '1', previous: '2' });
    expect((await data.rollback()).id).toBe('2');
    expect((await data.activate('2')).id).toBe('2');
    expect(await data.pointer()).toEqual({ current: '2', previous: '1' });
    await data.activate('1');
    await publish(data, '3'); // 2 was rolled back: what served before 3 is 1
    expect(await data.pointer()).toEqual({ current: '3', previous: '1' });
    expect(await data.ids()).toEqual(['3', '1']);
    for (const id of ['9', '../1', '..', '']) {
      await expectError(() => data.activate(id), 'BELFRY_UNKNOWN_GENERATION', `${data.path} holds no generation ${id}`);
    }
    writeFileSync(join(data.folderOf('1'), 'items.npy'), 'vectorz');
    await expectError(() => data.rollback(), 'BELFRY_GENERATION_CORRUPT', /its checksum does not fit/);
    expect(await data.pointed()).toBe('3');
  });

  it('rolls back while a build runs', async () => {
    const data = await DataFolder.open(temporaryFolder());
    for (const id of ['1', '2']) await publish(data, id);
    await data.withWriterLock(async () => {
      expect((await data.rollback()).id).toBe('1');
    });
  });

  it('collects no generation that a process uses, here or elsewhere, and what a killed process used', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    const here = await leaseGeneration(data.folderOf('1'));
    await publish(data, '2');
    const module = new URL('../../../dist/generation/file-locks.js', import.meta.url).href;
    const holds = `await (await import('${module}')).leaseGeneration('${data.folderOf('2')}'); console.log('held');
      setTimeout(() => {}, 60_000);`;
    const elsewhere = spawn(process.execPath, ['--input-type=module', '-e', holds]);
    await once(elsewhere.stdout, 'data');
    for (const id of ['3', '4', '5']) await publish(data, id);
    expect(await data.ids()).toEqual(['5', '4', '2', '1']);
    await here.release();
    await publish(data, '6');
    expect(await data.ids()).toEqual(['6', '5', '2']);
    elsewhere.kill('SIGKILL');
    await once(elsewhere, 'exit');
    await publish(data, '7');
    expect(await data.ids()).toEqual(['7', '6']);
    await expectError(() => leaseGeneration(data.folderOf('1')), 'BELFRY_FILE_UNREADABLE', /gen-1 is gone/);
  });

  it('X4: removes what a killed removal or pointer move left', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    mkdirSync(join(data.path, 'gone-0'));
    writeFileSync(join(data.path, 'CURRENT.tmp'), '');
    await data.cleanUp();
    expect(readdirSync(data.path).sort()).toEqual(['CURRENT', 'gen-1']);
  });

  it('names generations by time, and none twice', async () => {
    expect(newGenerationId(new Date('2026-11-23T10:15:02Z'))).toMatch(/^20261123-101502-[0-9a-f]{4}$/);
    const data = await DataFolder.open(temporaryFolder());
    for (const name of ['gen-1', 'quarantined-2', 'gone-3', 'tmp-4']) mkdirSync(join(data.path, name));
    const made = ['1', '2', '3', '4', '5'];
    expect(await data.newId(() => made.shift()!)).toBe('5');
  });

  it('a publish under the name of another generation fails, and leaves that one', async () => {
    const data = await DataFolder.open(temporaryFolder());
    await publish(data, '1');
    await expectError(publish(data, '1'), 'BELFRY_FILE_UNREADABLE', /gen-1: cannot be written: ENOTEMPTY/);
    expect((await data.current(silent))?.id).toBe('1');
  });
});
