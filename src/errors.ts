/**
 * The one error class and the one table of codes. A code is never renamed; its status and meaning stand here only.
 *
 * 4xx: the caller can mend it, the message says how. 5xx: the operator can; the HTTP layer shows the code and the
 * request id, the text goes to the log. 0: never leaves over HTTP (builds, command line).
 */
export const ERROR_TABLE = {
  // requests
  BELFRY_INVALID_ARGUMENT: { status: 400, meaning: 'a value is outside its bounds or has the wrong form' },
  BELFRY_INVALID_JSON: { status: 400, meaning: 'the body is not JSON' },
  BELFRY_INVALID_QUERY_VECTOR: { status: 422, meaning: 'a query vector is not finite, is zero, or has the wrong dims' },
  BELFRY_DIMS_MISMATCH: { status: 422, meaning: 'query, tower and index disagree on dims' },
  BELFRY_INVALID_FEATURES: { status: 422, meaning: 'request features do not fit the user tower' },
  BELFRY_UNKNOWN_FIELD: { status: 400, meaning: 'a filter or with_metadata names a column that the item table lacks' },
  BELFRY_UNKNOWN_EXCLUSION_SET: { status: 400, meaning: 'exclude_sets names a set that the generation lacks' },
  BELFRY_UNKNOWN_RULES: { status: 400, meaning: 'rules names a set that the settings lack' },
  BELFRY_UNKNOWN_ITEM: { status: 404, meaning: 'an item id is not in the generation' },
  BELFRY_UNKNOWN_GENERATION: { status: 404, meaning: 'a generation is not in the data folder' },
  BELFRY_UNKNOWN_USER: { status: 404, meaning: 'a user id is not in the generation' },
  BELFRY_UNKNOWN_RERANKER: { status: 400, meaning: 'the named reranker is not in the registry, or cannot run' },
  BELFRY_INVALID_ITEM_VECTOR: { status: 422, meaning: 'an item vector is not finite, or is zero under cosine' },
  BELFRY_INVALID_ITEM_ID: { status: 422, meaning: 'an item id is not of the kind that the generation has' },
  BELFRY_NO_ITEM_TOWER: { status: 409, meaning: 'item features were sent and no item tower can embed them' },
  BELFRY_NO_USER_TOWER: { status: 409, meaning: 'features were sent and the models folder has no user tower' },
  BELFRY_NO_USERS: { status: 409, meaning: 'a user was named and the export has no user embeddings' },
  BELFRY_NO_RERANKER: { status: 409, meaning: 're-ranking was asked for and no reranker is configured' },
  BELFRY_NOT_FOUND: { status: 404, meaning: 'no such route' },
  BELFRY_METHOD_NOT_ALLOWED: { status: 405, meaning: 'the route exists, the method does not' },
  BELFRY_MALFORMED_REQUEST: { status: 400, meaning: 'the address or the HTTP itself cannot be read' },
  BELFRY_HEADERS_TOO_LARGE: { status: 431, meaning: 'the address and headers are over the limit' },
  BELFRY_BODY_TOO_LARGE: { status: 413, meaning: 'the body is over the limit' },
  BELFRY_UNSUPPORTED_MEDIA_TYPE: { status: 415, meaning: 'the body is not application/json, or is compressed' },
  BELFRY_REQUEST_TIMEOUT: { status: 408, meaning: 'the request did not arrive in time' },
  // service
  BELFRY_NOT_READY: { status: 503, meaning: 'no generation is serving yet, or the server is draining' },
  BELFRY_OVERLOADED: { status: 503, meaning: 'a queue is full' },
  BELFRY_UPSERT_LOG_FULL: { status: 507, meaning: 'the log of item changes is at its bound, or its disk is full' },
  BELFRY_UPSERT_LOG_FAILED: { status: 503, meaning: 'the log of item changes could not be written' },
  BELFRY_UPSERT_LOG_CORRUPT: { status: 503, meaning: 'the log of item changes is damaged before its end' },
  BELFRY_DEADLINE_EXCEEDED: { status: 504, meaning: 'the deadline passed with nothing useful to answer' },
  BELFRY_MODEL_OUTPUT_INVALID: { status: 500, meaning: 'a model returned a wrong shape or non-finite values' },
  BELFRY_MODEL_FAILED: { status: 500, meaning: 'a model could not be run' },
  BELFRY_RERANK_MISSING: { status: 504, meaning: 'a strict request was to be re-ranked, and no scores came in time' },
  BELFRY_MODEL_SERVER_FAILED: { status: 500, meaning: 'a model server cannot be reached, or answers with an error' },
  BELFRY_CIRCUIT_OPEN: { status: 503, meaning: 'what failed again and again is left alone for a moment' },
  BELFRY_INTERNAL: { status: 500, meaning: 'a defect in Belfry' },
  // administration
  BELFRY_BUILD_RUNNING: { status: 409, meaning: 'a build runs already, here or in another process' },
  BELFRY_NO_BUILD: { status: 409, meaning: 'no build is running that could be cancelled' },
  // access
  BELFRY_UNAUTHORIZED: { status: 401, meaning: 'a key is missing, unknown, wrong, expired, or sent in the address' },
  BELFRY_FORBIDDEN: { status: 403, meaning: 'the key, or a caller without one, may not do this' },
  BELFRY_RATE_LIMITED: { status: 429, meaning: 'a key, or wrong keys of an address, ask too often' },
  BELFRY_QUOTA_EXCEEDED: { status: 429, meaning: 'a key has used its requests of the day' },
  BELFRY_KEYS_INVALID: { status: 0, meaning: 'the keys file cannot be read or does not follow its schema' },
  // models folder and builds
  BELFRY_MODELS_FOLDER: { status: 0, meaning: 'the models folder lacks what it must hold' },
  BELFRY_NPY_INVALID: { status: 0, meaning: 'a file is not a well-formed .npy' },
  BELFRY_NPY_UNSUPPORTED: { status: 0, meaning: 'a well-formed .npy of a dtype or shape that cannot be embeddings' },
  BELFRY_NPY_SIZE: { status: 0, meaning: 'a .npy is shorter or longer than its header says' },
  BELFRY_FILE_CHANGED: { status: 0, meaning: 'a file changed while it was read' },
  BELFRY_BAD_VECTOR: { status: 0, meaning: 'NaN, infinite, overflowing or (for cosine) zero vectors in the export' },
  BELFRY_DUPLICATE_ID: { status: 0, meaning: 'an id stands in two rows' },
  BELFRY_INVALID_ID: { status: 0, meaning: 'an id cannot be represented' },
  BELFRY_COUNT_MISMATCH: { status: 0, meaning: 'ids and vectors differ in number' },
  BELFRY_REGISTRY_INVALID: { status: 0, meaning: 'registry.yaml does not follow its schema' },
  BELFRY_EXPORT_INVALID: { status: 0, meaning: 'export.json does not follow its schema' },
  BELFRY_FEATURES_INVALID: { status: 0, meaning: 'a feature table cannot be read' },
  BELFRY_EXCLUSIONS_INVALID: { status: 0, meaning: 'an exclusion set cannot be read' },
  BELFRY_MODEL_INVALID: { status: 0, meaning: 'a model cannot be loaded, or is not the file that the registry pins' },
  BELFRY_BINDING_MISMATCH: { status: 0, meaning: 'model inputs or outputs differ from the binding in the registry' },
  BELFRY_CALIBRATION_INVALID: { status: 0, meaning: 'a calibration file cannot be read, or is of another model' },
  BELFRY_GOLDEN: { status: 0, meaning: 'a scorer does not give the scores that its export recorded' },
  BELFRY_INPUT_GATE: { status: 0, meaning: 'counts or lengths of an export are unlike those before it' },
  BELFRY_RECALL: { status: 0, meaning: 'the tuned search finds too little of what an exact one finds' },
  BELFRY_CANARIES: { status: 0, meaning: 'a generation does not answer recorded requests as expected' },
  BELFRY_REPORT_MISSING: { status: 404, meaning: 'the report of a generation is missing or damaged' },
  BELFRY_SKEW: { status: 0, meaning: 'the user tower does not reproduce user_embeddings.npy' },
  BELFRY_UPSERT_LEFT_OUT: { status: 0, meaning: 'upserted items are of another training than the export' },
  BELFRY_DISK_SPACE: { status: 0, meaning: 'not enough free disk for a build or a job' },
  BELFRY_MEMORY_SPACE: { status: 0, meaning: 'not enough memory for a build' },
  BELFRY_BUILD_OUT_OF_MEMORY: { status: 0, meaning: 'the builder process ran out of memory' },
  BELFRY_BUILD_DIED: { status: 0, meaning: 'the builder process ended without a result' },
  BELFRY_LOCKED: { status: 0, meaning: 'another process writes this data directory or this output' },
  BELFRY_FILE_CORRUPT: { status: 0, meaning: 'an index file is cut off, damaged, or no index file' },
  BELFRY_FILE_VERSION: { status: 0, meaning: 'an index file is of a format version that this Belfry does not read' },
  BELFRY_INDEX_MISMATCH: { status: 0, meaning: 'an index file was built from other vectors, or for another metric' },
  BELFRY_GENERATION_CORRUPT: { status: 0, meaning: 'a generation fails its checksums' },
  BELFRY_RESUME_MISMATCH: { status: 0, meaning: 'a partial output is of another job: other options or generation' },
  // benches
  BELFRY_INTERACTIONS_INVALID: { status: 0, meaning: 'held-out interactions cannot be read' },
  BELFRY_BENCH_REPORT: { status: 0, meaning: 'a file is not a bench report that this Belfry reads' },
  BELFRY_BENCH_REFUSED: { status: 0, meaning: 'the server under load refuses the requests of the mix' },
  BELFRY_BENCH_TRUTH: { status: 0, meaning: 'the true answers given to a bench are cut off or of other data' },
  BELFRY_BENCH_GATE: { status: 0, meaning: 'a bench measured a value beyond the limit that it was given' },
  // object stores
  BELFRY_OBJECT_STORE_CLIENT: { status: 0, meaning: 'the client of S3, an optional package, cannot be loaded' },
  BELFRY_OBJECT_STORE_DENIED: { status: 0, meaning: 'an object store refuses a request: keys, rights or region' },
  BELFRY_OBJECT_STORE_NOT_FOUND: { status: 0, meaning: 'a bucket or an object does not exist' },
  BELFRY_OBJECT_STORE_UNREACHABLE: {
    status: 0,
    meaning: 'an object store does not answer, or breaks off again and again',
  },
  BELFRY_OBJECT_STORE_SLOW: { status: 0, meaning: 'an object store sends less than it must in s3_timeout_ms' },
  BELFRY_OBJECT_CORRUPT: { status: 0, meaning: 'an object is not what its checksum or its manifest says' },
  // model registry
  BELFRY_MLFLOW_UNREACHABLE: { status: 0, meaning: 'the MLflow server does not answer, or breaks off' },
  BELFRY_MLFLOW_REFUSED: { status: 0, meaning: 'MLflow knows no such model or alias, or denies it' },
  BELFRY_MLFLOW_INVALID: { status: 0, meaning: 'what MLflow answers, or holds, cannot be used' },
  // process
  BELFRY_FEATURE_STORE_CLIENT: {
    status: 0,
    meaning: 'the client of a feature store, an optional package, cannot be loaded',
  },
  BELFRY_CONFIG_INVALID: { status: 0, meaning: 'a setting is unknown or out of bounds' },
  BELFRY_PORT_TAKEN: { status: 0, meaning: 'another program listens on the port' },
  BELFRY_BAD_ANSWER: { status: 0, meaning: 'a server, or what stands before it, answered with nothing of Belfry' },
  BELFRY_SERVER_UNREACHABLE: { status: 0, meaning: 'no server answers at the address' },
  BELFRY_FILE_UNREADABLE: { status: 0, meaning: 'a file is missing, or cannot be opened or written' },
  BELFRY_ADDON_LOAD: { status: 0, meaning: 'the native addon cannot be loaded' },
  BELFRY_STOPPED: { status: 0, meaning: 'a signal ended a command before it was done' },
  BELFRY_CLOSED: { status: 0, meaning: 'a handle was used after close' },
} as const satisfies Record<`BELFRY_${string}`, { status: number; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_TABLE;

export interface ErrorDetails {
  /** The request field, setting or file at fault, dotted: `filter.must.0.field`. */
  field?: string;
  /** The bound that was passed, in the unit of the field. */
  limit?: number | string;
  /** When to ask again, for `retry-after`. */
  retryAfterSeconds?: number;
  cause?: unknown;
}

/** Under load there are thousands of them a second, and where they come from is known: a stack would take longer than the refusal. */
const OF_LOAD: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['BELFRY_OVERLOADED', 'BELFRY_DEADLINE_EXCEEDED']);

