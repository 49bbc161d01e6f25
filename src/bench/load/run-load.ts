/** One run of a load: starts the generators together, watches the server, acts in the middle, and merges what they saw. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { BelfryError } from '../../errors.js';
import type { GeneratorTask } from './generator.js';
import type { GeneratorMessage, LiveCounts } from './generator-worker.js';
import { type StepCounts, stepsPastKnee } from './measures.js';
import type { RequestMix } from './mix.js';
import { mergeRecordings, type Recording, unpackRecording } from './recording.js';
import { type Segment, totalSeconds } from './schedule.js';
import { type ServerSample, ServerWatch } from './server-metrics.js';
import type { Target } from './target.js';

export interface LoadPlan {
  readonly loop: Extract<GeneratorTask['loop'], { kind: 'open' }> | Extract<GeneratorTask['loop'], { kind: 'closed' }>;
  readonly warmupSeconds: number;
  /** Generator threads. */
  readonly workers: number;
  /** Most connections of all together. */
  readonly connections: number;
  readonly timeoutMs: number;
  /** An answer later than this is not good. */
  readonly deadlineMs: number;
  /** Answers to keep for the recall. */
  readonly keep: number;
  readonly seed: number;
}

/** Something done to the server in the middle of a run; times are milliseconds from its start. */
export interface LoadEvent {
  readonly label: string;
  readonly from: number;
  readonly to: number;
}

export interface LoadHooks {
  /** Called four times a second. */
  readonly onLive?: (live: LiveView) => void;
  /** Runs beside the load; what it returns is marked in the report. An error fails the run. */
  readonly during?: (clock: { elapsedMs(): number; seconds: number }) => Promise<LoadEvent[]>;
  readonly signal?: AbortSignal;
}

export interface LiveView extends Omit<LiveCounts, 'windows'> {
  readonly elapsedMs: number;
  readonly totalMs: number;
  readonly isWarmup: boolean;
  /** Requests a second of this moment; undefined in a closed loop. */
  readonly askedRate: number | undefined;
}

export interface LoadResult {
  readonly recording: Recording;
  readonly windowMs: number;
  readonly seconds: number;
  readonly server: readonly ServerSample[];
  readonly events: readonly LoadEvent[];
  /** Cores that this process kept busy: the generator's own cost. */
  readonly generatorCpu: number;
  /** Of a ramp that was ended because it had passed its knee: its steps so far. */
  readonly stepsRun?: number | undefined;
}

/** Time for the threads to start before the run begins. */
const START_MS = 400;
const WINDOWS_MAX = 240;
/** Counts of a step are whole this long after its last deadline: threads tell theirs four times a second. */
const SETTLE_MS = 500;
const WINDOW_MIN_MS = 100;

/** Errors: BELFRY_STOPPED on a signal; what `during` throws. */
export async function runLoad(
  target: Target,
  mix: RequestMix,
  plan: LoadPlan,
  hooks: LoadHooks = {},
): Promise<LoadResult> {
  const { loop } = plan;
  const seconds = loop.kind === 'open' ? totalSeconds(loop.segments) : loop.seconds;
  const windowMs = windowOf(loop.kind === 'open' ? loop.segments : [{ rate: 1, seconds }]);
  const startAt = performance.timeOrigin + performance.now() + START_MS;
  const zero = startAt + plan.warmupSeconds * 1000;
  const elapsedMs = () => performance.timeOrigin + performance.now() - zero;
  const watch = new ServerWatch(target, zero);
  const live = new LiveBoard(plan.workers);
  const threads = Array.from(
    { length: plan.workers },
    (_, index) => new GeneratorThread(taskOf(index), (counts) => live.set(index, counts)),
  );
  const stop = () => threads.forEach((thread) => thread.stop());
  hooks.signal?.addEventListener('abort', stop);
  let stepsRun: number | undefined;
  const tell = setInterval(() => {
    const at = elapsedMs();
    if (loop.kind === 'open' && loop.segments.length > 1 && stepsRun === undefined) {
      stepsRun = stepsPastKnee(live.endedSteps(loop.segments, windowMs, at - plan.deadlineMs - SETTLE_MS));
      if (stepsRun !== undefined) stop();
    }
    hooks.onLive?.({
      ...live.total(),
      elapsedMs: Math.max(0, at),
      totalMs: seconds * 1000,
      isWarmup: at < 0,
      askedRate: loop.kind === 'open' ? rateAt(loop.segments, at) : undefined,
    });
  }, 250);
  const cpu = process.cpuUsage();
  watch.start();
  try {
    const events = hooks.during === undefined ? Promise.resolve([]) : hooks.during({ elapsedMs, seconds });
    // The run goes on to its end; an unhandled rejection meanwhile would end the process without a report.
    events.catch(stop);
    const recordings = await Promise.all(threads.map((thread) => thread.recording));
    const spent = process.cpuUsage(cpu);
    const wall = elapsedMs() + plan.warmupSeconds * 1000;
    hooks.signal?.throwIfAborted();
    const recording = mergeRecordings(recordings);
    const ran =
      stepsRun === undefined || loop.kind !== 'open' ? seconds : totalSeconds(loop.segments.slice(0, stepsRun));
    // The step after the last was under way.
    recording.windows.splice(Math.round((ran * 1000) / windowMs));
    return {
      recording,
      windowMs,
      seconds: ran,
      stepsRun,
      events: await events,
      generatorCpu: (spent.user + spent.system) / 1000 / wall,
      // After the end the server only works off what is left.
      server: (await watch.stop(), watch.samples.filter(({ at }) => at <= ran * 1000)),
    };
  } finally {
    clearInterval(tell);
    hooks.signal?.removeEventListener('abort', stop);
    await watch.stop();
    await Promise.all(threads.map((thread) => thread.close()));
  }

  function taskOf(index: number): GeneratorTask {
    const share = (total: number) => Math.floor(total / plan.workers) + (index < total % plan.workers ? 1 : 0);
    return {
      origin: target.origin,
      requests: mix.requests,
      order: mix.order,
      worker: { index, count: plan.workers },
      loop: loop.kind === 'open' ? loop : { ...loop, clients: share(loop.clients) },
      warmupSeconds: plan.warmupSeconds,
      connections: Math.max(1, share(plan.connections)),
      timeoutMs: plan.timeoutMs,
      deadlineMs: plan.deadlineMs,
      windowMs,
      keep: share(plan.keep),
      startAt,
      seed: plan.seed,
    };
  }
}

