/** Words shared by every layer; definitions only. */

/** How a query and an item are compared. Scores are larger-is-better: `ip` ⟨q,x⟩, `cosine`, `l2` −‖q−x‖². */
export type Metric = 'ip' | 'cosine' | 'l2';
export const METRICS: readonly Metric[] = ['ip', 'cosine', 'l2'];

/** External id of an item or user: a string, or an integer up to 2^53. */
export type Id = string | number;

/** Position of an item or user in its `.npy` file; never leaves the process. */
export type Row = number;

/** A value of a feature table or of a request's `features`. */
export type FeatureValue = string | number | boolean | null | readonly (string | number)[];

/** Features by column name, as a caller types them. */
export type Features = Readonly<Record<string, FeatureValue>>;

/** Why an answer is useful but not all that was asked for. */
export type Degradation =
  | 'rerank_timeout'
  | 'rerank_skipped'
  | 'rerank_scores_invalid'
  | 'cold_start'
  | 'recall_lowered'
  | 'candidates_lowered'
  | 'cached'
  | 'popular_list'
  | 'features_default'
  | 'features_stale'
  | 'unknown_items_ignored'
  | 'fewer_by_caps'
  | 'fewer_by_min_score'
  | 'min_score_skipped'
  | 'diversity_skipped'
  | 'pins_left_out';

/** Row-major matrix: `data.length === rows * dims`. */
export interface Matrix {
  readonly data: Float32Array;
  readonly rows: number;
  readonly dims: number;
}

/** Tensor element types that Belfry reads and writes; the names are those of ONNX Runtime. */
export type TensorDtype =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'bool'
  | 'string';

/** float16 travels as its bits, bool as 0 and 1. */
export type TensorValues =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | readonly string[];

/** A dense row-major tensor. */
export interface TensorData {
  readonly dtype: TensorDtype;
  readonly dims: readonly number[];
  readonly data: TensorValues;
}

/** What a model declares of one input or output: null for a dynamic dim, and for a shape that the model does not state. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: TensorDtype | 'other';
  readonly shape: readonly (number | null)[] | null;
}
