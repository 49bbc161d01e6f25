/** What the planner chooses, on a calibration made by hand. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ANN_BOUNDS, defaultRescore } from '../../../src/ann/params.js';
import { type Calibration, SearchPlanner, type Wanted, walkRescore } from '../../../src/ann/planner.js';
import { errorOf } from '../../support/errors.js';

const point = (k: number, ef: number, recall: number, microseconds: number) => ({
  k,
  ef,
  stop: 1.1,
  recall,
  recallLow: recall - 0.005,
  microseconds,
});
const calibration: Calibration = {
  source: 'users',
  queries: 2000,
  kernel: 'avx2',
  costs: { scanMicroseconds: 1000, bulkMicroseconds: 100 },
  points: [
    point(10, 16, 0.9, 10),
    point(10, 25, 0.953, 20),
    point(10, 40, 0.96, 30),
    point(10, 64, 0.986, 50),
    point(10, 140, 0.998, 120),
    point(100, 100, 0.92, 80),
    point(100, 400, 0.99, 300),
    point(100, 1000, 0.999, 2000),
  ],
  probes: [],
  filters: [
    { share: 0.5, factor: 1.5 },
    { share: 0.2, factor: 2 },
    { share: 0.05, factor: 4 },
  ],
};
const planner = new SearchPlanner(100_000, calibration);
const plan = (wanted: Partial<Wanted>) => planner.plan({ k: 10, ...wanted });
const walk = (k: number, ef: number) => ({
  mode: 'walk',
  ef,
  stop: 1.1,
  stopRank: k <= 10 ? 10 : 100, // as in the calibration, whatever k is,
  rescore: walkRescore(k),
});
const scan = (k: number) => ({ mode: 'codes', rescore: defaultRescore(k) });

describe('a recall', () => {
  it.each([
    [0.5, 16, 10],
    [0.895, 16, 10],
    [0.9, 25, 20], // 0.9 was measured, but its lower bound is 0.895
    [0.95, 40, 30],
    [0.98, 64, 50],
    [0.99, 140, 120],
  ])('of %s takes the cheapest point that surely reaches it', (recall, ef, microseconds) => {
    const chosen = plan({ recall });
    expect(chosen.effort).toEqual(walk(10, ef));
    expect(chosen).toMatchObject({ target: recall, expectedMicroseconds: microseconds });
    expect(chosen.expectedRecall).toBeGreaterThanOrEqual(recall);
    expect(chosen.why).toBe(`the cheapest walk whose recall is surely at least ${recall}; a scan costs 1000 us`);
  });

  it('is 0.98 when nothing is said', () => {
    expect(plan({})).toEqual(plan({ recall: ANN_BOUNDS.recall.default }));
    expect(new SearchPlanner(100_000, calibration, 0.9).plan({ k: 10 }).effort).toEqual(walk(10, 25));
  });

  it('that no walk was measured to reach is a scan', () => {
    const chosen = plan({ recall: 0.999 });
    expect(chosen.effort).toEqual(scan(10));
    expect(chosen).toMatchObject({ expectedRecall: 1, why: 'nothing calibrated reaches recall 0.999 at k 10' });
  });

  it('of 1 is the same as exact, whatever was measured', () => {
    const perfect = { ...calibration, points: [{ ...point(10, 16, 1, 10), recallLow: 1 }] };
    expect(new SearchPlanner(100_000, perfect).plan({ k: 10, recall: 1 }).effort).toEqual({ mode: 'exact' });
    expect(new SearchPlanner(10).plan({ k: 10, recall: 1 }).effort).toEqual({ mode: 'exact' });
  });

  it('is met by the cheapest, in whatever order the points come', () => {
    const shuffled = { ...calibration, points: [...calibration.points].reverse() };
    for (const recall of [0.5, 0.9, 0.95, 0.98, 0.99])
      expect(new SearchPlanner(100_000, shuffled).plan({ k: 10, recall })).toEqual(plan({ recall }));
  });
});

describe('k', () => {
  it.each([
    [1, 16],
    [9, 16],
    [10, 16],
    [11, 100],
    [100, 100],
  ])('%i is looked up in the nearest table that is not below', (k, ef) => {
    expect(plan({ k, recall: 0.8 }).effort).toEqual(walk(k, ef));
  });
  it('above every table is a scan', () => {
    expect(plan({ k: 101, recall: 0.8 }).effort).toEqual(scan(101));
    expect(plan({ k: 10_000 }).effort).toEqual(scan(10_000));
  });
  it('above the number of rows is looked up as that number', () => {
    expect(new SearchPlanner(60, calibration).plan({ k: 5_000, recall: 0.8 }).effort).toMatchObject({ mode: 'walk' });
  });
  it('rescores a few rows more than are wanted', () => {
    for (const k of [1, 2, 10, 20, 100, 1000, 10_000]) {
      expect(walkRescore(k), `k ${k}`).toBeGreaterThan(k);
      expect(walkRescore(k), `k ${k}`).toBeLessThanOrEqual(Math.max(k + 10, 1.5 * k));
    }
  });
});

describe('costs', () => {
  it('a scan that is cheaper than the walk is taken, and says so', () => {
    const chosen = plan({ k: 100, recall: 0.99 }); // 0.999 - 0.005 reaches it, for 2000 us
    expect(chosen.effort).toEqual(scan(100));
    expect(chosen).toMatchObject({
      expectedRecall: 1,
      expectedMicroseconds: 1000,
      why: 'a scan (1000 us) costs less than a walk (2000 us)',
    });
  });
  it('a batch shares the reading of the codes', () => {
    // 100 + 900 / batch: a walk of 120 us is dearer from 45 queries on.
    expect(plan({ recall: 0.99, batch: 44 }).effort.mode).toBe('walk');
    expect(plan({ recall: 0.99, batch: 45 }).effort).toEqual(scan(10));
    expect(plan({ recall: 0.9, batch: 1_000_000 }).effort.mode).toBe('walk'); // 20 us beat 100
  });
  it('a bulk price above that of one query is no credit for batches', () => {
    const odd = { ...calibration, costs: { scanMicroseconds: 30, bulkMicroseconds: 40 } };
    for (const batch of [1, 100])
      expect(new SearchPlanner(9, odd).plan({ k: 10, recall: 0.99, batch }).expectedMicroseconds).toBe(40);
  });
});

describe('probes of partitions', () => {
  const probe = (k: number, probes: number, recall: number, microseconds: number, bulkMicroseconds: number) => ({
    k,
    probes,
    recall,
    recallLow: recall - 0.005,
    microseconds,
    bulkMicroseconds,
  });
  const probing = new SearchPlanner(100_000, {
    ...calibration,
    probes: [probe(10, 4, 0.93, 60, 5), probe(10, 9, 0.97, 90, 12), probe(10, 30, 0.995, 200, 50)],
  });

  it('are chosen where they cost less than walks and scans: in batches', () => {
    expect(probing.plan({ k: 10, recall: 0.9 }).effort).toEqual(walk(10, 25));
    // 5 + 55 / batch against 20 us.
    expect(probing.plan({ k: 10, recall: 0.9, batch: 3 }).effort.mode).toBe('walk');
    const chosen = probing.plan({ k: 10, recall: 0.9, batch: 5 });
    expect(chosen.effort).toEqual({ mode: 'probe', probes: 4, rescore: defaultRescore(10) });
    expect(chosen).toMatchObject({ expectedRecall: 0.925, expectedMicroseconds: 16 });
    expect(chosen.why).toBe('the cheapest probe whose recall is surely at least 0.9; a scan costs 280 us');
  });
  it('reach their target surely, as walks do', () => {
    expect(probing.plan({ k: 10, recall: 0.93, batch: 1000 }).effort).toMatchObject({ mode: 'probe', probes: 9 });
    expect(probing.plan({ k: 10, recall: 0.99, batch: 1000 }).effort).toMatchObject({ mode: 'probe', probes: 30 });
    // A walk reaches this for 120 us, a scan costs 101.
    expect(probing.plan({ k: 10, recall: 0.9925, batch: 1000 }).effort).toEqual(scan(10));
    expect(probing.plan({ k: 10, recall: 0.999, batch: 1000 }).effort).toEqual(scan(10));
    expect(probing.plan({ k: 100, recall: 0.9, batch: 1000 }).effort).toEqual(walk(100, 100)); // no probe at k 100
  });
  it('answer what no walk reaches, when a scan costs more', () => {
    const deep = new SearchPlanner(100_000, { ...calibration, probes: [probe(10, 90, 0.9999, 900, 60)] });
    expect(deep.plan({ k: 10, recall: 0.994 })).toMatchObject({ effort: { mode: 'probe' }, expectedMicroseconds: 900 });
  });
  it('are not chosen under a filter, which nobody has measured', () => {
    expect(probing.plan({ k: 10, recall: 0.9, batch: 1000, share: 0.5 }).effort.mode).toBe('walk');
  });
});

describe('a filter', () => {
  it.each([
    [1, 25 * 1.5],
    [0.5, 25 * 1.5],
    [0.49, 25 * 2],
    [0.2, 25 * 2],
    [0.1, 25 * 4],
    [0.001, 25 * 4],
    [0, 25 * 4],
  ])('that allows a share of %s takes the larger effort of the calibrated shares beside it', (share, ef) => {
    expect(plan({ recall: 0.9, share }).effort).toEqual(walk(10, Math.ceil(ef)));
  });
  it('costs as much more as it takes more effort', () => {
    // 50 us for recall 0.98, four times the pool, and a quarter more for a probe.
    expect(plan({ recall: 0.98, share: 0.05 }).expectedMicroseconds).toBe(250);
    // Twice the pool, and two and a half times as dear a walk.
    expect(plan({ recall: 0.98, share: 0.2 }).expectedMicroseconds).toBe(250);
    const dear = { ...calibration, costs: { scanMicroseconds: 240, bulkMicroseconds: 100 } };
    expect(new SearchPlanner(1e5, dear).plan({ k: 10, recall: 0.98, share: 0.05 }).effort).toEqual(scan(10));
  });
  it('of an index that was not calibrated for filters changes nothing', () => {
    expect(new SearchPlanner(1e5, { ...calibration, filters: [] }).plan({ k: 10, share: 0.1 }).effort).toEqual(
      plan({}).effort,
    );
  });
});

describe('what a caller may ask for', () => {
  it('exactness', () => {
    expect(plan({ exact: true })).toEqual({
      effort: { mode: 'exact' },
      target: 1,
      expectedRecall: 1,
      why: 'exact was asked for',
    });
    expect(new SearchPlanner(10).plan({ k: 10, exact: true }).effort).toEqual({ mode: 'exact' });
    expect(plan({ exact: false }).effort).toEqual(plan({}).effort);
  });
  it('an effort, of which no recall is known', () => {
    const chosen = plan({ ef: 200 });
    expect(chosen).toEqual({
      effort: { mode: 'walk', ef: 200, stop: ANN_BOUNDS.stop.default, stopRank: 200, rescore: walkRescore(10) },
      target: 0,
      expectedMicroseconds: expect.closeTo(200 * (120 / 140)), // the highest price of a row of the pool at this k
      why: 'ef 200 was asked for',
    });
    expect(plan({ ef: 200 })).toBe(chosen); // remembered, apart from plans for a recall
    expect(plan({ recall: 0.95 }).why).toContain('recall');
    expect(plan({ k: 100, ef: 20 }).effort.ef).toBe(100); // no fewer than are wanted
    expect(plan({ ef: 1e6 }).effort.ef).toBe(ANN_BOUNDS.ef.max);
  });
  it('one of them at a time', async () => {
    const pairs: Partial<Wanted>[] = [
      { recall: 0.9, exact: true },
      { recall: 1, exact: true },
      { recall: 0.9, ef: 20 },
      { recall: 1, ef: 20 },
      { exact: true, ef: 20 },
      { recall: 0.9, exact: true, ef: 20 },
    ];
    for (const wanted of pairs) {
      for (const one of [planner, new SearchPlanner(10)]) {
        expect(await errorOf(() => one.plan({ k: 10, ...wanted }))).toBe(
          'BELFRY_INVALID_ARGUMENT recall, exact, ef: expected at most one of the three',
        );
      }
    }
    expect(plan({ recall: 0.9, exact: false }).effort.mode).toBe('walk');
  });
});

describe('without a graph', () => {
  it('everything is scanned', () => {
    for (const wanted of [{}, { recall: 0.5 }, { ef: 20 }, { share: 0.01 }, { batch: 100 }]) {
      expect(new SearchPlanner(100).plan({ k: 10, ...wanted })).toEqual({
        effort: scan(10),
        target: 1,
        expectedRecall: 1,
        why: 'there is no graph: all rows are scanned',
      });
    }
  });
});

describe('the table of parameters', () => {
  it('holds every default within its bounds, with a reason', () => {
    for (const [name, { default: value, min, max, why }] of Object.entries(ANN_BOUNDS)) {
      expect(value, name).toBeGreaterThanOrEqual(min);
      expect(value, name).toBeLessThanOrEqual(max);
      expect(why, name).not.toBe('');
    }
    expect([1, 10, 11, 10_000].map(defaultRescore)).toEqual([30, 30, 33, 30_000]);
  });
  it('is what the documentation says', () => {
    const read = (path: string) => readFileSync(fileURLToPath(new URL(`../../../${path}`, import.meta.url)), 'utf8');
    expect(read('docs/search.md')).toContain(`recall of at least ${ANN_BOUNDS.recall.default} on average`);
    const addon = read('src/ann/addon.ts');
    expect(addon).toContain(`from k to ${ANN_BOUNDS.ef.max.toLocaleString('en')}; larger`);
    expect(addon).toContain(`from 1 to ${ANN_BOUNDS.stop.max}, default ${ANN_BOUNDS.stop.default}.`);
    expect(addon).toContain(`Default ${ANN_BOUNDS.ef.default} or k.`);
  });
});
