/** The write-ahead log: what is acknowledged is read again, a torn end is cut, damage before it is told, marks and trims. */
import { appendFileSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { planFaults } from '../../../src/generation/faults.js';
import { ItemLog, type ItemLogOptions } from '../../../src/upserts/item-log.js';
import { HEADER_BYTES, type ItemChange, type LoggedChange } from '../../../src/upserts/log-format.js';
import { LogReader, segmentPath } from '../../../src/upserts/log-reader.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';

const put = (id: string | number, ...values: number[]): ItemChange => ({
  op: 'put',
  id,
  time: 1_700_000_000_000,
  space: 's',
  embedding: Float32Array.from(values),
  metadata: { title: `title of ${id}`, tags: ['a', 'ü'] },
});
const drop = (id: string): ItemChange => ({ op: 'delete', id, time: 5 });

async function readAll(data: string, from = 1): Promise<LoggedChange[]> {
  const found: LoggedChange[] = [];
  for await (const { changes } of new LogReader(join(data, 'upserts'), from).read()) found.push(...changes);
  return found;
}

async function withLog<T>(
  data: string,
  use: (log: ItemLog) => Promise<T>,
  options: Partial<ItemLogOptions> = {},
): Promise<T> {
  const log = await ItemLog.open(data, { fsync: 'always', ...options });
  try {
    return await use(log);
  } finally {
    await log.close();
  }
}

const write = (data: string, ...changes: ItemChange[]) =>
  withLog(data, async (log) => {
    for (const change of changes) await log.commit(() => change);
  });
const firstSegment = (data: string) => segmentPath(join(data, 'upserts'), 1);

afterEach(() => planFaults(undefined));

describe('the log of item changes', () => {
  it('gives back what was committed, in order, with every value', async () => {
    const data = temporaryFolder();
    await write(data, put('a', 1, -2.5, 3e-30), drop('a'), put(7, 0.1));
    const read = await readAll(data);
    expect(read.map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
    expect(read.map(({ change }) => change)).toEqual([put('a', 1, -2.5, 3e-30), drop('a'), put(7, 0.1)]);
    expect(await readAll(data, 3)).toHaveLength(1);
  });

  it.each(['always', 'interval', 'off'] as const)('joins changes that wait together (fsync %s)', async (fsync) => {
    const data = temporaryFolder();
    const groups: number[] = [];
    const heard: number[] = [];
    const logged = await withLog(
      data,
      (log) => Promise.all(Array.from({ length: 200 }, (_, i) => log.commit(() => put(i, i)))),
      {
        fsync,
        onAppend: (_, changes) => groups.push(changes),
        onChanges: (changes) => heard.push(...changes.map(({ sequence }) => sequence)),
      },
    );
    expect(logged.map((one) => one?.sequence)).toEqual(Array.from({ length: 200 }, (_, i) => i + 1));
    expect(heard).toEqual(logged.map((one) => one?.sequence));
    expect(groups.reduce((sum, count) => sum + count)).toBe(200);
    expect(groups.length).toBeLessThan(20);
    expect(await readAll(data)).toHaveLength(200);
  });

  it('decides in order, and shows what is staged before', async () => {
    const data = temporaryFolder();
    await withLog(data, async (log) => {
      const seen: unknown[] = [];
      await Promise.all([
        log.commit(() => undefined), // has the log to itself; the others wait for it and go together
        log.commit(() => put('a', 1)),
        log.commit((staged) => {
          seen.push(staged.get('a')?.op);
          return drop('a');
        }),
        log.commit((staged) => {
          seen.push(staged.get('a')?.op);
          return undefined;
        }),
        expect(
          log.commit(() => {
            throw new Error('refused');
          }),
        ).rejects.toThrow('refused'),
      ]);
      expect(seen).toEqual(['put', 'delete']);
    });
    expect(await readAll(data)).toHaveLength(2);
  });

  it('is one order for several writers, each of which hears of the others', async () => {
    const data = temporaryFolder();
    const heard = [[], []] as number[][];
    const logs = await Promise.all(
      [0, 1].map((who) =>
        ItemLog.open(data, {
          fsync: 'off',
          onChanges: (changes) => heard[who]!.push(...changes.map(({ sequence }) => sequence)),
        }),
      ),
    );
    const logged = await Promise.all(Array.from({ length: 60 }, (_, i) => logs[i % 2]!.commit(() => put(`w${i}`, i))));
    await Promise.all(logs.map((log) => log.catchUp()));
    const all = Array.from({ length: 60 }, (_, i) => i + 1);
    expect(logged.map((one) => one!.sequence).sort((a, b) => a - b)).toEqual(all);
    expect(heard).toEqual([all, all]);
    await Promise.all(logs.map((log) => log.close()));
  });

  it('cuts off an unfinished write, at every length of it, with a line for the log', async () => {
    const data = temporaryFolder();
    await write(data, put('a', 1), put('b', 2));
    const path = firstSegment(data);
    const whole = readFileSync(path);
    await write(data, put('c', 3));
    const longer = readFileSync(path);
    for (let length = whole.length + 1; length < longer.length; length++) {
      writeFileSync(path, longer.subarray(0, length));
      const notices: string[] = [];
      expect(await readAll(data)).toHaveLength(2);
      await withLog(data, (log) => log.commit(() => put('d', 4)), { onNotice: (text) => notices.push(text) });
      expect(notices).toEqual([`upserts: ${path}: ${length - whole.length} bytes of an unfinished write were cut off`]);
      expect((await readAll(data)).map(({ change }) => change.id)).toEqual(['a', 'b', 'd']);
    }
  });

  it('takes zeros at the end for a write that power loss cut', async () => {
    const data = temporaryFolder();
    await write(data, put('a', 1));
    const path = firstSegment(data);
    appendFileSync(path, Buffer.alloc(4096));
    await write(data, put('b', 2));
    expect((await readAll(data)).map(({ change }) => change.id)).toEqual(['a', 'b']);
  });

  it('finds every flipped bit: an error that names the place, or the very same changes', async () => {
    const data = temporaryFolder();
    await write(data, put('a', 1, 2), drop('a'), put('b', 3, 4));
    const path = firstSegment(data);
    const whole = readFileSync(path);
    const expected = await readAll(data);
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const damaged = Buffer.from(whole);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      writeFileSync(path, damaged);
      const outcome = await readAll(data).catch((error: unknown) => error);
      if (Array.isArray(outcome)) expect(outcome, `bit ${bit}`).toEqual(expected);
      else expect(outcome, `bit ${bit}`).toMatchObject({ code: 'BELFRY_UPSERT_LOG_CORRUPT' });
    }
    const damaged = Buffer.from(whole);
    damaged[HEADER_BYTES + 40]! ^= 1;
    writeFileSync(path, damaged);
    await expectError(
      ItemLog.open(data, { fsync: 'always' }),
      'BELFRY_UPSERT_LOG_CORRUPT',
      `${path}, byte 32: the checksum of change 1 does not fit; restore the file from a copy, or give up that change and all later ones with: truncate -s 32 ${path}`,
    );
  });

  it('never shows a change that could not be written or synced, and goes on afterwards', async () => {
    for (const fault of ['ENOSPC@item-log.write', 'EIO@item-log.sync', 'EDQUOT@item-log.write']) {
      const data = temporaryFolder();
      await write(data, put('a', 1));
      planFaults(fault);
      await withLog(data, async (log) => {
        await expectError(
          log.commit(() => put('lost', 2)),
          fault.startsWith('EIO') ? 'BELFRY_UPSERT_LOG_FAILED' : 'BELFRY_UPSERT_LOG_FULL',
          'nothing was changed, try again',
        );
        expect((await readAll(data)).map(({ change }) => change.id)).toEqual(['a']);
        await log.commit(() => put('b', 3));
      });
      planFaults(undefined);
      expect((await readAll(data)).map(({ change }) => change.id)).toEqual(['a', 'b']);
    }
  });

  it('begins a segment at a mark, trims whole segments only, and keeps numbers when all files are gone', async () => {
    const data = temporaryFolder();
    await withLog(data, async (log) => {
      expect(await log.mark()).toBe(1);
      for (const id of ['a', 'b', 'c']) await log.commit(() => put(id, 1));
      expect(await log.mark()).toBe(4);
      expect(await log.mark()).toBe(4);
      await log.commit(() => put('d', 1));
      expect(await log.mark()).toBe(5);
      await log.trim(3); // within the first segment
      expect(await readAll(data)).toHaveLength(4);
      await log.trim(4);
      expect((await readAll(data, 4)).map(({ change }) => change.id)).toEqual(['d']);
      await log.trim(5);
      expect(readdirSync(log.folder).filter((name) => name.endsWith('.log'))).toEqual(['items-0000000000000005.log']);
      expect(await log.bytesFrom(5)).toBe(0);
      await log.commit(() => put('e', 1));
      expect(await log.bytesFrom(5)).toBeGreaterThan(0);
    });
    const other = temporaryFolder();
    await withLog(other, (log) => {
      log.raise(40);
      return log.commit(() => put('x', 1));
    });
    expect((await readAll(other, 40))[0]?.sequence).toBe(40);
    await expectError(readAll(other, 1), 'BELFRY_UPSERT_LOG_CORRUPT', 'it begins with change 40, and 1 is missing');
  });

  it('hears of it when a file was cut back behind what it has read', async () => {
    const data = temporaryFolder();
    let rewinds = 0;
    await write(data, put('a', 1));
    const bytes = statSync(firstSegment(data)).size;
    await write(data, put('b', 2));
    await withLog(
      data,
      async (log) => {
        truncateSync(firstSegment(data), bytes);
        await log.catchUp();
        expect([rewinds, log.nextSequence]).toEqual([1, 2]);
      },
      { onRewind: () => rewinds++ },
    );
  });

  it('reads any garbage as an error or as nothing, never as a change', async () => {
    const data = temporaryFolder();
    await write(data, put('a', 1));
    const path = firstSegment(data);
    const whole = readFileSync(path);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (garbage) => {
        writeFileSync(path, Buffer.concat([whole, garbage]));
        const outcome = await readAll(data).catch((error: { code: string }) => error.code);
        expect(outcome === 'BELFRY_UPSERT_LOG_CORRUPT' || outcome.length === 1).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});
