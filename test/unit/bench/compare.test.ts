/** What a comparison calls a change, and what it leaves to noise. */
import { describe, expect, it } from 'vitest';
import { COMPARE_DEFAULTS, compareReports } from '../../../src/bench/compare/compare.js';
import { compareReport } from '../../../src/bench/compare/compare-report.js';
import { seeded } from '../../../src/bench/random.js';
import { type BenchReport, type MetricValue, parseReport } from '../../../src/bench/report/schema.js';
import { median } from '../../../src/bench/statistics.js';

function reportOf(summary: MetricValue[], more: Partial<BenchReport> = {}): BenchReport {
  return {
    format: 1,
    bench: 'load',
    title: 'Load',
    subject: '',
    command: 'belfry bench load',
    started: '2026-01-01T00:00:00.000Z',
    seconds: 1,
    machine: { cpu: 'x', cores: 2, memory_bytes: 1, os: 'y', kernels: [] },
    versions: { belfry: '1', node: '20' },
    settings: {},
    summary,
    gates: [],
    tables: [],
    plots: [],
    warnings: [],
    ...more,
  };
}

const metric = (samples: number[] | number, more: Partial<MetricValue> = {}): MetricValue => ({
  name: 'latency_p99',
  label: 'p99',
  unit: 'ms',
  better: 'lower',
  ...(typeof samples === 'number' ? { value: samples } : { value: median(samples), samples }),
  ...more,
});

const verdict = (a: MetricValue, b: MetricValue) =>
  compareReports(reportOf([a]), reportOf([b]), COMPARE_DEFAULTS)[0]?.verdict;

/** Around a middle, with noise of a share. */
function noisy(middle: number, share: number, seed: number, count = 10): number[] {
  const random = seeded(seed);
  return Array.from({ length: count }, () => middle * (1 + share * (2 * random() - 1)));
}

describe('compare', () => {
  it('calls what lies beyond noise and tolerance, in the direction of the metric', () => {
    expect(verdict(metric(noisy(10, 0.03, 1)), metric(noisy(15, 0.03, 2)))).toBe('worse');
    expect(verdict(metric(noisy(15, 0.03, 1)), metric(noisy(10, 0.03, 2)))).toBe('better');
    const up = { better: 'higher', unit: 'rate' } as const;
    expect(verdict(metric(noisy(10, 0.03, 1), up), metric(noisy(15, 0.03, 2), up))).toBe('better');
    expect(
      verdict(metric(noisy(10, 0.03, 1), { better: 'none' }), metric(noisy(15, 0.03, 2), { better: 'none' })),
    ).toBe('changed');
  });

  it('calls noise noise, and a small sure change the same', () => {
    expect(verdict(metric(noisy(10, 0.8, 1)), metric(noisy(12, 0.8, 2)))).toBe('unsure');
    expect(verdict(metric(noisy(10, 0.001, 1)), metric(noisy(10.2, 0.001, 2)))).toBe('same');
  });

  it('raises few false alarms: equal distributions of ten metrics, sixty times', () => {
    let alarms = 0;
    for (let trial = 0; trial < 60; trial++) {
      const side = (offset: number) =>
        reportOf(
          Array.from({ length: 10 }, (_, i) => metric(noisy(10, 0.3, trial * 40 + offset + i), { name: `m${i}` })),
        );
      const changes = compareReports(side(0), side(20), COMPARE_DEFAULTS);
      if (changes.some(({ verdict: one }) => one === 'worse' || one === 'better')) alarms++;
    }
    // 5 % of 60 is 3; the bootstrap of ten samples is a little narrow.
    expect(alarms).toBeLessThan(9);
  }, 60_000);

  it('compares shares by their difference and their means', () => {
    const share = { unit: 'share', better: 'higher', name: 'recall_at_10' } as const;
    const recalls = (hits: number) => Array.from({ length: 1000 }, (_, i) => (i < hits ? 1 : 0.5));
    const of = (hits: number) => metric(recalls(hits), { ...share, value: (hits + (1000 - hits) / 2) / 1000 });
    expect(verdict(of(990), of(900))).toBe('worse');
    expect(verdict(of(990), of(990))).toBe('same');
    const [change] = compareReports(reportOf([of(990)]), reportOf([of(900)]), COMPARE_DEFAULTS);
    expect(change?.change).toBeCloseTo(-0.045, 10);
  });

  it('has no interval without samples: a large change is unsure, a first error is worse', () => {
    expect(verdict(metric(10), metric(20))).toBe('unsure');
    expect(verdict(metric(10), metric(10.1))).toBe('same');
    expect(verdict(metric(0), metric(3))).toBe('worse');
    expect(verdict(metric(5), metric(5, { value: null }))).toBe('unsure');
  });

  it('gives a report whose gate fails when something is worse, and says what was not the same', () => {
    const a = reportOf([metric(noisy(10, 0.03, 1))], { settings: { rate: 100, repeats: 1 } });
    const b = reportOf([metric(noisy(20, 0.03, 2))], { settings: { rate: 200, repeats: 1 } });
    const { report } = compareReport({ report: a, file: 'a.json' }, { report: b, file: 'b.json' }, COMPARE_DEFAULTS);
    expect(report.gates).toMatchObject([{ passed: false, value: 1 }]);
    expect(report.tables[1]?.rows).toEqual([['rate', '100', '200']]);
    expect(report.warnings.map(({ code }) => code)).toContain('one-run');
    expect(parseReport(JSON.stringify(report), 'x')).toEqual(report);
  });

  it('refuses reports that have nothing in common', () => {
    const load = reportOf([metric(1)]);
    expect(() => compareReports(load, reportOf([metric(1)], { bench: 'recall' }), COMPARE_DEFAULTS)).toThrow(
      /two reports of one bench, received load and recall/,
    );
    expect(() => compareReports(load, reportOf([metric(1, { name: 'other' })]), COMPARE_DEFAULTS)).toThrow(
      /share no metric/,
    );
  });
});

describe('a report file', () => {
  it.each([
    ['{', /a.json: not JSON/],
    ['{"format":2}', /expected a bench report of format 1, received 2/],
    ['null', /received none/],
    [JSON.stringify({ ...reportOf([]), summary: [{ name: 'X' }] }), /a.json: \/summary\/0/],
  ])('is refused: %s', (text, message) => {
    expect(() => parseReport(text, 'a.json')).toThrow(message);
  });
});
