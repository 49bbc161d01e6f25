/** What happens to the server in the middle of a load: a swap, a rebuild, or an outage that the user's commands make. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { BelfryError, show } from '../../errors.js';
import type { FaultProxy, ProxyFault } from './fault-proxy.js';
import type { LoadEvent, LoadHooks } from './run-load.js';
import type { Target } from './target.js';

export const DURING = ['swap', 'rebuild', 'scorer-outage'] as const;
export type During = (typeof DURING)[number];

/** Shell commands that break the scorer and mend it, or a proxy before it that can do both. */
export type Outage =
  { readonly begin: string; readonly end: string } | { readonly proxy: FaultProxy; readonly fault: ProxyFault };

export interface DuringOptions {
  readonly what: During;
  readonly outage?: Outage | undefined;
  /** The server under load, where administrators ask at another address. */
  readonly server?: Target | undefined;
}

type Action = NonNullable<LoadHooks['during']>;

/** Parts of the run: quiet before, so that there is something to compare with, and after, so that it can recover. */
const FIRST = 0.35;
const SECOND = 0.7;
const POLL_MS = 200;
/** Twice the longest time between two looks of a server at a scorer that was down. */
const SCORERS_MS = 12_000;

/** Looks whether it can be done, before the load begins. Errors: BELFRY_BENCH_REFUSED, BELFRY_SERVER_UNREACHABLE. */
export async function prepareDuring(target: Target, { what, outage, server }: DuringOptions): Promise<Action> {
  if (what === 'scorer-outage') {
    if (outage === undefined)
      throw new BelfryError(
        'BELFRY_INVALID_ARGUMENT',
        '--during scorer-outage: expected --outage-proxy PORT=URL, or --outage-begin and --outage-end, the commands that break your scorer and mend it',
        { field: '--outage-begin' },
      );
    if ('proxy' in outage) await scorersAnswer(server ?? target);
    return outageAction(outage);
  }
  const admin = new Admin(target);
  if (what === 'rebuild') {
    await admin.call('GET', '/admin/rebuild');
    return rebuildAction(admin);
  }
  const { serving, generations } = await admin.generations();
  const other = generations.find(({ id, problem }) => id !== serving && problem === undefined)?.id;
  if (serving === null || other === undefined)
    throw new BelfryError(
      'BELFRY_BENCH_REFUSED',
      `--during swap: ${target.origin} has ${generations.length} generation and needs two to go back and forth; build another with belfry build --force`,
      { field: '--during' },
    );
  return swapAction(admin, serving, other);
}

/** There and back: two swaps in a run, where the first is done in time. */
function swapAction(admin: Admin, serving: string, other: string): Action {
  return async ({ elapsedMs, seconds }) => {
    const events: LoadEvent[] = [];
    for (const [share, id] of [
      [FIRST, other],
      [SECOND, serving],
    ] as const) {
      await sleep(share * seconds * 1000 - elapsedMs());
      const from = elapsedMs();
      if (from > seconds * 1000) break;
      await admin.call('POST', `/admin/generations/${id}/activate`);
      while ((await admin.generations()).serving !== id) await sleep(POLL_MS);
      events.push({ label: 'swap', from, to: Math.min(elapsedMs(), seconds * 1000) });
    }
    return events;
  };
}

function rebuildAction(admin: Admin): Action {
  return async ({ elapsedMs, seconds }) => {
    await sleep(FIRST * seconds * 1000 - elapsedMs());
    const from = elapsedMs();
    await admin.call('POST', '/admin/rebuild', { force: true });
    for (;;) {
      await sleep(POLL_MS);
      const { state, problem } = await admin.call<{ state: string; problem?: { code: string; message: string } }>(
        'GET',
        '/admin/rebuild',
      );
      if (problem !== undefined && state !== 'running')
        throw new BelfryError(
          'BELFRY_BENCH_REFUSED',
          `--during rebuild: the build failed: ${problem.code} ${problem.message}`,
        );
      if (state !== 'running') return [{ label: 'rebuild', from, to: elapsedMs() }];
      // The load is over and the build is not: what was measured is its first part.
      if (elapsedMs() > seconds * 1000) return [{ label: 'rebuild (longer than the run)', from, to: seconds * 1000 }];
    }
  };
}

/** Through a proxy that was not there before, a server finds its scorers again within seconds. */
async function scorersAnswer(target: Target): Promise<void> {
  for (let waited = 0; ; waited += POLL_MS) {
    const { status, body } = await target.get('/readyz');
    const { scorers = [] } = (status === 200 ? JSON.parse(body.toString()) : {}) as {
      scorers?: { name: string; state: string; problem?: { message: string } }[];
    };
    const down = scorers.find(({ state }) => state !== 'closed');
    if (scorers.length > 0 && down === undefined) return;
    if (waited > SCORERS_MS)
      throw new BelfryError(
        'BELFRY_BENCH_REFUSED',
        `--during scorer-outage: ${down === undefined ? `${target.origin} has no reranker` : `${down.name} does not answer before the outage: ${down.problem?.message}`}`,
        { field: '--outage-proxy' },
      );
    await sleep(POLL_MS);
  }
}

function outageAction(outage: Outage): Action {
  const isProxy = 'proxy' in outage;
  return async ({ elapsedMs, seconds }) => {
    await sleep(FIRST * seconds * 1000 - elapsedMs());
    const from = elapsedMs();
    await (isProxy ? outage.proxy.begin(outage.fault) : shell('--outage-begin', outage.begin));
    try {
      await sleep(SECOND * seconds * 1000 - elapsedMs());
    } finally {
      await (isProxy ? outage.proxy.end() : shell('--outage-end', outage.end));
    }
    return [{ label: isProxy ? `outage (${outage.fault})` : 'outage', from, to: elapsedMs() }];
  };
}

function shell(option: string, command: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, { shell: true, stdio: ['ignore', 'ignore', 'inherit'] });
    const fail = (why: string) =>
      reject(new BelfryError('BELFRY_BENCH_REFUSED', `${option}: ${show(command)} ${why}`, { field: option }));
    child.once('error', (error) => fail(`cannot be run (${error.message})`));
    child.once('exit', (code) => (code === 0 ? resolve() : fail(`ended with ${code}`)));
  });
}

interface GenerationList {
  readonly serving: string | null;
  readonly generations: readonly { readonly id: string; readonly problem?: unknown }[];
}

class Admin {
  constructor(private readonly target: Target) {}

  generations(): Promise<GenerationList> {
    return this.call<GenerationList>('GET', '/admin/generations');
  }

  async call<T>(method: 'GET' | 'POST', path: string, body?: object): Promise<T> {
    const headers = method === 'POST' ? ['content-type', 'application/json'] : [];
    const text = method === 'POST' ? JSON.stringify(body ?? {}) : null;
    const answer = await this.target.ask({ path, method, headers, body: text });
    if (answer.status < 300) return JSON.parse(answer.body.toString()) as T;
    throw new BelfryError(
      'BELFRY_BENCH_REFUSED',
      `${this.target.origin}${path} answers ${answer.status}: ${answer.body.toString('utf8', 0, 300)}`,
      { field: '--during' },
    );
  }
}
