/** What the processes of `belfry serve --workers N` say to each other, over the channel that node:cluster gives them. */
import type { Worker } from 'node:cluster';
import type { MetricObjectWithValues, MetricValue } from 'prom-client';
import type { Trigger } from '../rebuild/history.js';
import type { RebuildRequest, RunningView } from '../rebuild/rebuilder.js';
import type { ServingFacts } from './announce.js';

/** Of one registry, as prom-client aggregates it. */
export type MetricValues = readonly MetricObjectWithValues<MetricValue<string>>[];

/** What every worker tells its callers of the whole. */
export interface ClusterState {
  readonly workers: { readonly count: number; readonly ready: number };
  /** The build that the primary runs. */
  readonly running?: RunningView | undefined;
  readonly problem?: { readonly code: string; readonly message: string } | undefined;
  /** ISO 8601. */
  readonly nextScheduled?: string | undefined;
}

/** What a worker asks of the primary. */
export type Question =
  | { readonly what: 'metrics' }
  | { readonly what: 'start'; readonly trigger: Trigger; readonly request: RebuildRequest }
  | { readonly what: 'cancel'; readonly reason: string | undefined };

export type ToPrimary =
  /** The first message: the worker hears what it is told. */
  | { readonly kind: 'here' }
  | { readonly kind: 'serving'; readonly facts: ServingFacts }
  | { readonly kind: 'ready'; readonly isReady: boolean }
  | { readonly kind: 'question'; readonly id: number; readonly question: Question }
  | { readonly kind: 'measured'; readonly id: number; readonly values: MetricValues };

export type ToWorker =
  /** The answer to `here`. `isLate`: others serve already, so load first and listen then. */
  | { readonly kind: 'begin'; readonly isLate: boolean; readonly state: ClusterState }
  | { readonly kind: 'state'; readonly state: ClusterState }
  | { readonly kind: 'stop' }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | {
      readonly kind: 'refusal';
      readonly id: number;
      readonly error: { readonly code: string; readonly message: string };
    }
  | { readonly kind: 'measure'; readonly id: number };

/** To a worker that may have died a moment ago. Its exit is told; without a callback, a failed send is an 'error' that nobody hears. */
export function tell(worker: Worker, message: ToWorker): void {
  if (worker.isConnected()) worker.send(message, () => undefined);
}
