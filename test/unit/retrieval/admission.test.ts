/** Admission against a model of a server, in simulated time: one lane that works off what it is given, in order. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Registry } from 'prom-client';
import { seeded } from '../../../src/bench/random.js';
import type { BelfryError } from '../../../src/errors.js';
import { Admission, type Entrant, type Ticket } from '../../../src/retrieval/admission.js';
import { Deadline } from '../../../src/retrieval/deadline.js';
import { OverloadMetrics } from '../../../src/telemetry/overload-metrics.js';

const DEADLINE_MS = 100;
/** Milliseconds of work of a request at each level of the ladder. */
const WORK = [5, 5, 1, 1];

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance', 'setInterval', 'clearInterval', 'setTimeout'] }));
afterEach(() => void vi.useRealTimers());

function newAdmission(queueMax = 256) {
  const metrics = new OverloadMetrics(new Registry());
  return { admission: new Admission({ queueMax, queueWaitMs: 5 }, metrics), metrics };
}

const entrant = (costs: readonly number[], priority: Entrant['priority'] = 'online', timeoutMs = DEADLINE_MS) => ({
  costs: costs.map((ms) => ms * 1000),
  deadline: new Deadline(timeoutMs),
  priority,
});

interface Seen {
  good: number;
  latencies: number[];
  refusals: number[];
  levels: number[];
}

/** Requests a second at random moments; the lane is `speed` times as fast as the estimates say. */
async function simulate(admission: Admission, rate: number, seconds: number, works: readonly number[], speed = 1) {
  const seen: Seen = { good: 0, latencies: [], refusals: [], levels: [0, 0, 0, 0] };
  const random = seeded(3);
  const lane: { ticket: Ticket; leftMs: number; since: number }[] = [];
  let due = performance.now();
  const end = due + seconds * 1000;
  const run = (since: number, ticket: Ticket) => {
    seen.levels[ticket.level]!++;
    lane.push({ ticket, leftMs: works[ticket.level]! / speed, since });
  };
  while (performance.now() < end || lane.length > 0) {
    for (; due <= performance.now() && due < end; due += (-Math.log(1 - random()) * 1000) / rate) {
      const since = performance.now();
      const fail = () => void seen.refusals.push(performance.now() - since);
      try {
        const entering = admission.admit(entrant(works));
        if (entering instanceof Promise) entering.then((ticket) => run(since, ticket), fail);
        else run(since, entering);
      } catch {
        fail();
      }
    }
    for (let budget = 1; budget > 0 && lane.length > 0;) {
      const first = lane[0]!;
      const spent = Math.min(budget, first.leftMs);
      budget -= spent;
      first.leftMs -= spent;
      if (first.leftMs > 1e-9) continue;
      lane.shift();
      first.ticket.release();
      const latency = performance.now() + 1 - budget - first.since;
      seen.latencies.push(latency);
      if (latency <= DEADLINE_MS) seen.good++;
    }
    await vi.advanceTimersByTimeAsync(1);
  }
  return seen;
}

const p99 = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(0.99 * values.length)] ?? 0;

it('cheap answers that pass heavy ones do not make the machine look fast', async () => {
  const { admission } = newAdmission();
  const heavyMs = 10;
  const lane: { ticket: Ticket; since: number; leftMs: number }[] = [];
  const passing: Ticket[] = [];
  const seen = { whole: 0, late: 0 };
  // Four times what the lane can do, for three seconds; the first is for learning.
  for (let ms = 0; ms < 3000; ms++) {
    for (const ticket of passing.splice(0)) ticket.release();
    const counts = ms >= 1000;
    if (ms % 2.5 < 1) {
      const since = performance.now();
      const start = (ticket: Ticket) =>
        void (ticket.level >= 2 ? passing.push(ticket) : lane.push({ ticket, since, leftMs: heavyMs }));
      const entering = admission.admit(entrant([heavyMs, heavyMs, 0.1, 0.1]));
      if (entering instanceof Promise) entering.then(start, () => undefined);
      else start(entering);
    }
    while (lane.length > 0 && performance.now() - lane[0]!.since > DEADLINE_MS) {
      lane.shift()!.ticket.release(false); // nobody waits for it any more
      if (counts) seen.late++;
    }
    if (lane.length > 0 && --lane[0]!.leftMs <= 0) {
      lane.shift()!.ticket.release();
      if (counts) seen.whole++;
    }
    await vi.advanceTimersByTimeAsync(1);
  }
  expect(seen.whole / 2).toBeGreaterThan(0.8 * (1000 / heavyMs));
  expect(seen.late).toBeLessThan(0.02 * seen.whole);
});

