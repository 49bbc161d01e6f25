/** From the sweep to what to ask for: the cheapest request for each recall, and where more recall gets dear. */
import { type Asking, describeAsking, type EffortPoint, paretoFront } from './sweep.js';

export interface Suggestion {
  readonly k: number;
  /** The recall that is surely reached. */
  readonly atLeast: number;
  /** The fastest that reaches it: a recall to ask for, `exact`, or (where no recall will do) an `ef`. */
  readonly point: EffortPoint;
}

const LEVELS = [0.9, 0.95, 0.98, 0.99, 0.995, 1];
/** Halving the misses may cost so many times the time before it counts as dear. */
const FAIR_PRICE = 1.5;
/** Within this factor of the fastest a plain request beats an expert's one. */
const AS_FAST = 1.1;

/** By k and level; levels that nothing reaches are left out. */
export function suggestions(points: readonly EffortPoint[]): Suggestion[] {
  const ks = [...new Set(points.map(({ k }) => k))];
  return ks.flatMap((k) =>
    LEVELS.flatMap((atLeast) => {
      const good = points.filter(({ k: own, recall }) => own === k && recall.low >= atLeast);
      if (good.length === 0) return [];
      const fastest = Math.min(...good.map(({ p50 }) => p50));
      const near = good.filter(({ p50 }) => p50 <= fastest * AS_FAST).sort((a, b) => a.p50 - b.p50);
      const point = near.find(({ asking }) => !('ef' in asking)) ?? near[0]!;
      return [{ k, atLeast, point }];
    }),
  );
}

/** Along the front of one k: the last point to which each halving of the misses cost less than half as much time again. */
export function knee(points: readonly EffortPoint[], k: number): EffortPoint | undefined {
  const front = paretoFront(points.filter((point) => point.k === k && point.recall.value >= 0.8));
  let chosen = front[0];
  for (const point of front.slice(1)) {
    const missed = 1 - chosen!.recall.value;
    const left = 1 - point.recall.value;
    // Nothing missed any more is as good as half of the smallest miss seen.
    const halvings = Math.log2(missed / Math.max(left, missed / 64));
    if (halvings > 0 && point.p50 / chosen!.p50 <= FAIR_PRICE ** halvings) chosen = point;
  }
  return chosen;
}

/** As a field of a request, for people. */
export function asField(asking: Asking): string {
  if ('exact' in asking) return '"exact": true';
  return 'ef' in asking ? `"ef": ${asking.ef}` : `"recall": ${asking.recall}`;
}

export function advice(points: readonly EffortPoint[], k: number): string | undefined {
  const chosen = knee(points, k);
  if (chosen === undefined) return undefined;
  const exact = points.find((point) => point.k === k && 'exact' in point.asking);
  if (exact !== undefined && exact.p50 <= chosen.p50 * AS_FAST)
    return `at k ${k} ask for "exact": true: proven answers cost no more than ${describeAsking(chosen.asking)}`;
  return `at k ${k} ask for ${asField(chosen.asking)}: beyond it, each halving of what is missed costs more than half as much time again`;
}
