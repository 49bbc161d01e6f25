/**
 * One writer per data folder. Each writer puts down a file whose name says who it is, then looks whether another such
 * file has a living owner; if so it takes its own away again. Two that come at the same moment may both step back and
 * try again, but never both go on, and nobody removes a file that a living process holds.
 *
 * A process is its id and its start time: in a container every process that ever wrote here was number 1. Where the
 * owner is of another container (another id namespace), only its heartbeat on the file tells whether it lives.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { open, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { BelfryError } from '../errors.js';
import { failpoint } from './faults.js';

const NAME = /^LOCK-(\d+)-(\d+)-(\d+)-[0-9a-f]{8}$/;
const ATTEMPTS = 4;
const HEARTBEAT_MS = 5_000;
const SILENCE_MS = 30_000;

/** How the folder is called in messages. */
export interface LockWords {
  readonly field: string;
  readonly folder: string;
  /** What another process is busy with. */
  readonly busy: string;
  readonly cure: string;
}

/** Runs `action` as the only writer. Errors: BELFRY_LOCKED, BELFRY_DISK_SPACE, BELFRY_FILE_UNREADABLE. */
export async function withWriterLock<T>(
  folder: string,
  action: () => Promise<T>,
  words: LockWords = {
    field: 'data',
    folder: `data folder ${folder}`,
    busy: folder,
    cure: 'name another folder with --data DIR',
  },
): Promise<T> {
  const mine = lockName(process.pid);
  const path = join(folder, mine);
  await take(folder, mine, words);
  const heartbeat = setInterval(() => {
    const now = new Date();
    void utimes(path, now, now).catch(() => undefined); // one missed beat is no harm
  }, HEARTBEAT_MS).unref();
  try {
    return await action();
  } finally {
    clearInterval(heartbeat);
    await failpoint('lock.remove', path, () => rm(path, { force: true }));
  }
}

/** Process id of whoever writes into the folder now; undefined when nobody does. */
export async function writerOf(folder: string): Promise<number | undefined> {
  for (const name of await readdir(folder)) {
    const pid = await livingPid(folder, name);
    if (pid !== undefined) return pid;
  }
  return undefined;
}

/** `LOCK-<process>-<its start>-<its namespace>-<random>`. */
export function lockName(pid: number, started = startOf(pid) ?? '0', namespace = namespaceOfProcess()): string {
  return `LOCK-${pid}-${started}-${namespace}-${randomBytes(4).toString('hex')}`;
}

async function take(folder: string, mine: string, words: LockWords): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await failpoint('lock.open', mine, async () => (await open(join(folder, mine), 'wx')).close());
    } catch (error) {
      const isFull = ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '');
      throw new BelfryError(
        isFull ? 'BELFRY_DISK_SPACE' : 'BELFRY_FILE_UNREADABLE',
        `${words.folder} cannot be written: ${(error as Error).message}; ${words.cure}`,
        { field: words.field, cause: error },
      );
    }
    const owner = await livingOwner(folder, mine);
    if (owner === undefined) return;
    await rm(join(folder, mine), { force: true });
    if (attempt === ATTEMPTS) {
      throw new BelfryError(
        'BELFRY_LOCKED',
        `${words.busy} is being written by process ${owner}; wait for it, or ${words.cure}`,
        { field: words.field },
      );
    }
    await setTimeout(20 + Math.random() * 100);
  }
}

/** Process id of another writer that lives; locks of those that do not are removed. */
async function livingOwner(folder: string, mine: string): Promise<number | undefined> {
  for (const name of await readdir(folder)) {
    if (!NAME.test(name) || name === mine) continue;
    const pid = await livingPid(folder, name);
    if (pid !== undefined) return pid;
    await rm(join(folder, name), { force: true });
  }
  return undefined;
}

/** Of the owner of this lock; undefined when it is no lock, or its owner is gone. */
async function livingPid(folder: string, name: string): Promise<number | undefined> {
  const parts = NAME.exec(name);
  if (parts === null) return undefined;
  const [pid, started, namespace] = [Number(parts[1]), parts[2]!, parts[3]!];
  const lives = namespace === namespaceOfProcess() ? isSameProcess(pid, started) : await beatsStill(join(folder, name));
  return lives ? pid : undefined;
}

function isSameProcess(pid: number, started: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return (startOf(pid) ?? started) === started;
}

async function beatsStill(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs < SILENCE_MS;
}

/** Field 22 of /proc/<pid>/stat, in ticks since boot; undefined where the system does not tell. */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}

function namespaceOfProcess(): string {
  try {
    return readlinkSync('/proc/self/ns/pid').replace(/\D/g, '');
  } catch {
    return '0';
  }
}
