/** The time that a request may take. Deadlines abandon work, they never abort it (a model run cannot be stopped). */
import { BelfryError } from '../errors.js';
import type { StageSpan } from '../telemetry/tracing.js';

/** Kept back from stages, for cutting and writing the answer, or for finding another one. */
export const RESERVE_MS = 3;

/**
 * Kept back from waiting for a search, a tower or a reranker: a share of the deadline, since those who give up waiting do so together, on a
 * machine that is busy then, and each of them must still be answered.
 */
const WAITING_RESERVE = { share: 0.15, leastMs: RESERVE_MS, mostMs: 20 };

export class Deadline {
  /** Performance time. */
  readonly end: number;

  /** `startedAt` is of the monotonic clock: a clock that is set moves no deadline. */
  constructor(
    readonly timeoutMs: number,
    startedAt: number = performance.now(),
  ) {
    this.end = startedAt + timeoutMs;
  }

  get remainingMs(): number {
    return this.end - performance.now();
  }

  /** Milliseconds before the end at which waiting is given up. */
  get waitingReserveMs(): number {
    const { share, leastMs, mostMs } = WAITING_RESERVE;
    return Math.max(leastMs, Math.min(mostMs, share * this.timeoutMs));
  }

  get isPast(): boolean {
    return this.remainingMs <= 0;
  }

  /** What a stage may take: no more than its own cap, and no more than is left when the reserve is kept. */
  budgetMs(capMs = Infinity, reserveMs = RESERVE_MS): number {
    return Math.max(0, Math.min(capMs, this.remainingMs - reserveMs));
  }

  /**
   * Resolves to the work's result, or to undefined when the time left (less a reserve) passes first. The late work goes
   * on and its result, or its failure, is dropped.
   */
  within<T>(work: Promise<T>, reserveMs = 0): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, this.budgetMs(Infinity, reserveMs), undefined);
      work.then(
        (value) => {
          clearTimeout(timer);
          resolve(value);
        },
        (error: unknown) => {
          clearTimeout(timer);
          reject(error); // unheard once the time has passed
        },
      );
    });
  }

  /** For work without which there is nothing to answer; what is there already needs no timer. Error: BELFRY_DEADLINE_EXCEEDED. */
  orThrow<T>(work: T | Promise<T>, what: string): T | Promise<T> {
    return work instanceof Promise ? this.inTime(work, what) : work;
  }

  private async inTime<T>(work: Promise<T>, what: string): Promise<T> {
    const result = await this.within(
      work.then((value) => ({ value })),
      this.waitingReserveMs,
    );
    if (result !== undefined) return result.value;
    throw this.exceeded(`while ${what}`);
  }

  exceeded(when: string): BelfryError {
    return new BelfryError(
      'BELFRY_DEADLINE_EXCEEDED',
      `the deadline of ${this.timeoutMs} ms passed ${when}; raise timeout_ms or lower k`,
      { field: 'timeout_ms', limit: this.timeoutMs },
    );
  }
}

/** Wall time by stage, milliseconds. */
export class StageTimer {
  private readonly started = performance.now();
  private last = this.started;
  private readonly names: string[] = [];
  private readonly spent: number[] = [];

  /** Books the time since the last mark on a stage. */
  mark(stage: string): void {
    const now = performance.now();
    const known = this.names.indexOf(stage);
    if (known >= 0) this.spent[known]! += now - this.last;
    else {
      this.names.push(stage);
      this.spent.push(now - this.last);
    }
    this.last = now;
  }

  /** In the order of their first marks. */
  each(hear: (stage: string, ms: number) => void): void {
    for (let at = 0; at < this.names.length; at++) hear(this.names[at]!, this.spent[at]!);
  }

  /** Stages one after the other, as they were marked; what was marked again is one longer stage. */
  spans(): StageSpan[] {
    let at = this.started;
    return this.names.map((name, stage) => ({ name, startMs: at, endMs: (at += this.spent[stage]!) }));
  }

  finish(): Record<string, number> {
    const total = performance.now() - this.started;
    const rounded: Record<string, number> = {};
    this.each((stage, ms) => (rounded[stage] = Math.round(ms * 1000) / 1000));
    rounded.total = Math.round(total * 1000) / 1000;
    return rounded;
  }
}