/** A whole number of windows in each segment, so that none holds two rates. */
function windowOf(segments: readonly Segment[]): number {
  const shortest = Math.min(...segments.map(({ seconds }) => seconds * 1000));
  const wanted = Math.max(WINDOW_MIN_MS, (totalSeconds(segments) * 1000) / WINDOWS_MAX);
  return shortest / Math.max(1, Math.floor(shortest / wanted));
}

function rateAt(segments: readonly Segment[], ms: number): number | undefined {
  let end = 0;
  for (const { rate, seconds } of segments) {
    end += seconds * 1000;
    if (ms < end) return rate;
  }
  return segments.at(-1)?.rate;
}

/** The newest counts of each thread, added up; `p99` is that of the worst. */
class LiveBoard {
  readonly #counts: (LiveCounts | undefined)[];

  constructor(count: number) {
    this.#counts = new Array(count).fill(undefined);
  }

  set(index: number, counts: LiveCounts): void {
    this.#counts[index] = counts;
  }

  /** Counts of the steps that were over at `until`, milliseconds from the start. */
  endedSteps(segments: readonly Segment[], windowMs: number, until: number): StepCounts[] {
    const ended: StepCounts[] = [];
    let from = 0;
    for (const { seconds } of segments) {
      const to = from + seconds * 1000;
      if (to > until) break;
      const sum = { offered: 0, inDeadline: 0 };
      for (const { windows } of this.#counts.filter((one) => one !== undefined))
        for (const one of windows.slice(Math.round(from / windowMs), Math.round(to / windowMs))) {
          sum.offered += one.offered;
          sum.inDeadline += one.inDeadline;
        }
      ended.push(sum);
      from = to;
    }
    return ended;
  }

  total(): Omit<LiveCounts, 'windows'> {
    const known = this.#counts.filter((one) => one !== undefined);
    const sum = (of: (one: LiveCounts) => number) => known.reduce((total, one) => total + of(one), 0);
    const worst = (of: (one: LiveCounts) => number | null) =>
      known.reduce<number | null>(
        (most, one) => (of(one) === null ? most : Math.max(most ?? 0, of(one) as number)),
        null,
      );
    return {
      offered: sum((one) => one.offered),
      answered: sum((one) => one.answered),
      errors: sum((one) => one.errors),
      degraded: sum((one) => one.degraded),
      p50: worst((one) => one.p50),
      p99: worst((one) => one.p99),
    };
  }
}

class GeneratorThread {
  readonly recording: Promise<Recording>;
  readonly #worker: Worker;

  constructor(task: GeneratorTask, onLive: (counts: LiveCounts) => void) {
    // Room for short-lived answers: fewer collections, and fewer answers that are moved by one.
    this.#worker = new Worker(workerFile(), { workerData: task, resourceLimits: { maxYoungGenerationSizeMb: 64 } });
    this.recording = new Promise((resolve, reject) => {
      this.#worker.on('message', (message: GeneratorMessage) => {
        if ('live' in message) onLive(message.live);
        else resolve(unpackRecording(message.recording));
      });
      this.#worker.once('error', reject);
      this.#worker.once('exit', () => reject(new BelfryError('BELFRY_INTERNAL', 'a generator thread ended early')));
    });
    // Heard by whoever awaits it; until then a failure of one must not end the process.
    this.recording.catch(() => undefined);
  }

  stop(): void {
    this.#worker.postMessage('stop');
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}

/** A worker needs JavaScript: beside the compiled module, or in `dist/` when a test runner executes the sources. */
function workerFile(): string {
  const candidates = ['./generator-worker.js', '../../../dist/bench/load/generator-worker.js'].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new BelfryError(
    'BELFRY_INTERNAL',
    `the generator is not built: ${candidates.join(', ')}; run \`npm run build\``,
  );
}
