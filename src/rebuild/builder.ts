/**
 * The builder: a process of its own, so that a build can take no memory, no event loop and no crash into the server.
 * Forked by builder-process.ts: one task in; plan, progress and one result out. When the other side is gone it removes
 * what it made and ends.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { asBelfryError, BelfryError } from '../errors.js';
import type { BuilderMessage, BuildTask } from './builder-process.js';
import { BACKGROUND_NICE } from '../resilience/priority.js';
import { makeGeneration } from './make-generation.js';

const PROGRESS_MS = 50;
/** The kernel, out of memory, ends this process before a server: 0 is the common score, 1000 the most likely victim. */
const OOM_SCORE = '800';

const stop = new AbortController();
const cancel = (why: string): void => stop.abort(new BelfryError('BELFRY_STOPPED', why));

// Ctrl-C reaches the whole group of the terminal; the command that forked us says what to do about it.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => cancel('the build was stopped by SIGTERM'));
process.once('disconnect', () => cancel('the process that asked for the build is gone'));
process.once('message', (task: BuildTask) => {
  process.on('message', () => cancel('the build was cancelled')); // the only other message there is
  void run(task);
});
yieldToServers();

async function run(task: BuildTask): Promise<void> {
  let stage = '';
  let sentAt = 0;
  const callbacks = {
    signal: stop.signal,
    onPlan: (plan: Extract<BuilderMessage, { kind: 'plan' }>['plan']) => send({ kind: 'plan', plan }),
    onProgress: (progress: Extract<BuilderMessage, { kind: 'progress' }>['progress']) => {
      const now = performance.now();
      if (progress.stage === stage && progress.done < progress.total && now - sentAt < PROGRESS_MS) return;
      [stage, sentAt] = [progress.stage, now];
      send({ kind: 'progress', progress });
    },
    onGate: (gate: Extract<BuilderMessage, { kind: 'gate' }>['gate']) => send({ kind: 'gate', gate }),
    onWarning: (error: BelfryError) => send({ kind: 'warning', error: flat(error) }),
    onBadGeneration: (_id: string, error: BelfryError) => send({ kind: 'warning', error: flat(error) }),
  };
  try {
    const { published, reused } = await makeGeneration(task, callbacks);
    const { maxRSS } = process.resourceUsage();
    send({ kind: 'done', id: published.id, reused, peakMemoryBytes: maxRSS * 1024 });
  } catch (thrown) {
    const error = explainMemory(thrown);
    if (error.code === 'BELFRY_INTERNAL') process.stderr.write(`${(thrown as Error).stack ?? String(thrown)}\n`);
    send({ kind: 'failed', error: flat(error) });
  }
  if (process.connected) process.disconnect();
}

function send(message: BuilderMessage): void {
  if (process.connected) process.send!(message);
}

function flat({ code, message, field, limit }: BelfryError) {
  return { code, message, ...(field === undefined ? {} : { field }), ...(limit === undefined ? {} : { limit }) };
}

/** An allocation that failed and could be reported is still the want of memory. */
function explainMemory(thrown: unknown): BelfryError {
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  if (!(thrown instanceof BelfryError) && /allocation failed|bad_alloc|out of memory/i.test(message))
    return new BelfryError('BELFRY_BUILD_OUT_OF_MEMORY', `the build ran out of memory: ${message}`, { cause: thrown });
  return asBelfryError(thrown);
}

/** On Linux a priority is that of a thread, and new threads have that of the one that starts them. */
function yieldToServers(): void {
  const threads = process.platform === 'linux' ? readdirSync('/proc/self/task').map(Number) : [process.pid];
  for (const thread of threads) {
    try {
      setPriority(thread, BACKGROUND_NICE);
    } catch {
      // The thread is gone, or a sandbox forbids it: the build is done all the same.
    }
  }
  try {
    writeFileSync('/proc/self/oom_score_adj', OOM_SCORE);
  } catch {
    // Not Linux, or forbidden.
  }
}
