/** Stands before the stages: lets a request in, in the form that there is room and time for, and finds another answer where there is none. */
import type { OverloadSettings } from '../config/overload.js';
import type { Generation } from '../generation/generation.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { ItemView } from '../upserts/item-view.js';
import { Admission } from './admission.js';
import { CostModel } from './cost.js';
import type { Deadline } from './deadline.js';
import { Fallback, type Lowered, lowered } from './degrade.js';
import { observeAnswer } from './pass.js';
import type { RetrieveRequest, RetrieveResponse, Shaping } from './request.js';

export class LoadGuard {
  private readonly costs = new CostModel();
  private readonly admission: Admission;
  private readonly fallback: Fallback;

  constructor(
    private readonly settings: OverloadSettings,
    private readonly metrics: Metrics,
  ) {
    this.admission = new Admission(
      { queueMax: settings.queue_max, queueWaitMs: settings.queue_wait_ms },
      metrics.overload,
    );
    this.fallback = new Fallback(settings);
  }

  /** What scoring took, without waiting. */
  onScored(rerank: RetrieveRequest['rerank'], candidates: number, ms: number): void {
    this.costs.learnScorer(rerank, candidates, ms);
  }

  prepare(generation: Generation): Promise<void> {
    return this.fallback.prepare(generation);
  }

  /** `work` runs the request in the form that it is let in with. Errors: those of Admission.admit and of the work. */
  async run(
    request: RetrieveRequest,
    view: ItemView,
    deadline: Deadline,
    work: (form: Lowered) => Promise<RetrieveResponse>,
  ): Promise<RetrieveResponse> {
    try {
      return await this.admitted(request, view, deadline, work);
    } catch (error) {
      const other = this.fallback.instead(error, request, view, deadline);
      if (other === undefined) throw error;
      observeAnswer(this.metrics, undefined, other.degraded);
      return other;
    }
  }

  /** Admission alone, for what has no lesser form. Errors: those of Admission.admit and of the work. */
  async enter<T>(request: Shaping, generation: Generation, deadline: Deadline, work: () => Promise<T>): Promise<T> {
    const costs = [this.costs.ofSearch(request, request.k, generation)];
    const ticket = await this.admission.admit({ costs, deadline, priority: 'online' });
    this.metrics.overload.onAdmitted(ticket.level);
    try {
      return await work();
    } finally {
      ticket.release();
    }
  }

  private async admitted(
    request: RetrieveRequest,
    view: ItemView,
    deadline: Deadline,
    work: (form: Lowered) => Promise<RetrieveResponse>,
  ): Promise<RetrieveResponse> {
    const { generation } = view;
    const { degrade, recall_floor: floor } = this.settings;
    const costs = this.costs.ofLevels(request, generation, floor);
    const isWhole = !degrade || request.strict;
    const entering = this.admission.admit({
      costs: isWhole ? [costs.at(0)] : costs,
      deadline,
      priority: request.priority,
    });
    const ticket = entering instanceof Promise ? await entering : entering;
    this.metrics.overload.onAdmitted(ticket.level);
    let isDone = false;
    try {
      const form = lowered(request, ticket.level, floor, generation);
      if (ticket.isShort) this.costs.doubtScorer(request.rerank);
      const answer = await work(form);
      isDone = !answer.degraded.includes('rerank_timeout');
      if (answer.timings.tower !== undefined) this.costs.learnTower(generation, answer.timings.tower);
      if (ticket.isBusy) this.fallback.keep(request, view, answer);
      return answer;
    } finally {
      ticket.release(isDone);
    }
  }
}
