import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { schedule } from '../../../src/rebuild/schedule.js';
import { errorOf } from '../../support/errors.js';

beforeEach(() => {
  vi.useFakeTimers({ now: new Date(2026, 10, 23, 10, 0, 0) });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('builds by the clock', () => {
  it.each([
    ['every 90s', 90],
    ['every 30m', 1800],
    ['every 6h', 21_600],
    ['every 2 d', 172_800],
  ])('%s', (text, seconds) => {
    let calls = 0;
    const plan = schedule(text, () => calls++);
    expect(plan.next()!.getTime() - Date.now()).toBe(seconds * 1000);
    vi.advanceTimersByTime(seconds * 1000 - 1);
    expect(calls).toBe(0);
    vi.advanceTimersByTime(1);
    expect(calls).toBe(1);
    expect(plan.next()!.getTime() - Date.now()).toBe(seconds * 1000);
    vi.advanceTimersByTime(seconds * 2000);
    expect(calls).toBe(3);
    plan.stop();
    vi.advanceTimersByTime(seconds * 2000);
    expect(calls).toBe(3);
  });

  it('takes cron expressions of five fields', () => {
    let calls = 0;
    const plan = schedule('15 11 * * *', () => calls++);
    expect(plan.next()).toEqual(new Date(2026, 10, 23, 11, 15));
    vi.advanceTimersByTime(75 * 60_000 + 1000);
    expect(calls).toBe(1);
    expect(plan.next()).toEqual(new Date(2026, 10, 24, 11, 15));
    plan.stop();
    vi.advanceTimersByTime(48 * 3_600_000);
    expect(calls).toBe(1);
  });

  it.each(['every 0s', 'every 25d', 'every hour', '61 * * * *', '* * * * * *', '0 0 31 2 *', 'nonsense'])(
    'refuses %s',
    async (text) => {
      expect(await errorOf(() => schedule(text, () => undefined))).toMatch(
        /^BELFRY_CONFIG_INVALID rebuild_schedule: expected "every 30m" .* or a cron expression of five fields/,
      );
    },
  );
});
