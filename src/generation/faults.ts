/**
 * Faults on purpose: every write, fsync, rename, open and removal of builds, publishes, rollbacks, collections and the
 * item log passes a named failpoint, `<place>.<call>`. Tests let the process die there, or the call fail, with the
 * environment variable BELFRY_FAULTS. Without it a failpoint is one comparison.
 *
 * BELFRY_FAULTS is a list of words, separated by commas; `#n` is the n-th passage, by default the first:
 *
 *     kill-before@pointer.rename     SIGKILL to itself before the call
 *     kill-during@manifest.write#2   after half of the bytes (writes only; elsewhere as kill-before)
 *     kill-after@generation.rename   SIGKILL after the call
 *     ENOSPC@pointer.sync            the call fails with this code; a write has then written half of its bytes
 *     seed=7                         a quarter of the failpoints fail a quarter of the time, the same for the same seed
 *     trace=/tmp/points              appends each failpoint that is passed to a file, one a line
 */
import { appendFileSync } from 'node:fs';
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { plannedFaults } from '../config/environment.js';
import { BelfryError } from '../errors.js';

/** What is written, and by whom. */
export const FAULT_PLACES = [
  'lock', // files that say who writes
  'vectors', // .npy of a build, written by the native import
  'graph', // written by the native graph build
  'copy', // ids, features, models of a build
  'manifest',
  'canaries', // of a build, as the report
  'report',
  'generation', // the folder of a build becomes a generation
  'pointer', // CURRENT
  'discard', // a build that failed is removed
  'collect', // generations that nobody needs are removed
  'quarantine', // a corrupt generation is moved aside
  'item-log', // upserts and deletes
  'download', // from an object store
] as const;

export type FaultPlace = (typeof FAULT_PLACES)[number];
export type FileCall = 'mkdir' | 'open' | 'write' | 'sync' | 'truncate' | 'rename' | 'remove' | 'sync-folder';
export type Failpoint = `${FaultPlace}.${FileCall}`;

interface Planned {
  readonly action: string;
  readonly point: string;
  readonly passage: number;
}

const SEEDED_SHARE = 0.25;
const SEEDED_CODES = ['ENOSPC', 'EIO', 'EDQUOT'];

class FaultPlan {
  private readonly planned: Planned[] = [];
  private readonly passages = new Map<string, number>();
  private readonly active = new Map<string, boolean>();
  private random: (() => number) | undefined;
  private trace: string | undefined;

  constructor(plan: string) {
    for (const word of plan.split(',')) this.read(word.trim());
  }

  private read(word: string): void {
    const [, key, value] = /^(seed|trace)=(.+)$/.exec(word) ?? [];
    const [, action, point, passage] =
      /^(kill-before|kill-during|kill-after|E[A-Z]+)@([a-z.-]+)(?:#(\d+))?$/.exec(word) ?? [];
    if (key === 'trace') this.trace = value;
    else if (key === 'seed') this.random = seeded(Number(value));
    else if (action !== undefined && point !== undefined && isPoint(point) && isAction(action)) {
      this.planned.push({ action, point, passage: Number(passage ?? 1) });
    } else {
      throw new BelfryError('BELFRY_CONFIG_INVALID', `environment variable BELFRY_FAULTS: ${word} is no fault`);
    }
  }

  async pass<T>(point: Failpoint, path: string, call: () => Promise<T>, half?: () => Promise<unknown>): Promise<T> {
    const passage = (this.passages.get(point) ?? 0) + 1;
    this.passages.set(point, passage);
    if (this.trace !== undefined) appendFileSync(this.trace, `${point}\n`);
    const actions = this.planned
      .filter((one) => one.point === point && one.passage === passage)
      .map(({ action }) => action);
    if (actions.includes('kill-before')) die();
    if (actions.includes('kill-during')) {
      await half?.();
      die();
    }
    const code = actions.find((action) => action.startsWith('E')) ?? this.seededCode(point);
    if (code !== undefined) {
      await half?.();
      throw systemError(code, point, path);
    }
    const result = await call();
    if (actions.includes('kill-after')) die();
    return result;
  }

  private seededCode(point: string): string | undefined {
    const { random } = this;
    // A lock that cannot be taken away again is a lock: only planned faults do that.
    if (random === undefined || point.startsWith('lock.')) return undefined;
    if (!this.active.has(point)) this.active.set(point, random() < SEEDED_SHARE);
    if (!this.active.get(point) || random() >= SEEDED_SHARE) return undefined;
    return SEEDED_CODES[Math.floor(random() * SEEDED_CODES.length)];
  }
}

let plan = planOf(plannedFaults());

/** For tests of one process: this plan instead of the environment's, or none. */
export function planFaults(text: string | undefined): void {
  plan = planOf(text);
}

function planOf(text: string | undefined): FaultPlan | undefined {
  return text === undefined ? undefined : new FaultPlan(text);
}

/**
 * Runs a call on a file as the failpoint `point`. `half` does part of a write, for faults in the middle of it. `path`
 * is for the message.
 */
export function failpoint<T>(
  point: Failpoint,
  path: string,
  call: () => Promise<T>,
  half?: () => Promise<unknown>,
): Promise<T> {
  return plan === undefined ? call() : plan.pass(point, path, call, half);
}

function isPoint(text: string): boolean {
  return FAULT_PLACES.some((place) => text.startsWith(`${place}.`));
}

function isAction(text: string): boolean {
  return text.startsWith('kill-') || text in constants.errno;
}

/** As the file system would say it. */
function systemError(code: string, point: Failpoint, path: string): NodeJS.ErrnoException {
  const errno = -constants.errno[code as keyof typeof constants.errno];
  const reason = getSystemErrorMap().get(errno)?.[1] ?? 'made by a failpoint';
  const call = point.slice(point.indexOf('.') + 1);
  const syscall = call === 'sync' || call === 'sync-folder' ? 'fsync' : call === 'remove' ? 'unlink' : call;
  return Object.assign(new Error(`${code}: ${reason}, ${syscall} '${path}'`), { code, errno, syscall, path });
}

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000); // until the signal is delivered
}

/** mulberry32. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
