/**
 * Which reranker orders an answer, by the stages of the registry: one in production, tests with a share of the users
 * each, shadows that are scored beside. A user always falls into the same variant: what decides is a hash of the id.
 */
import { hash } from 'node:crypto';
import { TRAFFIC_DEFAULTS, type TrafficSettings } from '../config/traffic.js';
import { BelfryError, show } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import type { Reranker } from '../rerank/reranker.js';
import type { TrafficMetrics } from '../telemetry/traffic-metrics.js';
import type { Id } from '../types.js';
import type { Exposure, RetrieveRequest, RetrieveResponse } from './request.js';

export interface Choice {
  /** Undefined: retrieval order stands. */
  readonly reranker?: Reranker | undefined;
  /** Absent where no re-ranking was asked for. */
  readonly exposure?: Exposure;
  /** Scored off the path of the request. */
  readonly shadows: readonly Reranker[];
}

export interface Wanted {
  readonly rerank: boolean | string;
  /** Of the header x-belfry-variant. */
  readonly variant?: string | undefined;
  readonly userId?: Id | undefined;
}

interface Plan {
  readonly production: Reranker | undefined;
  readonly tests: readonly { readonly reranker: Reranker; readonly share: number }[];
  readonly shadows: readonly Reranker[];
}

export const CONTROL = 'control';

export class TrafficPolicy {
  readonly #plans = new WeakMap<Generation, Plan>();

  constructor(private readonly settings: Pick<TrafficSettings, 'salt' | 'shares'> = TRAFFIC_DEFAULTS) {}

  /** Errors: BELFRY_NO_RERANKER, BELFRY_UNKNOWN_RERANKER. */
  choose({ rerank, variant, userId }: Wanted, generation: Generation): Choice {
    if (rerank === false) return { shadows: [] };
    if (generation.rerankers.length === 0) throw noReranker(generation);
    const { production, tests, shadows } = this.#planOf(generation);
    const answer = (reranker: Reranker | undefined, reason: Exposure['reason'], bucket?: number): Choice => ({
      reranker,
      exposure: {
        variant: reranker === undefined ? CONTROL : labelOf(reranker),
        ...(bucket === undefined ? {} : { bucket: Math.round(bucket * 1e6) / 1e6 }),
        reason,
      },
      shadows: shadows.filter((shadow) => shadow !== reranker),
    });
    if (typeof rerank === 'string') return answer(findReranker(rerank, 'rerank', 'true', generation), 'named');
    if (variant === CONTROL) return answer(production, 'override');
    if (variant !== undefined)
      return answer(findReranker(variant, 'x-belfry-variant', CONTROL, generation), 'override');
    if (tests.length === 0) return answer(production, production === undefined ? 'control' : 'production');
    if (userId === undefined) {
      // Nobody to hash: outside the experiment, where it leaves a control to be in.
      const hasControl = tests.reduce((sum, { share }) => sum + share, 0) < 1 - 1e-9;
      return answer(hasControl ? production : tests.find(({ share }) => share > 0)!.reranker, 'no_user');
    }
    const bucket = bucketOf(userId, this.settings.salt);
    let end = 0;
    for (const { reranker, share } of tests) {
      end += share;
      // Shares of thirds add up to a hair less than 1.
      if (bucket < end || (share > 0 && end > 1 - 1e-9)) return answer(reranker, 'ab-test', bucket);
    }
    return answer(production, 'control', bucket);
  }

  /** Share of the users that each reranker orders answers for, by label; shadows have none. */
  sharesOf(generation: Generation): ReadonlyMap<string, number> {
    const { production, tests } = this.#planOf(generation);
    const shares = new Map(tests.map(({ reranker, share }) => [labelOf(reranker), share]));
    const tested = tests.reduce((sum, { share }) => sum + share, 0);
    if (production !== undefined) shares.set(labelOf(production), Math.max(0, 1 - tested));
    return shares;
  }

  #planOf(generation: Generation): Plan {
    const known = this.#plans.get(generation);
    if (known !== undefined) return known;
    const rows = new Map(generation.manifest.models.map((row) => [labelOf(row), row]));
    // A reranker in code has no row: who sets it wants it to serve.
    const staged = generation.rerankers.map((reranker) => {
      const row = rows.get(labelOf(reranker));
      return { reranker, stage: row?.stage ?? 'production', share: row?.share };
    });
    const tests = staged.filter(({ stage }) => stage === 'ab-test');
    const plan = {
      production: staged.find(({ stage }) => stage === 'production')?.reranker,
      tests: tests.map(({ reranker, share }) => ({ reranker, share: this.#shareOf(reranker, share, tests.length) })),
      shadows: staged.filter(({ stage }) => stage === 'shadow').map(({ reranker }) => reranker),
    };
    this.#plans.set(generation, plan);
    return plan;
  }

  /** Where settings name shares, they are the whole truth. Tests alone, none of which says a share, have all users between them. */
  #shareOf(reranker: Reranker, share: number | undefined, tests: number): number {
    const { shares } = this.settings;
    if (shares === undefined) return share ?? 1 / tests;
    return shares[labelOf(reranker)] ?? shares[reranker.name] ?? 0;
  }
}

/**
 * Where a user falls in [0, 1): the first 48 bits of SHA-256 of `salt:id`, so that any other program can say it too.
 * 42 and "42" are one user.
 */
export function bucketOf(id: Id, salt: string): number {
  return Number.parseInt(hash('sha256', `${salt}:${id}`, 'hex').slice(0, 12), 16) / 2 ** 48;
}

export function wantedOf({ rerank, variant, source }: RetrieveRequest): Wanted {
  return { rerank, variant, userId: source.kind === 'user' ? source.id : undefined };
}

/** Into the metrics, once for each answer. */
export function observeExposure(
  metrics: TrafficMetrics,
  { exposure, timings, degraded }: Pick<RetrieveResponse, 'exposure' | 'timings' | 'degraded'>,
): void {
  if (exposure === undefined) return;
  const { variant, reason } = exposure;
  metrics.variantRequests.inc({ variant, reason });
  metrics.variantSeconds.observe({ variant }, (timings.total ?? 0) / 1000);
  for (const why of degraded) metrics.variantDegraded.inc({ variant, reason: why });
}

/** By name, or name@version; `other` is what else the field takes. Error: BELFRY_UNKNOWN_RERANKER. */
export function findReranker(
  wanted: string,
  field: string,
  other: string,
  { rerankers, rerankerProblems }: Generation,
): Reranker {
  const found = rerankers.find((reranker) => wanted === reranker.name || wanted === labelOf(reranker));
  if (found !== undefined) return found;
  const names = rerankers.map(labelOf).join(', ');
  throw new BelfryError(
    'BELFRY_UNKNOWN_RERANKER',
    `${field}: expected ${other} or one of ${names}, received ${show(wanted)}${rerankerProblems.map((problem) => `; ${problem}`).join('')}`,
    { field },
  );
}

function noReranker({ id, rerankerProblems }: Generation): BelfryError {
  const why = rerankerProblems.length > 0 ? rerankerProblems.join('; ') : 'its registry names none';
  return new BelfryError('BELFRY_NO_RERANKER', `rerank: generation ${id} has no reranker: ${why}`, { field: 'rerank' });
}

function labelOf({ name, version }: Pick<Reranker, 'name' | 'version'>): string {
  return `${name}@${version}`;
}
