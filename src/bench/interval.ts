/**
 * 95 % intervals by the bootstrap (Efron's percentile method): queries or users are drawn again, with repetition, from those
 * that were measured. Seeded, so that the same measurement gives the same interval.
 */
import { seeded } from './random.js';

export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

const RESAMPLES = 1000;
const TAIL = 0.025;

/** Of the sum of `parts` over the sum of `wholes`, both one a query. NaN without any. */
export function ratioInterval(parts: ArrayLike<number>, wholes: ArrayLike<number>): Interval {
  const count = parts.length;
  const random = seeded(20260119);
  const drawn = Float64Array.from({ length: count === 0 ? 0 : RESAMPLES }, () => {
    let part = 0;
    let whole = 0;
    for (let i = 0; i < count; i++) {
      const at = Math.floor(random() * count);
      part += parts[at]!;
      whole += wholes[at]!;
    }
    return part / whole;
  }).sort();
  const [part, whole] = [sum(parts), sum(wholes)];
  return { value: part / whole, low: quantile(drawn, TAIL), high: quantile(drawn, 1 - TAIL) };
}

export function meanInterval(values: ArrayLike<number>): Interval {
  return ratioInterval(values, new Uint8Array(values.length).fill(1));
}

/** `sorted` ascending; linear between the two nearest. NaN when it is empty. */
export function quantile(sorted: ArrayLike<number>, share: number): number {
  if (sorted.length === 0) return Number.NaN;
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)]!;
  const high = sorted[Math.ceil(at)]!;
  return low + (high - low) * (at - Math.floor(at));
}

/** In order, from first to last: the same bits as a plain loop elsewhere. */
export function sum(values: ArrayLike<number>): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total;
}
