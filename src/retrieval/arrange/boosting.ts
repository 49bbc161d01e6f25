/** Boosts over candidates: one evaluated filter (cached, as all filters) and one pass over the scores each. */
import { BelfryError } from '../../errors.js';
import type { Pass } from '../pass.js';
import type { Boost } from './rules.js';

export interface Boosted {
  /** By place in `rows`. */
  readonly scores: Float32Array;
  /** Candidates that one boost at least changed. */
  readonly count: number;
}

/**
 * Boosts apply in their order, each to the score that the ones before it left. A factor multiplies a score from 0 up and
 * divides one below 0, so that above 1 always lifts and below 1 always lowers, whatever the sign of scores (those of l2
 * are never positive). Errors: those of a filter, with the place of the boost.
 */
export async function boost(
  { view, deadline }: Pass,
  boosts: readonly Boost[],
  rows: Uint32Array,
  given: Float32Array,
): Promise<Boosted> {
  const scores = Float32Array.from(given);
  const changed = new Uint8Array(rows.length);
  for (const [at, { filter, add = 0, multiply = 1 }] of boosts.entries()) {
    const evaluating = view
      .evaluate(filter, () => deadline.remainingMs)
      .catch((error: unknown) => {
        throw placed(error, `boosts.${at}.`);
      });
    const passes = view.allows(await deadline.orThrow(evaluating, 'filtering'), rows);
    for (const [place, passed] of passes.entries()) {
      if (passed === 0) continue;
      changed[place] = 1;
      const score = scores[place]!;
      scores[place] = (score < 0 ? score / multiply : score * multiply) + add;
    }
  }
  return { scores, count: changed.reduce((sum, one) => sum + one, 0) };
}

function placed(error: unknown, place: string): unknown {
  if (!(error instanceof BelfryError) || error.field === undefined) return error;
  const { code, message, field, limit } = error;
  return new BelfryError(code, `${place}${message}`, {
    field: `${place}${field}`,
    ...(limit === undefined ? {} : { limit }),
    cause: error,
  });
}