export class BelfryError extends Error {
  readonly code: ErrorCode;
  /** HTTP status; 0 for errors of builds and of the command line, which the HTTP layer answers with 500. */
  readonly statusCode: number;
  readonly field?: string;
  readonly limit?: number | string;
  readonly retryAfterSeconds?: number;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    const frames = Error.stackTraceLimit;
    if (OF_LOAD.has(code)) Error.stackTraceLimit = 0;
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    Error.stackTraceLimit = frames;
    this.name = 'BelfryError';
    this.code = code;
    this.statusCode = ERROR_TABLE[code].status;
    if (details.field !== undefined) this.field = details.field;
    if (details.limit !== undefined) this.limit = details.limit;
    if (details.retryAfterSeconds !== undefined) this.retryAfterSeconds = details.retryAfterSeconds;
  }
}

/** One sentence shape for bad input: `k: expected an integer from 1 to 1000, received 0`. */
export function invalid(field: string, expected: string, received: unknown, details: ErrorDetails = {}): BelfryError {
  return new BelfryError('BELFRY_INVALID_ARGUMENT', `${field}: expected ${expected}, received ${show(received)}`, {
    field,
    ...details,
  });
}

/** A value as shown in a message: short, quoted, never a dump. */
export function show(value: unknown): string {
  let text: string;
  if (typeof value === 'bigint') text = value.toString();
  else if (typeof value === 'number') text = String(value);
  else {
    try {
      text = JSON.stringify(value) ?? String(value);
    } catch {
      text = 'a value too deep to show'; // a hostile body may nest deeper than the stack
    }
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/** Wraps whatever was thrown; a BelfryError passes unchanged. */
export function asBelfryError(error: unknown, code: ErrorCode = 'BELFRY_INTERNAL'): BelfryError {
  if (error instanceof BelfryError) return error;
  return new BelfryError(code, error instanceof Error ? error.message : String(error), { cause: error });
}
