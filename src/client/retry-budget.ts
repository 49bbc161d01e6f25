/**
 * How much a client may repeat: retries are a tenth of its calls in the long run, so that a server in trouble gets at most
 * 10 % more requests because of it (Google SRE book, "Handling overload").
 */
const SHARE = 0.1;
/** Retries of a client that has been quiet, or has just begun. */
const RESERVE = 10;

export class RetryBudget {
  private tokens = RESERVE;

  /** For each call. */
  earn(): void {
    this.tokens = Math.min(RESERVE, this.tokens + SHARE);
  }

  /** False when there is no retry left. */
  spend(): boolean {
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    return true;
  }
}

const BASE_MS = 20;
const CAP_MS = 1000;

/** Full jitter: anywhere up to a bound that doubles; never before `retryAfterMs`, and spread behind it. */
export function pauseMs(attempt: number, retryAfterMs: number | undefined, random: () => number = Math.random): number {
  const jitter = random() * Math.min(CAP_MS, BASE_MS * 2 ** attempt);
  return retryAfterMs === undefined ? jitter : retryAfterMs + Math.max(jitter, random() * retryAfterMs * 0.25);
}
