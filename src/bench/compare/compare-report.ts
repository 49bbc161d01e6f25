/** The comparison as a report: the table of changes, the settings that differ, and both curves in one plot. */
import { isDeepStrictEqual } from 'node:util';
import { formatNumber, formatValue } from '../report/format.js';
import { reportHead } from '../report/facts.js';
import type { BenchReport, Cell, Plot, Table } from '../report/schema.js';
import { type Change, type CompareOptions, compareReports } from './compare.js';

export interface Compared {
  readonly report: BenchReport;
  readonly changes: readonly Change[];
}

const VERDICT_ORDER = ['worse', 'unsure', 'better', 'changed', 'same'];

/** `a`, `b`: a report and the file it came from. Errors: those of compareReports. */
export function compareReport(
  a: { readonly report: BenchReport; readonly file: string },
  b: { readonly report: BenchReport; readonly file: string },
  options: CompareOptions,
): Compared {
  const started = new Date();
  const changes = compareReports(a.report, b.report, options);
  const count = (verdict: string) => changes.filter((change) => change.verdict === verdict).length;
  const report: BenchReport = {
    ...reportHead(
      'compare',
      `What changed: ${a.report.title.toLowerCase()}`,
      `A is ${a.file} (${when(a.report)}), B is ${b.file} (${when(b.report)}). A change is called where its whole interval lies beyond ${formatNumber(options.tolerance * 100)} % (shares: ${formatNumber(options.shareTolerance * 100)} points).`,
      { started },
    ),
    settings: { a: a.file, b: b.file, ...options },
    summary: (['worse', 'better', 'unsure', 'same'] as const).map((verdict) => ({
      name: verdict,
      label: `Metrics ${verdict}`,
      value: count(verdict),
      unit: 'count',
      better: 'none',
    })),
    gates: [{ name: 'no metric worse', limit: 0, value: count('worse'), unit: 'count', passed: count('worse') === 0 }],
    tables: [changeTable(changes), ...differences(a.report, b.report)],
    plots: overlays(a.report, b.report),
    warnings: warnings(a.report, b.report, changes),
  };
  return { report, changes };
}

function when({ started }: BenchReport): string {
  return `${started.slice(0, 16).replace('T', ' ')} UTC`;
}

function changeTable(changes: readonly Change[]): Table {
  const sorted = [...changes].sort((x, y) => VERDICT_ORDER.indexOf(x.verdict) - VERDICT_ORDER.indexOf(y.verdict));
  return {
    id: 'changes',
    title: 'Changes',
    columns: ['metric', 'A', 'B', 'change', 'interval', 'verdict'].map((label) => ({ label })),
    rows: sorted.map(({ label, unit, a, b, change, interval, verdict }) => [
      label,
      formatValue(a, unit),
      formatValue(b, unit),
      formatChange(change, unit),
      interval === null ? '–' : `${formatChange(interval.low, unit)} to ${formatChange(interval.high, unit)}`,
      verdict,
    ]),
    note: 'Intervals hold for all metrics together with 95 % confidence. Unsure: the samples cannot tell the change from noise.',
  };
}

function formatChange(change: number | null, unit: Change['unit']): string {
  if (change === null) return '–';
  const sign = change > 0 ? '+' : change < 0 ? '−' : '±';
  const size = Math.abs(change) * 100;
  return `${sign}${size.toFixed(size >= 10 ? 0 : size >= 1 ? 1 : 2)} ${unit === 'share' ? 'points' : '%'}`;
}

/** Settings, machine and versions that are not the same on both sides. */
function differences(a: BenchReport, b: BenchReport): Table[] {
  const [left, right] = [a, b].map(({ settings, machine, versions }): Record<string, unknown> => ({
    ...settings,
    ...machine,
    ...versions,
  })) as [Record<string, unknown>, Record<string, unknown>];
  const rows = [...new Set([...Object.keys(left), ...Object.keys(right)])]
    .filter((name) => !isDeepStrictEqual(left[name], right[name]))
    .map((name): Cell[] => [name, JSON.stringify(left[name]) ?? '–', JSON.stringify(right[name]) ?? '–']);
  if (rows.length === 0) return [];
  return [
    {
      id: 'differences',
      title: 'What was not the same',
      columns: [{ label: 'setting' }, { label: 'A' }, { label: 'B' }],
      rows,
    },
  ];
}

/** Plots of both, but not over time: two runs have no common clock. A is grey, B is coloured. */
function overlays(a: BenchReport, b: BenchReport): Plot[] {
  return b.plots.flatMap((plot) => {
    const other = a.plots.find(({ id }) => id === plot.id);
    if (other === undefined || plot.x.unit === 'seconds' || plot.series.some(({ style }) => style === 'area'))
      return [];
    const ours = plot.series.filter(({ muted }) => muted !== true);
    const theirs = other.series.filter(({ name, muted }) => muted !== true && ours.some((one) => one.name === name));
    return [
      {
        ...plot,
        note: 'A is grey, B is coloured.',
        series: [
          ...theirs.map((series) => ({ ...series, name: `A: ${series.name}`, muted: true })),
          ...ours.map((series) => ({ ...series, name: `B: ${series.name}` })),
        ],
      },
    ];
  });
}

function warnings(a: BenchReport, b: BenchReport, changes: readonly Change[]): BenchReport['warnings'] {
  const found: BenchReport['warnings'] = [];
  if (!isDeepStrictEqual(a.machine, b.machine))
    found.push({
      code: 'other-machine',
      message: 'the two reports are of different machines: times cannot be compared',
    });
  if ([a, b].some(({ settings }) => settings.repeats === 1))
    found.push({
      code: 'one-run',
      message:
        'a report of a single run takes its samples from slices of it, which do not show how runs differ; use --repeats 5',
    });
  if (changes.some(({ interval, verdict }) => interval === null && verdict === 'unsure'))
    found.push({
      code: 'no-samples',
      message: 'metrics without samples on both sides get no interval; use --repeats 3 or more',
    });
  const inherited = [
    ...a.warnings.map((one) => ({ ...one, from: 'A' })),
    ...b.warnings.map((one) => ({ ...one, from: 'B' })),
  ];
  return [...found, ...inherited.map(({ code, message, from }) => ({ code, message: `${from}: ${message}` }))];
}
