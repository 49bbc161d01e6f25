/** How the job searches: the one place that turns what is asked for into options of the native search. */
import type { Effort } from '../ann/planner.js';
import type { Generation } from '../generation/generation.js';

export interface SearchNeeds {
  readonly k: number;
  /** Users of one search. */
  readonly batch: number;
  /** The true top k, proven. */
  readonly exact: boolean;
  /** Share of the true top k that is enough; 1 asks for a proof too. */
  readonly recall?: number | undefined;
  /** Share of the items that may be returned. */
  readonly share: number;
}

export interface SearchChoice {
  readonly effort: Effort;
  /** For people: what is done, and why. */
  readonly path: string;
}

const PATHS = {
  exact: 'scan, proven exact',
  codes: 'scan, f32 rescoring',
  f32: 'scan of f32 vectors',
  probe: 'scan of partitions',
  walk: 'walk',
} as const satisfies Record<Effort['mode'], string>;

/** Whichever is cheapest for batches of this size at the recall asked for, by what the build has measured. */
export function chooseSearch(generation: Generation, { k, batch, exact, recall, share }: SearchNeeds): SearchChoice {
  const { effort, why } = generation.searcher.planner.plan({
    k,
    batch,
    ...(exact || recall === 1 ? { exact: true } : { recall }),
    ...(share < 1 ? { share } : {}),
  });
  const depth = effort.ef === undefined ? '' : ` with ef ${effort.ef}`;
  return { effort, path: `${PATHS[effort.mode]}${depth} (${why})` };
}
