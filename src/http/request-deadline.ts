/** How long a request may take: the smaller of what its body, its header and the server allow. */
import type { IncomingHttpHeaders } from 'node:http';
import type { OverloadSettings } from '../config/overload.js';
import { BelfryError, invalid } from '../errors.js';

const DEADLINE_HEADER = 'x-deadline-ms';
/** An hour: larger numbers are a time of day, or a mistake. */
const HEADER_MAX = 3_600_000;

export interface TimeoutSettings extends Pick<OverloadSettings, 'timeout_max_ms'> {
  readonly timeout_ms: number;
}

/**
 * Milliseconds. What the caller's own caller left him, in the header, may be longer than the server's cap, which then holds;
 * a `timeout_ms` beyond the cap is an error. Errors: BELFRY_INVALID_ARGUMENT, BELFRY_DEADLINE_EXCEEDED for a header of 0.
 */
export function timeoutOf(
  asked: number | undefined,
  headers: IncomingHttpHeaders,
  { timeout_ms, timeout_max_ms }: TimeoutSettings,
): number {
  if (asked !== undefined && asked > timeout_max_ms)
    throw invalid('timeout_ms', `at most ${timeout_max_ms}`, asked, { limit: timeout_max_ms });
  const own = Math.min(asked ?? timeout_ms, timeout_max_ms);
  return Math.min(own, leftOf(headers));
}

/** Milliseconds that the caller has left; Infinity where he does not say. Errors: as timeoutOf. */
export function leftOf(headers: IncomingHttpHeaders): number {
  const header = headers[DEADLINE_HEADER];
  if (header === undefined) return Number.POSITIVE_INFINITY;
  const left = typeof header === 'string' && /^[0-9]{1,8}$/.test(header) ? Number(header) : Number.NaN;
  if (!(left <= HEADER_MAX))
    throw invalid(DEADLINE_HEADER, `whole milliseconds from 0 to ${HEADER_MAX}`, header, { limit: HEADER_MAX });
  if (left === 0)
    throw new BelfryError('BELFRY_DEADLINE_EXCEEDED', `${DEADLINE_HEADER}: no time was left when the request came`, {
      field: DEADLINE_HEADER,
      limit: 0,
    });
  return left;
}
