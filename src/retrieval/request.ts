/**
 * A request and its answer inside the process: filled once at the edge, so that inner code never asks for a default. On the
 * way from one to the other objects are written out in one literal each, not spread from others: a spread is copied by name,
 * property by property, and costs /retrieve as much as a walk (docs/decisions/0010-request-path.md).
 */
import { LIMITS } from '../config/schema.js';
import type { FilterGroup } from '../features/filter.js';
import type { Priority } from './admission.js';
import type { RuleFacts } from './arrange/facts.js';
import type { Rules } from './arrange/rules.js';
import type { Degradation, Features, Id } from '../types.js';

/** Where the query vector comes from. */
export type QuerySource =
  | { readonly kind: 'user'; readonly id: Id }
  | { readonly kind: 'features'; readonly features: Features }
  | { readonly kind: 'embedding'; readonly vector: readonly number[] }
  | { readonly kind: 'items'; readonly ids: readonly Id[] };

export interface Shaping {
  readonly k: number;
  readonly exact: boolean;
  /** Least recall@k wanted; the default of the planner without it. */
  readonly recall?: number | undefined;
  /** The expert's effort, instead of a recall. */
  readonly ef?: number | undefined;
  readonly filter?: FilterGroup | undefined;
  readonly exclude: readonly Id[];
  /** Names of exclusion sets of the generation. */
  readonly excludeSets?: readonly string[] | undefined;
  readonly withMetadata: readonly string[];
  readonly timeoutMs: number;
  readonly explain: boolean;
}

export interface RetrieveRequest extends Shaping {
  readonly source: QuerySource;
  readonly excludeSeen: boolean;
  /** Of a user id: the query from the user tower and the features of now, instead of the stored vector. */
  readonly fresh?: boolean | undefined;
  /** False: none. True: what the traffic policy gives this user. A string: the one of that name. */
  readonly rerank: boolean | string;
  /** In place of what the traffic policy would give: a reranker, or `control`. */
  readonly variant?: string | undefined;
  /** Features of the moment, by name, for rerankers that read `context.<name>`. */
  readonly context?: Features | undefined;
  readonly candidates: number;
  /** All that is asked for or an error: no less under overload, or when there is not the time. */
  readonly strict: boolean;
  /** Batches wait for requests that somebody looks at. */
  readonly priority: Priority;
  /** Undefined: by score alone. */
  readonly rules?: Rules | undefined;
}

export interface SimilarRequest extends Shaping {
  readonly source:
    { readonly kind: 'id'; readonly id: Id } | { readonly kind: 'embedding'; readonly vector: readonly number[] };
}

export interface RetrievedItem {
  readonly id: Id;
  readonly score: number;
  readonly retrieval_score: number;
  /** 1 is the best; absent for a pinned item, or one found past full caps, that the search did not return. */
  readonly retrieval_rank?: number;
  readonly pinned?: true;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

export type Timings = Readonly<Record<string, number>>;

export interface Explanation {
  /** What answered: `scan`, `list` (of the rows that a filter leaves), `walk`, `filtered walk`, `filtered probe` or `probe`. */
  readonly path: string;
  /** Why that one, and with what effort. */
  readonly plan: string;
  readonly ef?: number;
  readonly stop?: number;
  /** Partitions scanned. */
  readonly probes?: number;
  /** What the effort surely gave on the queries of the calibration (lower end of the 95 % interval); 1 for a scan. */
  readonly expected_recall?: number;
  /** Rows that a walk scored, or that a probe passed. */
  readonly scored?: number;
  readonly kernel: string;
  readonly query: string;
  readonly rows: number;
  /** Items changed since the generation was built, which are scanned beside it. */
  readonly delta_rows?: number;
  /** Rows that the filter admits; exclusions come on top. */
  readonly admitted?: number;
  readonly depth: number;
  readonly reranked: number;
  /** What the rules did. */
  readonly rules?: RuleFacts;
}

/** In the answer: what an experiment is evaluated by. */
export interface Exposure {
  /** `name@version` of the reranker; `control` where retrieval order stands. */
  readonly variant: string;
  /** Where the user falls in [0, 1); absent where that did not decide. */
  readonly bucket?: number;
  readonly reason: 'production' | 'ab-test' | 'control' | 'no_user' | 'named' | 'override';
}

export interface RetrieveResponse {
  readonly items: readonly RetrievedItem[];
  /** The items as JSON, where they were written as it before anybody asked for them. */
  readonly itemsJson?: string;
  readonly generation: string;
  readonly models: { readonly tower?: string | undefined; readonly reranker?: string | undefined };
  /** Which variant of the traffic policy this is, and why; absent where no re-ranking was asked for. */
  readonly exposure?: Exposure | undefined;
  readonly degraded: readonly Degradation[];
  readonly returned: number;
  readonly timings: Timings;
  readonly explain?: Explanation | undefined;
}

export interface SimilarResponse {
  readonly items: readonly {
    readonly id: Id;
    readonly score: number;
    readonly metadata?: Readonly<Record<string, unknown>>;
  }[];
  readonly generation: string;
  readonly returned: number;
  readonly timings: Timings;
  readonly explain?: Explanation;
}

/** Defaults of everything but the query, for callers of the library. */
export function fillRetrieve(request: Partial<RetrieveRequest> & Pick<RetrieveRequest, 'source'>): RetrieveRequest {
  return {
    k: LIMITS.k.default,
    exact: false,
    exclude: [],
    excludeSeen: false,
    rerank: false,
    candidates: LIMITS.candidates.default,
    strict: false,
    priority: 'online',
    withMetadata: [],
    timeoutMs: LIMITS.timeoutMs.default,
    explain: false,
    ...request,
  };
}
