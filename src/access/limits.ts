/**
 * How much a key may ask: a token bucket for a second, a count for a day. All workers of a server count in one file, so that a
 * limit is one limit whatever their number, and a restart begins nothing anew.
 *
 * A batch costs as many tokens as it has requests. It may take the bucket below zero, which later requests wait for: so
 * a batch that is larger than the bucket is possible, and no more than the rate gets through in the long run.
 */
import { dirname } from 'node:path';
import { loadAddon, type NativeKeyUsage } from '../ann/addon.js';
import { LIMITS } from '../config/schema.js';
import { asBelfryError, BelfryError } from '../errors.js';
import type { KeyRecord } from './keys.js';

const DAY_MS = 86_400_000;

/** What all keys have used. */
export class KeyUsage {
  private constructor(
    private readonly native: NativeKeyUsage,
    private readonly now: () => number,
  ) {}

  /**
   * Without a file: in the memory of this process. `now`: ms since 1970; given in tests. Errors: BELFRY_FILE_UNREADABLE,
   * BELFRY_FILE_VERSION, BELFRY_DISK_SPACE.
   */
  static open(file?: string, now: () => number = Date.now): KeyUsage {
    try {
      return new KeyUsage(loadAddon().openKeyUsage({ path: file }), now);
    } catch (thrown) {
      const { code, message } = asBelfryError(thrown);
      throw new BelfryError(code, `${file === undefined ? '' : `${dirname(file)}: `}${message}`, { cause: thrown });
    }
  }

  of(key: Limited): Allowance {
    return new Allowance(key, this.native, this.now);
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
    private readonly now: () => number,
  ) {}

  /**
   * `isMore`: the rest of a batch whose first request was let through. It is not made to wait, only those after it are:
   * a bucket of one token would never let a batch pass.
   * Errors: BELFRY_RATE_LIMITED, BELFRY_QUOTA_EXCEEDED, both with the seconds after which to ask again.
   */
  take(cost: number, isMore = false): void {
    const { id, name, requests_per_second: rate = 0, requests_per_day: quota = 0 } = this.key;
    const now = this.now();
    const refused = this.usage.take(id, cost, isMore, rate, quota, LIMITS.batchRequests.max, now);
    if (refused === 0) return;
    if (refused > 0)
      throw new BelfryError('BELFRY_RATE_LIMITED', `key ${name}: more than ${rate} requests a second`, {
        limit: rate,
        retryAfterSeconds: Math.max(1, Math.ceil(refused)),
      });
    throw new BelfryError(
      'BELFRY_QUOTA_EXCEEDED',
      `key ${name}: ${-refused - 1} of ${quota} requests of this day (UTC) are used, ${cost} were asked for`,
      { limit: quota, retryAfterSeconds: Math.ceil((DAY_MS - (now % DAY_MS)) / 1000) },
    );
  }
}
