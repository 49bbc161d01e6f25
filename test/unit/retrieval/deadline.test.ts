import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Deadline, RESERVE_MS } from '../../../src/retrieval/deadline.js';

afterEach(() => void vi.useRealTimers());

describe('a deadline', () => {
  it('gives a stage its own cap or what is left, less a reserve', () => {
    const deadline = new Deadline(100, performance.now() - 40);
    expect(deadline.budgetMs(20)).toBe(20);
    expect(deadline.budgetMs()).toBeGreaterThan(40);
    expect(deadline.budgetMs()).toBeLessThanOrEqual(60 - RESERVE_MS);
    expect(new Deadline(10, performance.now() - 40).budgetMs()).toBe(0);
  });

  it('O2: is not moved by a clock that is set', () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    const deadline = new Deadline(100);
    vi.setSystemTime(Date.now() + 3_600_000);
    expect(deadline.remainingMs).toBeGreaterThan(50);
    vi.setSystemTime(Date.now() - 2 * 3_600_000);
    expect(deadline.remainingMs).toBeLessThanOrEqual(100);
  });

  it('abandons late work, and hears no failure of it', async () => {
    const deadline = new Deadline(10);
    const late = sleep(30).then(() => Promise.reject(new Error('unheard')));
    expect(await deadline.within(late)).toBeUndefined();
    await expect(new Deadline(10).orThrow(sleep(60), 'sleeping')).rejects.toMatchObject({
      code: 'BELFRY_DEADLINE_EXCEEDED',
      field: 'timeout_ms',
      limit: 10,
      message: 'the deadline of 10 ms passed while sleeping; raise timeout_ms or lower k',
    });
    await sleep(50); // an unhandled rejection would fail the run
  });

  it('gives up waiting early, so that there is time to answer', () => {
    expect([1, 100, 1000].map((ms) => new Deadline(ms).waitingReserveMs)).toEqual([3, 15, 20]);
  });

  it('passes failures on that come in time', async () => {
    await expect(new Deadline(1000).orThrow(Promise.reject(new Error('heard')), 'failing')).rejects.toThrow('heard');
  });
});
