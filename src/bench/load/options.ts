/** From what was asked for to a plan: bounds are checked here, so that the generator need not. */
import { availableParallelism } from 'node:os';
import { type ErrorDetails, invalid } from '../../errors.js';
import type { Pace } from './generator.js';
import type { LoadPlan } from './run-load.js';
import type { Arrivals, Segment } from './schedule.js';

export interface LoadRequest {
  /** Requests a second of an open loop. */
  readonly rate?: number | undefined;
  /** `from:to:step` requests a second. */
  readonly ramp?: string | undefined;
  /** Clients of a closed loop. */
  readonly closed?: number | undefined;
  /** Of the run; of each step of a ramp. */
  readonly seconds?: number | undefined;
  readonly warmupSeconds?: number | undefined;
  readonly arrivals?: string | undefined;
  readonly pace?: string | undefined;
  readonly workers?: number | undefined;
  readonly connections?: number | undefined;
  readonly timeoutMs?: number | undefined;
  readonly deadlineMs?: number | undefined;
  readonly keep: number;
  readonly seed?: number | undefined;
}

const DEFAULTS = {
  rate: 200,
  seconds: 10,
  stepSeconds: 3,
  warmupSeconds: 1,
  connections: 256,
  timeoutMs: 10_000,
  deadlineMs: 100,
  seed: 1,
} as const;
/** What one generator thread is trusted to send; measured well above it. */
const RATE_PER_WORKER = 20_000;
const RAMP_STEPS_MAX = 100;

/** Error: BELFRY_INVALID_ARGUMENT naming the option. */
export function planLoad(request: LoadRequest): LoadPlan {
  const ways = [request.rate, request.ramp, request.closed].filter((one) => one !== undefined);
  if (ways.length > 1) throw invalid('--rate', 'one of --rate, --ramp and --closed', 'several');
  const seconds = bounded(
    '--duration',
    request.seconds ?? (request.ramp === undefined ? DEFAULTS.seconds : DEFAULTS.stepSeconds),
    0.5,
    86_400,
  );
  const segments = segmentsOf(request, seconds);
  const most = Math.max(0, ...segments.map(({ rate }) => rate));
  const workers = whole(
    '--workers',
    request.workers ?? Math.min(Math.max(1, availableParallelism() - 1), Math.ceil(most / RATE_PER_WORKER) || 1),
    1,
    64,
  );
  return {
    loop:
      request.closed === undefined
        ? {
            kind: 'open',
            segments,
            arrivals: oneOf<Arrivals>('--arrivals', request.arrivals ?? 'uniform', ['uniform', 'poisson']),
            pace: oneOf<Pace>('--pace', request.pace ?? 'spin', ['spin', 'timer']),
          }
        : { kind: 'closed', clients: whole('--closed', request.closed, 1, 100_000), seconds },
    warmupSeconds: bounded('--warmup', request.warmupSeconds ?? DEFAULTS.warmupSeconds, 0, 3600),
    workers,
    connections: whole('--connections', request.connections ?? DEFAULTS.connections, workers, 60_000),
    timeoutMs: bounded('--timeout-ms', request.timeoutMs ?? DEFAULTS.timeoutMs, 1, 600_000),
    deadlineMs: bounded('--deadline-ms', request.deadlineMs ?? DEFAULTS.deadlineMs, 0.001, 600_000),
    keep: whole('--recall-sample', request.keep, 0, 1_000_000),
    seed: whole('--seed', request.seed ?? DEFAULTS.seed, 0, 2 ** 31 - 1),
  };
}

function segmentsOf({ rate, ramp, closed }: LoadRequest, seconds: number): Segment[] {
  if (closed !== undefined) return [];
  if (ramp === undefined) return [{ rate: bounded('--rate', rate ?? DEFAULTS.rate, 0.01, 10_000_000), seconds }];
  const parts = ramp.split(':').map(Number);
  const [from, to, step] = parts as [number, number, number];
  if (parts.length !== 3 || !parts.every((part) => part > 0) || to < from)
    throw invalid('--ramp', 'from:to:step in requests/s, all above 0 and rising', ramp, { field: '--ramp' });
  const count = Math.floor((to - from) / step + 1e-9) + 1;
  if (count > RAMP_STEPS_MAX)
    throw invalid('--ramp', `at most ${RAMP_STEPS_MAX} steps`, `${count}`, { field: '--ramp', limit: RAMP_STEPS_MAX });
  return Array.from({ length: count }, (_, i) => ({ rate: from + i * step, seconds }));
}

function bounded(field: string, value: number, min: number, max: number): number {
  if (value >= min && value <= max) return value;
  throw invalid(field, `a number from ${min} to ${max}`, value, limits(field, value, min, max));
}

function whole(field: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw invalid(field, `an integer from ${min} to ${max}`, value, limits(field, value, min, max));
}

function limits(field: string, value: number, min: number, max: number): ErrorDetails {
  return { field, limit: value < min ? min : max };
}

export function oneOf<T extends string>(field: string, value: string, known: readonly T[]): T {
  if (known.includes(value as T)) return value as T;
  throw invalid(field, known.join(' or '), value, { field });
}
