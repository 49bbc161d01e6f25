/** What a call ends with when it has no answer. */

export interface ClientErrorDetails {
  /** HTTP status; undefined when no answer came. */
  status?: number | undefined;
  /** The request field at fault. */
  field?: string | undefined;
  limit?: number | string | undefined;
  /** What the log of the server calls the request. */
  requestId?: string | undefined;
  /** When the server wants to be asked again, milliseconds. */
  retryAfterMs?: number | undefined;
  /** Times that the request was sent. */
  attempts?: number | undefined;
  cause?: unknown;
}

/**
 * `code` is the server's (src/errors.ts), or one of the client's own: BELFRY_SERVER_UNREACHABLE, BELFRY_DEADLINE_EXCEEDED,
 * BELFRY_BAD_ANSWER.
 */
export class BelfryClientError extends Error {
  override readonly name = 'BelfryClientError';
  readonly status: number | undefined;
  readonly field: string | undefined;
  readonly limit: number | string | undefined;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly attempts: number;

  constructor(
    readonly code: string,
    message: string,
    { cause, attempts = 1, ...details }: ClientErrorDetails = {},
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.status = details.status;
    this.field = details.field;
    this.limit = details.limit;
    this.requestId = details.requestId;
    this.retryAfterMs = details.retryAfterMs;
    this.attempts = attempts;
  }
}
