/** What a load was: who was asked for what, what came of it, and the limits that it was held against. */
import type { RequestMix } from './mix.js';
import type { LoadPlan, LoadResult } from './run-load.js';

/** Recall of the answers received; `note` says what they were compared with. */
export interface AnswerRecall {
  readonly k: number;
  /** Share of the true top k that was answered, over all judged answers; null where none could be judged. */
  readonly recall: number | null;
  readonly judged: number;
  /** One value an answer. */
  readonly values: readonly number[];
  /** Of each re-ranked answer: how much of the exact list its candidates hold, down to the deepest that it shows. */
  readonly behind: readonly number[];
  readonly note: string;
}

export interface LoadRun {
  readonly result: LoadResult;
  readonly recall?: AnswerRecall;
}

export interface LoadGates {
  readonly maxP99Ms?: number | undefined;
  readonly maxP999Ms?: number | undefined;
  readonly minGoodput?: number | undefined;
  readonly minRecall?: number | undefined;
  readonly maxErrorShare?: number | undefined;
}

export interface LoadSubject {
  readonly url: string;
  readonly mix: RequestMix;
  readonly plan: LoadPlan;
  readonly during?: string | undefined;
  readonly started: Date;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly gates: LoadGates;
}
