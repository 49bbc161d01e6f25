/** The real `belfry retrieve-all`: killed, stopped, out of room, used wrongly; what it prints. */
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readLong } from '../support/candidates.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { seeded } from '../support/judge.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const DIMS = 8;
/** At k = 1,000 a chunk is 1,048 users: four chunks of a million hits. */
const USERS = 4_000;
const K = '1000';

let folder: string;
let job: string[];
beforeAll(async () => {
  folder = temporaryFolder({ keep: true });
  const models = makeModelsFolder(join(folder, 'models'), {
    items: { data: randomValues(1_100 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(USERS * DIMS, 2), dims: DIMS },
  });
  job = ['retrieve-all', '--models', models, '--data', join(folder, 'data'), '-k', K];
  expect((await belfry(['build', '--models', models, '--data', join(folder, 'data')])).code).toBe(0);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

function belfry(args: readonly string[], file = process.execPath): Promise<Ended> {
  return new Promise((resolve) => {
    const all = file === process.execPath ? [MAIN, ...args] : args;
    execFile(file, all, { cwd: folder, maxBuffer: 1 << 26 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : (error.code as unknown as number), out, err });
    });
  });
}

/** Starts the job and sends the signal once its journal has grown to more than `lines` lines and a while has passed. */
async function startAndSignal(
  args: readonly string[],
  out: string,
  signal: NodeJS.Signals,
  lines: number,
  waitMs: number,
) {
  const child = spawn(process.execPath, [MAIN, ...args, '--out', out], {
    stdio: ['ignore', 'ignore', 'pipe'],
    cwd: folder,
  });
  let err = '';
  child.stderr.on('data', (chunk) => (err += chunk));
  let isOver = false;
  const ended = new Promise<number | null>((resolve) => {
    child.once('exit', (code) => {
      isOver = true;
      resolve(code);
    });
  });
  while (!isOver && journalLines(out) <= lines) await setTimeout(5);
  await setTimeout(waitMs);
  child.kill(signal);
  return { code: await ended, err };
}

function journalLines(out: string): number {
  const path = join(`${out}.partial`, 'journal');
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n').length - 1 : 0;
}

describe('X4: killed at any point', () => {
  it.each(['out.parquet', 'out.npy'])(
    '%s ends as it would have without',
    async (name) => {
      const [calm, hurt] = [join(folder, 'calm', name), join(folder, 'hurt', name)];
      for (const sub of ['calm', 'hurt']) mkdirSync(join(folder, sub), { recursive: true });
      expect((await belfry([...job, '--out', calm])).code).toBe(0);
      const files = name === 'out.npy' ? ['out.npy', 'out.scores.npy'] : [name];
      const random = seeded(Date.now());
      const kept: number[] = [];
      for (let kill = 0; kill < 4; kill++) {
        // Sometimes before the first chunk, sometimes after some more; at a random moment of writing the next one.
        const lines = kill === 0 ? 0 : journalLines(hurt) + (kill % 2);
        const { code } = await startAndSignal(job, hurt, 'SIGKILL', lines, random() * 150);
        if (code === 0) break; // it was faster
        expect(code).toBeNull();
        expect(existsSync(hurt) && !same(files), 'a final file that is not whole').toBe(false);
        kept.push(journalLines(hurt));
      }
      const last = await belfry([...job, '--out', hurt, '--json']);
      expect(last.code, last.err).toBe(0);
      const summary = JSON.parse(last.out) as { users: number; resumed_users: number };
      expect(summary.users).toBe(USERS);
      // The first line names the job, the others a chunk each.
      if (kept.length === 4 && kept.at(-1)! > 1)
        expect(summary.resumed_users).toBe(Math.min(USERS, (kept.at(-1)! - 1) * 1_048));
      expect(same(files)).toBe(true);
      expect(readdirSync(join(folder, 'hurt')).filter((one) => one.startsWith(`${name}.`))).toEqual([]);
    },
    180_000,
  );

  function same(files: readonly string[]): boolean {
    return files.every(
      (name) =>
        existsSync(join(folder, 'hurt', name)) &&
        readFileSync(join(folder, 'hurt', name)).equals(readFileSync(join(folder, 'calm', name))),
    );
  }
});

describe('stopped', () => {
  it('by SIGINT: says what is kept and how to go on; another k needs --restart', { timeout: 120_000 }, async () => {
    const out = join(folder, 'stopped.parquet');
    const { code, err } = await startAndSignal([...job], out, 'SIGINT', 1, 0);
    expect(code).toBe(1);
    expect(err).toMatch(
      /stopped by SIGINT; \d+ of 4000 users are kept in stopped\.parquet\.partial: run the same command again to go on \(BELFRY_STOPPED\)\n$/,
    );
    const other = [...job.slice(0, -1), '5', '--out', out];
    const refused = await belfry(other);
    expect([refused.code, refused.err]).toEqual([
      1,
      expect.stringContaining('stopped.parquet.partial is of another job: k was 1000 and is 5'),
    ]);
    expect((await belfry([...other, '--restart'])).code).toBe(0);
    expect((await readLong(out)).get(17)).toHaveLength(5);
    expect(readdirSync(folder).some((name) => name.startsWith('stopped.parquet.'))).toBe(false);
  });

  it('by a limit of the file size: says so, keeps what is done, goes on without it', { timeout: 120_000 }, async () => {
    const out = join(folder, 'narrow.npy');
    // 20 MB: two chunks of 8 MB of ids. Without the trap the signal would end the process.
    const shell = `trap '' XFSZ; ulimit -f 20000; exec "$0" "$@"`;
    const narrow = await belfry(['-c', shell, process.execPath, MAIN, ...job, '--out', out], '/bin/bash');
    expect([narrow.code, narrow.err]).toEqual([
      1,
      expect.stringMatching(
        /narrow\.npy: the file system takes no larger file \(EFBIG\); what is done is kept in narrow\.npy\.partial: free some space and run the same command again \(BELFRY_DISK_SPACE\)\n$/,
      ),
    ]);
    const wide = JSON.parse((await belfry([...job, '--out', out, '--json'])).out);
    expect(wide.resumed_users).toBe(2 * 1_048);
    expect(statSync(out).size).toBe(128 + USERS * 1000 * 8);
  });
});

describe('what it prints', () => {
  it('a summary for people and one for scripts', async () => {
    const users = join(folder, 'users.txt');
    writeFileSync(users, '17\n3\n9999\n');
    const ids = join(folder, 'ids.json');
    writeFileSync(ids, '[1, 2, 5000]');
    const args = [...job.slice(0, -1), '4', '--users', users, '--exclude', ids, '--format', 'lists'];
    const shown = await belfry([...args, '--out', 'few.parquet']);
    expect(shown.code, shown.err).toBe(0);
    expect(shown.err).toMatch(
      /^top 4 for 3 users, \w+.* \(.*\): writes up to [\d.]+ KB \(.* free\), needs up to .* of memory beside the generation\nusers \.\.\.\n$/m,
    );
    expect(shown.out).toMatch(
      /written +.*few\.parquet, [\d.]+ K?B\nusers +3\nitems +8 in all, up to 4 a user; 1098 may be returned\n/,
    );
    expect(shown.out).toMatch(/unknown +1 user ids \(9999\)\nunknown +1 excluded item ids\n$/);
    const summary = JSON.parse((await belfry([...args, '--out', 'few.parquet', '--json', '--exact'])).out);
    expect(summary).toEqual({
      generation: expect.any(String),
      file: join(folder, 'few.parquet'),
      files: [join(folder, 'few.parquet')],
      bytes: statSync(join(folder, 'few.parquet')).size,
      format: 'lists',
      k: 4,
      users: 3,
      resumed_users: 0,
      skipped: 0,
      unknown: 1,
      unknown_examples: [9999],
      hits: 8,
      admitted_items: 1098,
      unknown_excluded: 1,
      path: 'scan, proven exact (exact was asked for)',
      kernel: expect.any(String),
      seconds: expect.any(Number),
      users_per_second: expect.any(Number),
    });
  });

  it.each<[string[], number, string]>([
    [[], 2, "required option '--out <file>' not specified"],
    [['--out', 'x.csv'], 2, 'error out: expected a path that ends with .parquet or .npy, received "x.csv"'],
    [
      ['--out', 'no/such/x.npy'],
      1,
      'no/such does not exist; make it, or choose another --out (BELFRY_FILE_UNREADABLE)',
    ],
    [['--out', 'x.npy', '--threads', '0'], 2, 'threads: expected at least 1, received 0'],
    [['--out', 'x.npy', '--filter', '{'], 2, 'error --filter: not JSON'],
    [['--out', 'x.npy', '--users', 'gone.npy'], 1, 'gone.npy'],
  ])('%j', async (args, code, message) => {
    const { code: found, err } = await belfry([...job, ...args]);
    expect([found, err]).toEqual([code, expect.stringContaining(message)]);
    expect(readdirSync(folder).some((name) => name.startsWith('x.npy'))).toBe(false);
  });
});
