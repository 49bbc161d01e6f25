/**
 * How much a key may ask: a token bucket for a second, a count for a day. Both live in the memory of one process.
 *
 * A batch costs as many tokens as it has requests. It may take the bucket below zero, which later requests wait for: so
 * a batch that is larger than the bucket is possible, and no more than the rate gets through in the long run.
 */
import { BelfryError } from '../errors.js';

const DAY_MS = 86_400_000;

export interface Limits {
  readonly requests_per_second?: number | undefined;
  readonly requests_per_day?: number | undefined;
}

export class Allowance {
  #tokens: number;
  #filledAt: number;
  #day = -1;
  #usedToday = 0;

  /** `now`: a monotonic clock in ms; `date`: ms since 1970, for the day (UTC). Given in tests. */
  constructor(
    private readonly name: string,
    private limits: Limits,
    private readonly now: () => number = () => performance.now(),
    private readonly date: () => number = Date.now,
  ) {
    this.#tokens = burstOf(limits);
    this.#filledAt = now();
  }

  /** New limits of the same key; what was used stays used. */
  change(limits: Limits): void {
    this.limits = limits;
    this.#tokens = Math.min(this.#tokens, burstOf(limits));
  }

  /**
   * `isMore`: the rest of a batch whose first request was let through. It is not made to wait, only those after it are:
   * a bucket of one token would never let a batch pass.
   * Errors: BELFRY_RATE_LIMITED, BELFRY_QUOTA_EXCEEDED, both with the seconds after which to ask again.
   */
  take(cost: number, isMore = false): void {
    const { requests_per_second: rate, requests_per_day: quota } = this.limits;
    if (rate !== undefined) {
      const now = this.now();
      this.#tokens = Math.min(burstOf(this.limits), this.#tokens + ((now - this.#filledAt) * rate) / 1000);
      this.#filledAt = now;
      if (this.#tokens < 1 && !isMore) {
        throw new BelfryError('BELFRY_RATE_LIMITED', `key ${this.name}: more than ${rate} requests a second`, {
          limit: rate,
          retryAfterSeconds: Math.max(1, Math.ceil((1 - this.#tokens) / rate)),
        });
      }
    }
    if (quota !== undefined) {
      const today = Math.floor(this.date() / DAY_MS);
      if (today !== this.#day) {
        this.#day = today;
        this.#usedToday = 0;
      }
      if (this.#usedToday + cost > quota) {
        throw new BelfryError(
          'BELFRY_QUOTA_EXCEEDED',
          `key ${this.name}: ${this.#usedToday} of ${quota} requests of this day (UTC) are used, ${cost} were asked for`,
          { limit: quota, retryAfterSeconds: Math.ceil(((today + 1) * DAY_MS - this.date()) / 1000) },
        );
      }
      this.#usedToday += cost;
    }
    if (rate !== undefined) this.#tokens -= cost;
  }
}

/** What may come at once: that of one second, and at least one. */
function burstOf({ requests_per_second: rate }: Limits): number {
  return Math.max(1, rate ?? 1);
}
