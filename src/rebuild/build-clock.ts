/** How far a build is: its stages with their seconds, and what is left by the stages of a build before it. */
import type { BuildProgress } from '../generation/build.js';

export interface BuildView {
  readonly stage: string;
  readonly done: number;
  readonly total: number;
  readonly seconds: number;
  /** Null when no build before it tells. */
  readonly eta_seconds: number | null;
}

/** A share so small says nothing about the speed of a stage. */
const SHARE_MIN = 0.02;

export class BuildClock {
  private readonly started: number;
  private stageStarted: number;
  private current: BuildProgress = { stage: 'start', done: 0, total: 1 };
  private readonly ended = new Map<string, number>();

  /** `before`: seconds by stage of the last build of this data folder; `now` in milliseconds, monotonic. */
  constructor(
    private readonly before: Readonly<Record<string, number>> = {},
    private readonly now: () => number = () => performance.now(),
  ) {
    this.started = this.stageStarted = now();
  }

  update(progress: BuildProgress): void {
    if (progress.stage !== this.current.stage) {
      this.endStage();
      this.stageStarted = this.now();
    }
    this.current = progress;
  }

  get seconds(): number {
    return rounded(this.now() - this.started);
  }

  /** Seconds of each stage until now, in order. */
  get stages(): Record<string, number> {
    const { stage } = this.current;
    const seconds = (this.ended.get(stage) ?? 0) * 1000 + this.now() - this.stageStarted;
    return { ...Object.fromEntries(this.ended), [stage]: rounded(seconds) };
  }

  view(): BuildView {
    const { stage, done, total } = this.current;
    return { stage, done, total, seconds: this.seconds, eta_seconds: this.eta() };
  }

  private endStage(): void {
    const { stage } = this.current;
    const seconds = (this.now() - this.stageStarted) / 1000 + (this.ended.get(stage) ?? 0);
    this.ended.set(stage, rounded(seconds * 1000));
  }

  private eta(): number | null {
    const { stage, done, total } = this.current;
    if (Object.keys(this.before).length === 0) return null;
    const share = total > 0 ? done / total : 0;
    const gone = (this.now() - this.stageStarted) / 1000;
    const ofStage =
      share >= SHARE_MIN ? (gone / share) * (1 - share) : Math.max(0, (this.before[stage] ?? 0) - gone);
    const later = Object.entries(this.before)
      .filter(([name]) => name !== stage && !this.ended.has(name))
      .reduce((sum, [, seconds]) => sum + seconds, 0);
    return Math.ceil(ofStage + later);
  }
}

function rounded(milliseconds: number): number {
  return Math.round(milliseconds) / 1000;
}
