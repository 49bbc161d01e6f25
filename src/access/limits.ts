/**
 * How much a key may ask: a token bucket for a second, a count for a day. All workers of a server count in one file, so that a
 * limit is one limit whatever their number, and the count of the day outlives a restart; buckets begin full.
 *
 * A batch costs as many tokens as it has requests. It may take the bucket below zero, which later requests wait for: so
 * a batch that is larger than the bucket is possible, and no more than the rate gets through in the long run.
 */
import { dirname } from 'node:path';
import { loadAddon, type NativeKeyUsage } from '../ann/addon.js';
import { asBelfryError, BelfryError } from '../errors.js';
import type { KeyRecord } from './keys.js';

const DAY_MS = 86_400_000;

export interface UsageFile {
  readonly path: string;
  /** No other process of this server has opened it yet. */
  readonly isFirst: boolean;
}

/** `now`: a monotonic clock in ms that all processes share; `date`: ms since 1970, for the day (UTC). Given in tests. */
export interface Clocks {
  now(): number;
  date(): number;
}

const SYSTEM: Clocks = { now: () => Number(process.hrtime.bigint()) / 1e6, date: Date.now };

/** What all keys have used. */
export class KeyUsage {
  private constructor(
    private readonly native: NativeKeyUsage,
    private readonly clocks: Clocks,
  ) {}

  /** Without a file: in the memory of this process. Errors: BELFRY_FILE_UNREADABLE, BELFRY_FILE_VERSION, BELFRY_DISK_SPACE. */
  static open(file: UsageFile | undefined, clocks = SYSTEM): KeyUsage {
    const day = dayOf(clocks.date());
    try {
      return new KeyUsage(loadAddon().openKeyUsage({ path: file?.path, first: file?.isFirst ?? true, day }), clocks);
    } catch (thrown) {
      const { code, message } = asBelfryError(thrown);
      throw new BelfryError(code, `${file === undefined ? '' : `${dirname(file.path)}: `}${message}`, {
        cause: thrown,
      });
    }
  }

  of(key: Limited): Allowance {
    return new Allowance(key, this.native, this.clocks);
  }

  close(): void {
    this.native.close();
  }
}

type Limited = Pick<KeyRecord, 'id' | 'name' | 'requests_per_second' | 'requests_per_day'>;

/** What one key may still use. */
export class Allowance {
  constructor(
    private readonly key: Limited,
    private readonly usage: NativeKeyUsage,
    private readonly clocks: Clocks,
  ) {}

  /**
   * `isMore`: the rest of a batch whose first request was let through. It is not made to wait, only those after it are:
   * a bucket of one token would never let a batch pass.
   * Errors: BELFRY_RATE_LIMITED, BELFRY_QUOTA_EXCEEDED, both with the seconds after which to ask again.
   */
  take(cost: number, isMore = false): void {
    const { id, name, requests_per_second: rate = 0, requests_per_day: quota = 0 } = this.key;
    const date = this.clocks.date();
    const day = dayOf(date);
    const refused = this.usage.take(id, cost, isMore, rate, quota, this.clocks.now(), day);
    if (refused === 0) return;
    if (refused > 0)
      throw new BelfryError('BELFRY_RATE_LIMITED', `key ${name}: more than ${rate} requests a second`, {
        limit: rate,
        retryAfterSeconds: Math.max(1, Math.ceil(refused)),
      });
    throw new BelfryError(
      'BELFRY_QUOTA_EXCEEDED',
      `key ${name}: ${-refused - 1} of ${quota} requests of this day (UTC) are used, ${cost} were asked for`,
      { limit: quota, retryAfterSeconds: Math.ceil(((day + 1) * DAY_MS - date) / 1000) },
    );
  }
}

function dayOf(date: number): number {
  return Math.floor(date / DAY_MS);
}
