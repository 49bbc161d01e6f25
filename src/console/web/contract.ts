/** The part of the HTTP contract that the page uses. The service's own schemas stand in src/http/schemas.ts. */
export type Id = string | number;
export type Scalar = string | number | boolean;
export type FeatureValue = Scalar | null | readonly (string | number)[];

export type ColumnKind = 'string' | 'number' | 'boolean' | 'string_list' | 'number_list';

export interface ModelInfo {
  readonly model: string;
  readonly name: string;
  readonly version: string;
  readonly format: string;
  readonly stage: string;
  readonly role: string;
  readonly runs: boolean;
}

export interface FeatureInfo {
  readonly name: string;
  readonly kind: ColumnKind;
  /** The most common values of a string column; others may be typed as well. */
  readonly values?: readonly string[];
}

export interface Info {
  readonly generation: string;
  readonly created: string;
  readonly metric: string;
  readonly dims: number;
  readonly items: number;
  readonly users: number;
  readonly kernel: string;
  readonly tower: string | null;
  readonly tower_problem?: string;
  readonly rerankers: readonly string[];
  readonly models: readonly ModelInfo[];
  readonly item_columns: readonly { readonly name: string; readonly kind: ColumnKind }[];
  readonly user_features: readonly FeatureInfo[];
  readonly sample_users: readonly Id[];
  readonly gates: readonly { readonly name: string; readonly status: string; readonly detail: string }[];
}

export interface Condition {
  field: string;
  eq?: Scalar;
  in?: Scalar[];
  all?: Scalar[];
  lt?: number;
  lte?: number;
  gt?: number;
  gte?: number;
  exists?: boolean;
}

export interface RetrieveBody {
  user_id?: Id;
  features?: Record<string, FeatureValue>;
  embedding?: number[];
  item_ids?: Id[];
  k: number;
  candidates?: number;
  rerank?: boolean | string;
  exclude_seen?: boolean;
  exact?: boolean;
  filter?: { must?: Condition[]; must_not?: Condition[] };
  with_metadata?: string[];
  timeout_ms?: number;
  explain?: boolean;
}

export type Metadata = Readonly<Record<string, unknown>>;

export interface RetrievedItem {
  readonly id: Id;
  readonly score: number;
  readonly retrieval_score: number;
  readonly retrieval_rank: number;
  readonly metadata?: Metadata;
}

export interface RetrieveAnswer {
  readonly items: readonly RetrievedItem[];
  readonly generation: string;
  readonly models: { readonly tower?: string; readonly reranker?: string };
  readonly degraded: readonly string[];
  readonly returned: number;
  readonly explain?: Readonly<Record<string, unknown>>;
  readonly timings_ms?: Readonly<Record<string, number>>;
}

export interface SimilarAnswer {
  readonly items: readonly { readonly id: Id; readonly score: number; readonly metadata?: Metadata }[];
  readonly generation: string;
}

export interface ErrorEnvelope {
  readonly code: string;
  readonly message: string;
  readonly field?: string;
  readonly limit?: number | string;
  readonly request_id?: string;
}
