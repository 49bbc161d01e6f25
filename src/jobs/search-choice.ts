/** How the job searches: the one place that turns what is asked for into options of the native search. */
import type { NativeSearch } from '../ann/addon.js';

export interface SearchNeeds {
  readonly k: number;
  /** The true top k, proven. */
  readonly exact: boolean;
  /** Share of the true top k that is enough; 1 asks for a proof too. */
  readonly recall?: number | undefined;
}

export interface SearchChoice {
  readonly search: Pick<NativeSearch, 'mode'>;
  /** For people, in the words of `explain` online. */
  readonly path: string;
}

/** A batch of all users is cheapest as a scan of every row, whose recall is above any target; see docs/retrieve-all.md. */
export function chooseSearch({ exact, recall }: SearchNeeds): SearchChoice {
  return exact || recall === 1
    ? { search: { mode: 'exact' }, path: 'scan (8-bit codes, proven exact)' }
    : { search: { mode: 'codes' }, path: 'scan (8-bit codes, f32 rescoring)' };
}