describe.each([
  ['as estimated', 1],
  ['twice as fast as estimated', 2],
  ['half as fast as estimated', 0.5],
])('a machine %s', (_, speed) => {
  it.each([2, 5, 10])(
    'at %i times its capacity: goodput stays, accepted ones are in time, refusals quick',
    async (times) => {
      const { admission } = newAdmission();
      const alike = [5];
      const capacity = (1000 / 5) * speed;
      await simulate(admission, capacity * times, 2, alike, speed); // until the rate is learnt
      const seen = await simulate(admission, capacity * times, 4, alike, speed);
      expect(seen.good / 4).toBeGreaterThan(0.9 * capacity);
      expect(p99(seen.latencies)).toBeLessThan(DEADLINE_MS);
      expect(p99(seen.refusals)).toBeLessThanOrEqual(10);
    },
  );

  it('goes down the ladder before it refuses, and up again by itself', async () => {
    const { admission } = newAdmission();
    const capacity = (1000 / WORK[0]!) * speed;
    const quiet = await simulate(admission, 0.5 * capacity, 3, WORK, speed);
    expect(quiet.levels[0]! / quiet.latencies.length).toBeGreaterThan(0.97);
    const busy = await simulate(admission, 2.5 * capacity, 3, WORK, speed);
    expect(busy.refusals).toEqual([]);
    expect(busy.levels[0]).toBeGreaterThan(0); // whole ones still have their share
    expect(busy.levels[2]).toBeGreaterThan(busy.latencies.length / 4);
    expect(p99(busy.latencies)).toBeLessThan(DEADLINE_MS);
    const after = await simulate(admission, 0.5 * capacity, 3, WORK, speed);
    expect(after.levels[0]! / after.latencies.length).toBeGreaterThan(0.97);
  });
});

describe('one request', () => {
  it('begins on the level that it has the time for', () => {
    const { admission } = newAdmission();
    expect(admission.admit(entrant([500, 500, 2, 1]))).toMatchObject({ level: 2, isShort: true });
    expect(admission.admit(entrant([1, 1, 1, 1]))).toMatchObject({ level: 0, isShort: false });
  });

  it('a strict one (a single level) begins whole or not at all', async () => {
    const { admission } = newAdmission();
    const first = admission.admit(entrant([500])) as Ticket; // nothing is in flight: it is tried
    expect(first.level).toBe(0);
    const second = Promise.resolve(admission.admit(entrant([500])));
    const refused = expect(second).rejects.toMatchObject({ code: 'BELFRY_OVERLOADED', statusCode: 503, limit: 5 });
    await vi.advanceTimersByTimeAsync(10);
    await refused;
  });

  it('past its deadline is dropped, not run', async () => {
    const { admission, metrics } = newAdmission();
    expect(() => admission.admit(entrant([1], 'online', 0))).toThrowError(
      expect.objectContaining({ code: 'BELFRY_DEADLINE_EXCEEDED' }) as Error,
    );
    void admission.admit(entrant([10_000]));
    const waiting = Promise.resolve(admission.admit(entrant([10], 'batch', 50)));
    const dropped = expect(waiting).rejects.toMatchObject({ code: 'BELFRY_DEADLINE_EXCEEDED', limit: 50 });
    await vi.advanceTimersByTimeAsync(60);
    await dropped;
    expect((await metrics.shed.get()).values.map(({ labels, value }) => [labels.reason, value])).toEqual([
      ['late', 1],
      ['late', 1],
    ]);
  });
});

describe('the queue', () => {
  it('is bounded; a batch gives its place to a request that somebody looks at', async () => {
    const { admission } = newAdmission(1);
    void admission.admit(entrant([10_000]));
    const batch = Promise.resolve(admission.admit(entrant([10], 'batch')));
    const gone = expect(batch).rejects.toMatchObject({ code: 'BELFRY_OVERLOADED' });
    const online = Promise.resolve(admission.admit(entrant([10])));
    await gone;
    expect(() => admission.admit(entrant([10]))).toThrowError(expect.objectContaining({ limit: 1 }) as BelfryError);
    const late = expect(online).rejects.toThrow('waited for 5 ms');
    await vi.advanceTimersByTimeAsync(10);
    await late;
  });

  it('serves the newest first when it stands, and batches after all others', async () => {
    const { admission } = newAdmission();
    const holder = admission.admit(entrant([10_000])) as Ticket;
    const order: string[] = [];
    const enter = (name: string, priority?: Entrant['priority']) =>
      Promise.resolve(admission.admit(entrant([10], priority))).then((ticket) => {
        order.push(name);
        ticket.release();
      });
    const all = [enter('batch', 'batch'), enter('oldest'), enter('middle')];
    await vi.advanceTimersByTimeAsync(3);
    all.push(enter('newest'));
    holder.release();
    await Promise.all(all);
    expect(order).toEqual(['newest', 'middle', 'oldest', 'batch']);
  });

  it('lets batches start on a quiet server only', () => {
    const { admission } = newAdmission();
    void admission.admit(entrant([30]));
    expect(admission.admit(entrant([10], 'batch'))).toBeInstanceOf(Promise);
    expect(admission.admit(entrant([10]))).not.toBeInstanceOf(Promise);
  });
});
