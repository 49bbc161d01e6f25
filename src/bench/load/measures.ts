/** Numbers of a stretch of a run: of all of it, a step of a ramp, or the time of a swap. */
import { mergeWindows, percentileMs, type Window } from './recording.js';

export const PERCENTILES = [50, 75, 90, 95, 99, 99.9, 99.99] as const;

export interface Measures {
  readonly seconds: number;
  readonly offered: number;
  /** Answers of any status, by the time they came. */
  readonly completed: number;
  readonly ok: number;
  readonly failed: number;
  readonly degraded: number;
  /** Answers a second. */
  readonly throughput: number;
  /** 2xx before the deadline: a second, and as a share of what was offered (null where nothing was). */
  readonly goodput: number;
  readonly goodShare: number | null;
  /** Milliseconds by percentile; null without an answer. */
  readonly latency: ReadonlyMap<number, number | null>;
  readonly maxMs: number | null;
  readonly window: Window;
}

export function measuresOf(windows: readonly (Window | undefined)[], windowMs: number): Measures {
  const window = mergeWindows(windows);
  const seconds = (windows.length * windowMs) / 1000;
  const { offered, completed, ok, inDeadline, latency } = window;
  const failed = Object.values(window.errors).reduce((sum, count) => sum + count, 0);
  return {
    seconds,
    offered,
    completed,
    ok,
    failed,
    degraded: window.degradedAnswers,
    throughput: completed / seconds,
    goodput: inDeadline / seconds,
    goodShare: offered === 0 ? null : inDeadline / offered,
    latency: new Map(PERCENTILES.map((percentile) => [percentile, percentileMs(latency, percentile)])),
    maxMs: latency.totalCount === 0 ? null : latency.maxValue / 1000,
    window,
  };
}

/** The windows of a stretch of time, milliseconds from the start. */
export function windowsBetween(
  windows: readonly (Window | undefined)[],
  windowMs: number,
  from: number,
  to: number,
): (Window | undefined)[] {
  return windows.slice(Math.max(0, Math.floor(from / windowMs)), Math.max(0, Math.ceil(to / windowMs)));
}

/** `p99`, `p99.9`. */
export const nameOf = (percentile: number): string => `p${percentile}`;

/** Samples needed for a percentile to stand on ten answers beyond it. */
export function samplesNeeded(percentile: number): number {
  return Math.round(10 / (1 - percentile / 100));
}

/** A step of a ramp. */
export interface Step extends Measures {
  readonly rate: number;
}

export interface Knee {
  /** The highest rate that was served well, after lower ones that all were; null when the first was not. */
  readonly rate: number | null;
  /** False when every step was served well: the knee lies beyond the ramp. */
  readonly isFound: boolean;
}

/** Served well: this share of the requests was answered before the deadline. */
export const GOOD_SHARE = 0.99;

/** A step that fails between two that do not is a stall of something else, not the knee. */
export function kneeOf(steps: readonly Step[]): Knee {
  const failing = steps.findIndex((step, i) => !isGood(step) && !isGood(steps[i + 1]));
  if (failing < 0) return { rate: steps.at(-1)?.rate ?? null, isFound: false };
  return { rate: failing === 0 ? null : (steps[failing - 1] as Step).rate, isFound: true };
}

function isGood(step: Pick<Step, 'goodShare'> | undefined): boolean {
  return step !== undefined && step.goodShare !== null && step.goodShare >= GOOD_SHARE;
}

/** What has been counted of a step while a ramp runs. */
export interface StepCounts {
  offered: number;
  inDeadline: number;
}

/** Steps to keep of a ramp that has passed its knee, which two bad steps in a row show; undefined while it has not. */
export function stepsPastKnee(ended: readonly StepCounts[]): number | undefined {
  const good = ended.map(({ offered, inDeadline }) => inDeadline >= GOOD_SHARE * offered);
  const bad = good.findIndex((one, i) => i > 0 && !one && !good[i - 1]);
  return bad < 0 ? undefined : bad + 1;
}
