/** When a circuit opens, who may try, and when it closes: with a clock of its own. */
import { describe, expect, it } from 'vitest';
import { BelfryError } from '../../../src/errors.js';
import { Breaker, type BreakerOptions, type BreakerState } from '../../../src/resilience/breaker.js';
import { RetryBudget } from '../../../src/resilience/retry-budget.js';
import { expectError } from '../../support/expect-error.js';

function breakerOf(options: Partial<BreakerOptions> = {}) {
  const clock = { ms: 0 };
  const states: BreakerState[] = [];
  const breaker = new Breaker({
    name: 'scorer',
    openMs: 500,
    now: () => clock.ms,
    onChange: (state) => states.push(state),
    ...options,
  });
  const call = (result: unknown, ms = 10): Promise<unknown> =>
    breaker
      .run(async () => {
        clock.ms += ms;
        if (result instanceof Error) throw result;
        return result;
      })
      .catch((error: unknown) => error);
  return { breaker, clock, states, call };
}
const failure = () => new BelfryError('BELFRY_MODEL_FAILED', 'out of memory');
const late = () => new BelfryError('BELFRY_DEADLINE_EXCEEDED', 'too late');
const refused = (error: unknown) => error instanceof BelfryError && error.code === 'BELFRY_CIRCUIT_OPEN';

describe('a breaker', () => {
  it('opens after failures in a row, and says why', async () => {
    const { breaker, call, states } = breakerOf();
    for (let i = 0; i < 4; i++) await call(failure());
    await call('fine');
    for (let i = 0; i < 4; i++) await call(failure());
    expect(breaker.state).toBe('closed');
    await call(failure());
    expect(states).toEqual(['open']);
    expect(breaker.cause!.message).toBe('out of memory');
    let ran = false;
    await expectError(
      breaker.run(async () => (ran = true)),
      'BELFRY_CIRCUIT_OPEN',
      /^scorer failed \(out of memory\); it is tried again in \d+ ms$/,
    );
    expect(ran).toBe(false);
  });

  it('opens when half of many calls fail, though not in a row', async () => {
    const { breaker, call } = breakerOf();
    for (let i = 0; i < 19; i++) await call(i % 2 === 0 ? failure() : 'fine');
    expect(breaker.state).toBe('closed');
    await call(failure());
    expect(breaker.state).toBe('open');
  });

  it('does not add up failures of different windows', async () => {
    const { breaker, call, clock } = breakerOf();
    for (let i = 0; i < 100; i++) {
      clock.ms += 300;
      await call(i % 2 === 0 ? failure() : 'fine');
    }
    expect(breaker.state).toBe('closed');
  });

  it('lets one probe through, and closes when it succeeds', async () => {
    const { breaker, clock, call, states } = breakerOf();
    for (let i = 0; i < 5; i++) await call(failure());
    clock.ms += 350; // at least 0.8 of 500 ms
    expect(refused(await call('fine'))).toBe(true);
    clock.ms += 300;
    let finish = (): void => {};
    const probe = breaker.run(() => new Promise<void>((resolve) => (finish = resolve)));
    expect(breaker.state).toBe('half-open');
    const others = await Promise.all(Array.from({ length: 10 }, () => call('fine')));
    expect(others.every(refused)).toBe(true);
    finish();
    await probe;
    expect(states).toEqual(['open', 'half-open', 'closed']);
    expect(breaker.cause).toBeUndefined();
    expect(await call('fine')).toBe('fine');
  });

  it('waits twice as long after each probe that fails, up to a bound', async () => {
    const { breaker, clock, call } = breakerOf({ openMaxMs: 1000 });
    for (let i = 0; i < 5; i++) await call(failure());
    for (const [sooner, later] of [
      [390, 220],
      [790, 420],
      [790, 420],
    ] as const) {
      clock.ms += sooner;
      expect(refused(await call(failure(), 0))).toBe(true);
      clock.ms += later;
      expect(refused(await call(failure(), 0))).toBe(false);
      expect(breaker.state).toBe('open');
    }
  });

  it('waits longer for what passes its probe and fails again at once', async () => {
    const { breaker, clock, call } = breakerOf({ openMaxMs: 4000 });
    const fail = async () => {
      for (let i = 0; i < 5; i++) await call(failure(), 0);
    };
    await fail();
    clock.ms += 610;
    await call('fine', 0);
    expect(breaker.state).toBe('closed');
    await fail();
    clock.ms += 790; // twice 500 ms now, less a fifth
    expect(refused(await call('fine', 0))).toBe(true);
    clock.ms += 420;
    await call('fine', 0);
    expect(breaker.state).toBe('closed');
    clock.ms += 4100; // steady since
    await fail();
    clock.ms += 610;
    await call('fine', 0);
    expect(breaker.state).toBe('closed');
  });

  it('does not blame what is late for callers who gave it no time', async () => {
    const { breaker, call, clock } = breakerOf();
    for (let i = 0; i < 30; i++) await call('fine', 40);
    for (let i = 0; i < 10; i++) {
      await call(late(), 5);
      await call('fine', 40);
      await call('fine', 40);
    }
    expect(breaker.state).toBe('closed');
    clock.ms += 300; // nothing came in time for so long
    for (let i = 0; i < 5; i++) await call(late(), 90);
    expect(breaker.state).toBe('open');
  });

  it('stays closed while some calls are in time, however many are late: that is load', async () => {
    const { breaker, call, clock } = breakerOf();
    for (let i = 0; i < 100; i++) {
      await call(late(), 90);
      await call(late(), 90);
      await call('fine', 40);
    }
    expect(breaker.state).toBe('closed');
    clock.ms += 300;
    for (let i = 0; i < 5; i++) await call(late(), 90);
    expect(breaker.state).toBe('open');
  });

  it('counts neither bad requests nor full queues', async () => {
    const { breaker, call } = breakerOf();
    for (let i = 0; i < 40; i++) {
      await call(new BelfryError('BELFRY_INVALID_FEATURES', 'bad'));
      await call(new BelfryError('BELFRY_OVERLOADED', 'full'));
    }
    expect(breaker.state).toBe('closed');
  });

  it('takes a result that its judge finds bad for a failure, and returns it', async () => {
    const { breaker } = breakerOf();
    for (let i = 0; i < 5; i++)
      expect(
        await breaker.run(
          async () => 'NaN',
          () => failure(),
        ),
      ).toBe('NaN');
    expect(breaker.state).toBe('open');
  });

  it('that has a probe of its own never uses a call for it', async () => {
    let probes = 0;
    let isBack = false;
    const { breaker, call } = breakerOf({
      openMs: 20,
      openMaxMs: 20,
      now: () => performance.now(),
      probe: async () => {
        probes++;
        if (!isBack) throw failure();
      },
    });
    breaker.trip(failure());
    while (probes < 3) {
      expect(refused(await call('fine'))).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    isBack = true;
    while (breaker.state !== 'closed') await new Promise((resolve) => setTimeout(resolve, 5));
    expect(await call('fine')).toBe('fine');
    breaker.trip(failure());
    breaker.close();
    const before = probes;
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(probes).toBe(before);
  });
});

it('a retry budget is a tenth of the calls, after a few at the start', () => {
  const budget = new RetryBudget(0.1, 3);
  let retries = 0;
  for (let call = 0; call < 1000; call++) {
    budget.earn();
    if (budget.take()) retries++;
  }
  expect(retries).toBeGreaterThanOrEqual(99);
  expect(retries).toBeLessThanOrEqual(103);
});
