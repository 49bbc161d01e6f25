/** The time that a request may take. Deadlines abandon work, they never abort it (a model run cannot be stopped). */
import { BelfryError } from '../errors.js';

export class Deadline {
  private readonly end: number;

  constructor(readonly timeoutMs: number) {
    this.end = performance.now() + timeoutMs;
  }

  get remainingMs(): number {
    return this.end - performance.now();
  }

  /**
   * Resolves to the work's result, or to undefined when the time left (less a reserve for writing the answer) passes
   * first. The late work goes on and its result, or its failure, is dropped.
   */
  within<T>(work: Promise<T>, reserveMs = 0): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, Math.max(0, this.remainingMs - reserveMs), undefined);
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

  /** For work without which there is nothing to answer. Error: BELFRY_DEADLINE_EXCEEDED. */
  async orThrow<T>(work: Promise<T>, what: string): Promise<T> {
    const result = await this.within(work.then((value) => ({ value })));
    if (result !== undefined) return result.value;
    throw new BelfryError(
      'BELFRY_DEADLINE_EXCEEDED',
      `the deadline of ${this.timeoutMs} ms passed while ${what}; raise timeout_ms or lower k`,
      { field: 'timeout_ms', limit: this.timeoutMs },
    );
  }
}

/** Wall time by stage, milliseconds. */
export class StageTimer {
  private readonly started = performance.now();
  private last = this.started;
  readonly stages: Record<string, number> = {};

  /** Books the time since the last mark on a stage. */
  mark(stage: string): void {
    const now = performance.now();
    this.stages[stage] = (this.stages[stage] ?? 0) + (now - this.last);
    this.last = now;
  }

  finish(): Record<string, number> {
    const total = performance.now() - this.started;
    const rounded: Record<string, number> = {};
    for (const [stage, ms] of Object.entries({ ...this.stages, total })) rounded[stage] = Math.round(ms * 1000) / 1000;
    return rounded;
  }
}
