/** One request on its way through the stages: what each of them may read, and where it leaves its time and its reasons. */
import { BelfryError } from '../errors.js';
import type { UserFeatures } from '../features/stores/user-features.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { Degradation } from '../types.js';
import type { ItemView } from '../upserts/item-view.js';
import type { Deadline, StageTimer } from './deadline.js';
import type { RetrieveRequest } from './request.js';

export interface Pass {
  readonly request: RetrieveRequest;
  /** One generation and one state of its items, whatever changes meanwhile. */
  readonly view: ItemView;
  readonly deadline: Deadline;
  readonly timer: StageTimer;
  /** Stages add why the answer is less than what was asked for. */
  readonly degraded: Degradation[];
  readonly metrics: Metrics;
  /** Hears what scoring candidates took, waiting not counted. */
  readonly onScored: (candidates: number, ms: number) => void;
  /** Feature stores beside the tables of the generation. */
  readonly userFeatures: UserFeatures;
  /** Hears why an answer is degraded by a model; the caller of the request only hears that it is. */
  readonly onProblem: (model: string, error: BelfryError) => void;
}

/** What finding a query takes of a request on its way. */
export type Asking = Pick<Pass, 'view' | 'deadline' | 'timer' | 'userFeatures'> & {
  readonly request: Pick<RetrieveRequest, 'source' | 'fresh' | 'rerank' | 'excludeSeen' | 'strict'>;
};

/** Hears why a user is answered without the user tower; where nobody hears it, the request fails. */
export type OnTowerFailed = ((error: BelfryError) => void) | undefined;

export function countInvalidOutput(metrics: Metrics, model: string | undefined, error: unknown): void {
  if (error instanceof BelfryError && error.code === 'BELFRY_MODEL_OUTPUT_INVALID')
    metrics.modelOutputInvalid.inc({ model: model ?? 'unknown' });
}

/** Into the metrics, once for each answer. */
export function observeAnswer(
  metrics: Metrics,
  timer: StageTimer | undefined,
  degraded: readonly Degradation[] = [],
): void {
  timer?.each((stage, ms) => metrics.stageSeconds.observe(ms / 1000, stage));
  for (const reason of degraded) metrics.degraded.inc({ reason });
}
