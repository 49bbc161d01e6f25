/**
 * How many calls may be tried a second time: a share of all calls, so that retries never double the load of a server
 * that is in trouble already. A token bucket: each call earns a part of a token, each retry takes a whole one.
 */
export class RetryBudget {
  #tokens: number;

  constructor(
    private readonly share = 0.1,
    private readonly burst = 3,
  ) {
    this.#tokens = burst;
  }

  earn(): void {
    this.#tokens = Math.min(this.burst, this.#tokens + this.share);
  }

  /** Whether one more try is within the budget, which then has one less. */
  take(): boolean {
    // Tenths do not add up to whole numbers exactly.
    if (this.#tokens < 1 - 1e-9) return false;
    this.#tokens -= 1;
    return true;
  }
}
