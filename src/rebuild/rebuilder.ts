/**
 * Builds of a server, beside what it serves: one at a time, in a process of their own. It only publishes; what follows
 * CURRENT puts the new generation live. Builds by other processes into the same data folder are seen by the history.
 */
import { BelfryError, type ErrorCode } from '../errors.js';
import { writerOf } from '../generation/writer-lock.js';
import { BuildClock, type BuildView } from './build-clock.js';
import type { BuildTask } from './builder-process.js';
import { BuildHistory, type BuildRecord, problemOf, type Trigger } from './history.js';
import { recordedBuild, type RecordedBuild } from './recorded-build.js';

export type RebuildEvent =
  | { readonly kind: 'started'; readonly trigger: Trigger }
  | { readonly kind: 'stage'; readonly stage: string }
  /** Here, or in another process on the same data folder. */
  | { readonly kind: 'ended'; readonly record: BuildRecord }
  | { readonly kind: 'warning'; readonly error: BelfryError };

export interface RebuilderOptions {
  /** The models folder and how it is taken; `data` is the data folder. */
  readonly task: BuildTask;
  readonly onEvent?: (event: RebuildEvent) => void;
  /** How often the history is looked at. */
  readonly pollMs?: number;
}

export interface RebuildRequest {
  readonly force?: boolean;
  /** Gates that may fail. */
  readonly overrides?: BuildTask['overrides'];
}

export interface RunningView extends BuildView {
  readonly trigger: Trigger;
}

/** What routes ask of the builds, wherever they run. */
export interface Rebuilds extends Pick<Rebuilder, 'view' | 'builtElsewhere' | 'builds' | 'cancel'> {
  readonly problem: BelfryError | undefined;
  start(trigger: Trigger, request?: RebuildRequest): Promise<unknown>;
}

interface Running {
  readonly trigger: Trigger;
  readonly stop: AbortController;
  clock: BuildClock;
  ended: Promise<RecordedBuild>;
}

const POLL_MS = 2_000;

export class Rebuilder {
  /** The last build that failed and is not made good yet. */
  problem: BelfryError | undefined;
  private readonly history: BuildHistory;
  private running: Running | undefined;
  private isStarting = false;
  private isClosed = false;
  private seen: string | undefined;
  private version = -1;
  private timer: NodeJS.Timeout | undefined;

  get task(): BuildTask {
    return this.options.task;
  }

  constructor(private readonly options: RebuilderOptions) {
    this.history = new BuildHistory(options.task.data);
  }

  /** Learns what became of the last build, and follows the history from then on. */
  async open(): Promise<void> {
    this.seen = (await this.history.read()).at(-1)?.started;
    await this.look();
    this.timer = setInterval(() => void this.look(), this.options.pollMs ?? POLL_MS).unref();
  }

  /**
   * Starts a build and returns; `ended` of the result resolves at its end and never rejects. Errors:
   * BELFRY_BUILD_RUNNING, here or in another process; BELFRY_CLOSED.
   */
  async start(trigger: Trigger, request: RebuildRequest = {}): Promise<{ readonly ended: Promise<RecordedBuild> }> {
    const { task } = this.options;
    if (this.isClosed) throw new BelfryError('BELFRY_CLOSED', 'the process is stopping');
    if (this.running !== undefined || this.isStarting) {
      throw new BelfryError(
        'BELFRY_BUILD_RUNNING',
        'a build is running already; wait for it, or cancel it with DELETE /admin/rebuild',
      );
    }
    this.isStarting = true;
    try {
      const other = await writerOf(task.data);
      if (other !== undefined) {
        throw new BelfryError(
          'BELFRY_BUILD_RUNNING',
          `process ${other} builds into this data folder; wait for it, or stop it there`,
        );
      }
    } finally {
      this.isStarting = false;
    }
    const stop = new AbortController();
    const running: Running = { trigger, stop, clock: new BuildClock(), ended: undefined as never };
    this.running = running;
    this.tell({ kind: 'started', trigger });
    let stage = '';
    running.ended = recordedBuild({ ...task, ...request }, trigger, {
      signal: stop.signal,
      onClock: (clock) => {
        running.clock = clock;
      },
      onProgress: (progress) => {
        if (progress.stage !== stage) this.tell({ kind: 'stage', stage: progress.stage });
        stage = progress.stage;
      },
      onWarning: (error) => this.tell({ kind: 'warning', error }),
      onUnrecorded: (error) => this.tell({ kind: 'warning', error }),
    }).then((build) => {
      this.running = undefined;
      if (build.isRecorded) this.seen = build.record.started;
      this.take(build.record);
      return build;
    });
    return { ended: running.ended };
  }

  /** Undefined when this process builds nothing. */
  view(): RunningView | undefined {
    const { running } = this;
    if (running === undefined) return undefined;
    return { trigger: running.trigger, ...running.clock.view() };
  }

  /** Process id of whoever else builds into the data folder. */
  async builtElsewhere(): Promise<number | undefined> {
    return this.running === undefined ? writerOf(this.options.task.data) : undefined;
  }

  /** Newest first. */
  async builds(): Promise<BuildRecord[]> {
    return (await this.history.read()).reverse();
  }

  /** Stops the build that this process runs; resolves when it is gone. Error: BELFRY_NO_BUILD. */
  async cancel(reason = 'cancelled by request'): Promise<BuildRecord> {
    const { running } = this;
    if (running === undefined)
      throw new BelfryError('BELFRY_NO_BUILD', 'no build is running in this process; nothing was cancelled');
    running.stop.abort(new BelfryError('BELFRY_STOPPED', `the build was ${reason}`));
    return (await running.ended).record;
  }

  async close(): Promise<void> {
    this.isClosed = true;
    clearInterval(this.timer);
    if (this.running !== undefined) await this.cancel('cancelled: the server is stopping');
  }

  /** A record by another process is news, too. */
  private async look(): Promise<void> {
    const version = await this.history.version();
    if (version === this.version || this.running !== undefined) return;
    this.version = version;
    const records = await this.history.read();
    const problem = problemOf(records);
    this.problem = problem && new BelfryError(problem.code as ErrorCode, problem.message!);
    const last = records.at(-1);
    if (last === undefined || last.started === this.seen) return;
    this.seen = last.started;
    this.tell({ kind: 'ended', record: last });
  }

  private take(record: BuildRecord): void {
    // Another process builds: what is wrong with this export, if anything, will be in its record.
    if (record.code === 'BELFRY_LOCKED') return this.tell({ kind: 'ended', record });
    if (record.result === 'failed') this.problem = new BelfryError(record.code as ErrorCode, record.message!);
    else if (record.result !== 'cancelled') this.problem = undefined;
    this.tell({ kind: 'ended', record });
  }

  private tell(event: RebuildEvent): void {
    this.options.onEvent?.(event);
  }
}
