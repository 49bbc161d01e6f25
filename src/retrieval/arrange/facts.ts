import type { Id } from '../../types.js';

/** What the rules of a request did, for `explain`. */
export interface RuleFacts {
  readonly set?: string;
  readonly diversity?: number;
  readonly boosted?: number;
  readonly below_min_score?: number;
  /** Candidates that a full group kept out. */
  readonly capped?: number;
  /** Searches made because of caps, besides the first. */
  readonly further_searches?: number;
  readonly pinned?: number;
  readonly pins_left_out?: readonly Id[];
}
