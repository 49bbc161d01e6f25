/**
 * What changed from report A to report B, with the noise of both: each metric's samples are drawn again with repetition
 * (bootstrap), which gives an interval of the change. A change is called when the whole interval lies beyond the tolerance.
 */
import { BelfryError } from '../../errors.js';
import { quantile } from '../interval.js';
import { seeded } from '../random.js';
import type { BenchReport, MetricValue } from '../report/schema.js';
import { mean, median } from '../statistics.js';

/** `unsure`: it may have changed, and the samples do not say. `changed`: surely, in a metric without a good direction. */
export type Verdict = 'better' | 'worse' | 'same' | 'unsure' | 'changed';

export interface Change {
  readonly name: string;
  readonly label: string;
  readonly unit: MetricValue['unit'];
  readonly better: MetricValue['better'];
  readonly a: number | null;
  readonly b: number | null;
  /** Of a share: B - A. Of all else: B / A - 1. Null where it cannot be told: no value, or a zero to divide by. */
  readonly change: number | null;
  /** Null without samples on both sides. */
  readonly interval: { readonly low: number; readonly high: number } | null;
  readonly verdict: Verdict;
}

export interface CompareOptions {
  /** Relative change that does not matter: 0.05 is 5 %. */
  readonly tolerance: number;
  /** The same of shares, absolute: 0.005 is half a point. */
  readonly shareTolerance: number;
}

export const COMPARE_DEFAULTS: CompareOptions = { tolerance: 0.05, shareTolerance: 0.005 };

const RESAMPLES = 2000;
/** Fewer samples than this on a side give no interval worth the name. */
const SAMPLES_MIN = 3;
/** Chance that any of the metrics of two equal reports is called changed. */
const FALSE_ALARM = 0.05;

/** Error: BELFRY_BENCH_REPORT where the reports are of different benches, or share no metric. */
export function compareReports(a: BenchReport, b: BenchReport, options: CompareOptions): Change[] {
  if (a.bench !== b.bench)
    throw new BelfryError(
      'BELFRY_BENCH_REPORT',
      `expected two reports of one bench, received ${a.bench} and ${b.bench}`,
    );
  const pairs = a.summary.flatMap((one) => {
    const other = b.summary.find(({ name }) => name === one.name);
    return other === undefined ? [] : [{ one, other }];
  });
  if (pairs.length === 0)
    throw new BelfryError(
      'BELFRY_BENCH_REPORT',
      'the two reports share no metric: their summaries name different ones',
    );
  // Many metrics at 95 % each would cry wolf in most comparisons: the chance is shared among them (Bonferroni).
  const judged = pairs.filter(({ one, other }) => hasSamples(one) && hasSamples(other)).length;
  const tail = FALSE_ALARM / Math.max(1, judged) / 2;
  return pairs.map(({ one, other }) => changeOf(one, other, tail, options));
}

function hasSamples({ samples }: MetricValue): boolean {
  return samples !== undefined && samples.length >= SAMPLES_MIN;
}

function changeOf(a: MetricValue, b: MetricValue, tail: number, options: CompareOptions): Change {
  const isShare = a.unit === 'share';
  const difference = (from: number, to: number): number | null => {
    if (isShare) return to - from;
    if (from === 0) return to === 0 ? 0 : null;
    return to / from - 1;
  };
  const change = a.value === null || b.value === null ? null : difference(a.value, b.value);
  const interval =
    hasSamples(a) && hasSamples(b)
      ? bootstrap(a.samples as number[], b.samples as number[], isShare, difference, tail)
      : null;
  const tolerance = isShare ? options.shareTolerance : options.tolerance;
  return {
    name: a.name,
    label: a.label,
    unit: a.unit,
    better: a.better,
    a: a.value,
    b: b.value,
    change,
    interval,
    verdict: verdictOf(a, b, change, interval, tolerance),
  };
}

/** Interval of the difference of means (shares), or of medians (all else: one stall must not decide). */
function bootstrap(
  a: readonly number[],
  b: readonly number[],
  isShare: boolean,
  difference: (from: number, to: number) => number | null,
  tail: number,
): { low: number; high: number } | null {
  const random = seeded(20260119);
  const middle = isShare ? mean : median;
  const draw = (values: readonly number[]): number =>
    middle(Array.from(values, () => values[Math.floor(random() * values.length)] as number));
  const drawn: number[] = [];
  for (let i = 0; i < RESAMPLES; i++) {
    const one = difference(draw(a), draw(b));
    if (one !== null) drawn.push(one);
  }
  if (drawn.length < RESAMPLES) return null; // a metric that is mostly 0 has no relative change
  const sorted = drawn.sort((x, y) => x - y);
  return { low: quantile(sorted, tail), high: quantile(sorted, 1 - tail) };
}

function verdictOf(
  a: MetricValue,
  b: MetricValue,
  change: number | null,
  interval: { low: number; high: number } | null,
  tolerance: number,
): Verdict {
  if (a.value === null || b.value === null) return 'unsure';
  if (a.value === b.value) return 'same';
  // From nothing to something (a first error, a first failed request) has no ratio, and is no noise.
  if (change === null) return directed(b.value > a.value, a.better);
  if (interval === null) return Math.abs(change) <= tolerance ? 'same' : 'unsure';
  if (interval.low > tolerance) return directed(true, a.better);
  if (interval.high < -tolerance) return directed(false, a.better);
  return interval.low >= -tolerance && interval.high <= tolerance ? 'same' : 'unsure';
}

function directed(isUp: boolean, better: MetricValue['better']): Verdict {
  if (better === 'none') return 'changed';
  return isUp === (better === 'higher') ? 'better' : 'worse';
}
