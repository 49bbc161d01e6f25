/** Settings of deadlines, admission and the ladder of degraded answers: docs/overload.md. */
import { Type } from 'typebox';

/** Bounds of `timeout_ms`; a server may lower the largest. */
export const TIMEOUT_MS = { default: 100, min: 1, max: 1000 } as const;

export const OVERLOAD_PROPERTIES = {
  timeout_ms: Type.Integer({
    minimum: TIMEOUT_MS.min,
    maximum: TIMEOUT_MS.max,
    description: 'deadline of a request that names none',
  }),
  timeout_max_ms: Type.Integer({
    minimum: TIMEOUT_MS.min,
    maximum: TIMEOUT_MS.max,
    description: 'longest deadline that a request may ask for',
  }),
  degrade: Type.Boolean({
    description: 'whether requests get less than they ask for under overload, before any is refused',
  }),
  recall_floor: Type.Number({
    minimum: 0.5,
    maximum: 1,
    description: 'recall below which overload does not lower that of a request',
  }),
  queue_max: Type.Integer({
    minimum: 0,
    maximum: 100_000,
    description: 'requests that wait for admission; more are refused at once',
  }),
  queue_wait_ms: Type.Integer({
    minimum: 0,
    maximum: 1000,
    description: 'how long a request waits for admission before it is refused',
  }),
  cached_items: Type.Integer({
    minimum: 0,
    maximum: 10_000_000,
    description: 'items of recent answers that are kept for times of overload; 0 keeps none',
  }),
  loop_delay_max_ms: Type.Integer({
    minimum: 20,
    maximum: 60_000,
    description: 'mean delay of the event loop beyond which requests are refused unread',
  }),
} as const;

export interface OverloadSettings {
  readonly timeout_max_ms: number;
  readonly degrade: boolean;
  readonly recall_floor: number;
  readonly queue_max: number;
  readonly queue_wait_ms: number;
  readonly cached_items: number;
  readonly loop_delay_max_ms: number;
}

export const OVERLOAD_DEFAULTS: OverloadSettings = {
  timeout_max_ms: TIMEOUT_MS.max,
  degrade: true,
  recall_floor: 0.8,
  queue_max: 256,
  queue_wait_ms: 5,
  cached_items: 100_000,
  loop_delay_max_ms: 500,
};
