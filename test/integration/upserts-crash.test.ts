/**
 * Writers of one log, killed at any moment and at every failpoint: what was acknowledged is there, once, with its values and
 * its place, and the log goes on.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ItemLog } from '../../src/upserts/item-log.js';
import type { LoggedChange } from '../../src/upserts/log-format.js';
import { LogReader } from '../../src/upserts/log-reader.js';
import { temporaryFolder } from '../support/folders.js';
import { seeded } from '../support/judge.js';

const WRITER = fileURLToPath(new URL('../fixtures/upsert-writer.mjs', import.meta.url));
const KILLS = 40;

interface Writer {
  readonly child: ChildProcess;
  /** When it has acknowledged its first change. */
  readonly started: Promise<unknown>;
  readonly ended: Promise<string>;
}

function startWriter(data: string, name: string, environment: Record<string, string> = {}): Writer {
  const child = spawn(process.execPath, [WRITER, data, name, 'always'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...environment },
  });
  let said = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text));
  return {
    child,
    started: once(child.stdout!, 'data'),
    ended: new Promise((resolve) => child.once('close', () => resolve(said))),
  };
}

async function readAll(data: string): Promise<LoggedChange[]> {
  const found: LoggedChange[] = [];
  for await (const { changes } of new LogReader(join(data, 'upserts'), 1).read()) found.push(...changes);
  return found;
}

/** Adds what a writer said to what must be there, as id by number. */
function note(acknowledged: Map<number, string>, said: string): void {
  for (const line of said.split('\n').slice(0, -1)) {
    const [sequence, id] = line.split(' ') as [string, string];
    expect(acknowledged.has(Number(sequence))).toBe(false);
    acknowledged.set(Number(sequence), id);
  }
}

async function expectAcknowledged(data: string, acknowledged: ReadonlyMap<number, string>): Promise<void> {
  const found = await readAll(data);
  expect(found.map(({ sequence }) => sequence)).toEqual(found.map((_, at) => at + 1));
  for (const [sequence, id] of acknowledged) {
    const n = Number(id.split('-')[1]);
    expect(found[sequence - 1]?.change).toEqual({
      op: 'put',
      id,
      time: n,
      space: '',
      embedding: Float32Array.of(n, id.length, 0.5),
      metadata: { text: 'x'.repeat(n % 300) },
    });
  }
}

async function goesOn(data: string): Promise<void> {
  const log = await ItemLog.open(data, { fsync: 'always' });
  await log.cleanUp();
  await log.commit(() => ({ op: 'delete', id: 'end', time: 0 }));
  await log.close();
  expect(readdirSync(log.folder).filter((name) => name !== 'lock' && !/^items-\d{16}\.log$/.test(name))).toEqual([]);
  expect((await readAll(data)).at(-1)?.change.id).toBe('end');
}

describe('a log whose writers are killed', () => {
  it(`keeps every acknowledged change over ${KILLS} kills of two writers`, { timeout: 120_000 }, async () => {
    const data = temporaryFolder();
    const random = seeded(1);
    const acknowledged = new Map<number, string>();
    for (let kill = 0; kill < KILLS; kill += 2) {
      const writers = [0, 1].map((who) => startWriter(data, `w${kill + who}`));
      for (const { child, started } of writers) {
        await started;
        await setTimeout(random() * 40);
        child.kill('SIGKILL');
      }
      for (const { ended } of writers) note(acknowledged, await ended);
    }
    expect(acknowledged.size).toBeGreaterThan(KILLS);
    await expectAcknowledged(data, acknowledged);
    await goesOn(data);
  });

  it('does so at every failpoint of the log, before, in the middle and after', { timeout: 120_000 }, async () => {
    const trace = join(temporaryFolder(), 'points');
    const traced = startWriter(temporaryFolder(), 'trace', { BELFRY_FAULTS: `trace=${trace}` });
    await traced.started; // one change goes through all of them
    traced.child.kill('SIGKILL');
    await traced.ended;
    const points = [...new Set(readFileSync(trace, 'utf8').trim().split('\n'))].filter((one) =>
      one.startsWith('item-log'),
    );
    expect(points).toEqual(expect.arrayContaining(['item-log.write', 'item-log.sync', 'item-log.rename']));
    const faults = points.flatMap((point) =>
      ['kill-before', 'kill-during', 'kill-after'].flatMap((action) => [1, 3].map((n) => `${action}@${point}#${n}`)),
    );
    const data = temporaryFolder();
    const acknowledged = new Map<number, string>();
    for (const [at, fault] of faults.entries()) {
      const writer = startWriter(data, `f${at}`, { BELFRY_FAULTS: fault });
      const stop = setTimeout(1500).then(() => writer.child.kill('SIGKILL')); // a point that is passed less often
      note(acknowledged, await Promise.race([writer.ended, stop.then(() => writer.ended)]));
      await expectAcknowledged(data, acknowledged);
    }
    expect(acknowledged.size).toBeGreaterThan(0);
    await goesOn(data);
  });
});
