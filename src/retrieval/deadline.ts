/** The time that a request may take. Deadlines abandon work, they never abort it (a model run cannot be stopped). */
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
  async within<T>(work: Promise<T>, reserveMs = 0): Promise<T | undefined> {
    const left = Math.max(0, this.remainingMs - reserveMs);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(resolve, left, undefined);
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      clearTimeout(timer);
      // Whoever waited has its answer; a failure that comes later must not count as unhandled.
      work.catch(() => undefined);
    }
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
