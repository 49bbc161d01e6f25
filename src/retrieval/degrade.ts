/**
 * The ladder: what a request gets when there is no room or no time for all that it asks for. In this order: less recall, no
 * re-rank, no more candidates than are answered; then an answer that was given before, or the popular list; then a refusal.
 */
import type { OverloadSettings } from '../config/overload.js';
import { BelfryError } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import type { Degradation } from '../types.js';
import type { ItemView } from '../upserts/item-view.js';
import { depthOf } from './arrange/arrange-stage.js';
import type { Deadline } from './deadline.js';
import { PopularLists } from './popular-list.js';
import { RecentAnswers } from './recent-answers.js';
import type { RetrieveRequest, RetrieveResponse } from './request.js';

export interface Lowered {
  readonly request: RetrieveRequest;
  /** Stages add to it. */
  readonly degraded: Degradation[];
}

/** A request as it is run at a level; steps that change nothing are not named. */
export function lowered(
  request: RetrieveRequest,
  level: number,
  floor: number,
  { searcher }: Pick<Generation, 'searcher'>,
): Lowered {
  const degraded: Degradation[] = [];
  const wanted = request.recall ?? searcher.planner.defaultRecall;
  const isChosen = request.exact || request.ef !== undefined || wanted === 1;
  if (level >= 1 && !isChosen && wanted > floor && searcher.planner.isCalibrated) degraded.push('recall_lowered');
  if (level >= 2 && request.rerank !== false) degraded.push('rerank_skipped');
  if (level >= 3 && depthOf(request, false) > request.k) degraded.push('candidates_lowered');
  if (degraded.length === 0) return { request, degraded };
  // Under overload this runs for each level of each request: one copy, not one a step.
  const run = {
    ...request,
    recall: degraded.includes('recall_lowered') ? floor : request.recall,
    rerank: degraded.includes('rerank_skipped') ? false : request.rerank,
    candidates: degraded.includes('candidates_lowered') ? request.k : request.candidates,
  };
  return { request: run, degraded };
}

/** The rungs below a search: they cost a look-up. */
export class Fallback {
  private readonly recent: RecentAnswers;
  private readonly popular = new PopularLists();

  constructor(private readonly settings: Pick<OverloadSettings, 'degrade' | 'cached_items'>) {
    this.recent = new RecentAnswers(settings.cached_items);
  }

  /** Makes the popular list of a generation that begins to serve. */
  prepare(generation: Generation): Promise<void> {
    return this.popular.prepare(generation);
  }

  keep(request: RetrieveRequest, view: ItemView, answer: RetrieveResponse): void {
    this.recent.keep(request, view, answer);
  }

  /** Undefined where the failure is the caller's, where he wants all or nothing, where it is too late, or where nothing useful is at hand. */
  instead(error: unknown, request: RetrieveRequest, view: ItemView, deadline: Deadline): RetrieveResponse | undefined {
    if (!this.settings.degrade || request.strict || deadline.isPast || !isOurs(error)) return undefined;
    return this.recent.find(request, view) ?? this.popular.answer(request, view);
  }
}

function isOurs(error: unknown): boolean {
  return (
    error instanceof BelfryError && (error.code === 'BELFRY_OVERLOADED' || error.code === 'BELFRY_DEADLINE_EXCEEDED')
  );
}
