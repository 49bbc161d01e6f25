/** What API keys have used, as it crosses into C++; part of addon.ts. */

export interface NativeKeyUsage {
  /**
   * Takes `cost` requests of a key's rate (a second) and quota (a day; 0: no limit), as a whole or not at all. Returns 0 when they
   * are taken; above 0, the seconds until the rate lets one through; below 0, `-1 - n` where n of the quota are used. `key`: ten
   * letters and digits. `isMore`: not made to wait by the rate. `debtMax`: requests that the largest batch may owe. `nowMs`: since 1970.
   * Positional, since it is asked for each request. Errors: BELFRY_CLOSED, BELFRY_INTERNAL.
   */
  take(key: string, cost: number, isMore: boolean, rate: number, quota: number, nowMs: number, day: number): number;
  close(): void;
}
