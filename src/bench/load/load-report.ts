/** The report of `bench load`: what was seen, in the words and plots of the report contract. */
import { reportHead } from '../report/facts.js';
import type { BenchReport, Gate, MetricValue } from '../report/schema.js';
import { mean, median } from '../statistics.js';
import { loadPlots } from './load-plots.js';
import type { LoadGates, LoadRun, LoadSubject } from './load-subject.js';
import { loadTables } from './load-tables.js';
import { GOOD_SHARE, kneeOf, type Measures, measuresOf, nameOf, type Step, windowsBetween } from './measures.js';
import { percentileMs } from './recording.js';
import type { LoadPlan, LoadResult } from './run-load.js';
import { loadWarnings } from './load-warnings.js';

/** A run is cut into this many slices for the samples of `bench compare`, where there are no repeats. */
const SLICES = 10;

export function loadReport(subject: LoadSubject, runs: readonly LoadRun[]): BenchReport {
  const shown = typical(runs);
  const { result } = shown;
  const all = measuresOf(result.recording.windows, result.windowMs);
  const steps = stepsOf(subject.plan, result);
  const summary = summaryOf(subject, runs, shown, steps);
  const gates = gatesOf(subject.gates, summary);
  return {
    ...reportHead(
      'load',
      subject.during === undefined ? 'Load' : `Load during ${subject.during}`,
      describe(subject, runs.length),
      subject,
    ),
    seconds: runs.reduce((sum, run) => sum + run.result.seconds, 0),
    settings: { ...subject.settings },
    summary,
    gates,
    tables: loadTables(subject, shown, all, steps),
    plots: loadPlots({ plan: subject.plan, result, all, steps }),
    warnings: loadWarnings(subject.plan, result, all, steps),
  };
}

/** The run in the middle by its p99: the plots show one run, not a mixture. */
function typical(runs: readonly LoadRun[]): LoadRun {
  const p99 = ({ result }: LoadRun) => measuresOf(result.recording.windows, result.windowMs).latency.get(99) ?? 0;
  const sorted = [...runs].sort((a, b) => p99(a) - p99(b));
  return sorted[(sorted.length - 1) >> 1] as LoadRun;
}

function describe({ url, mix, plan, during }: LoadSubject, repeats: number): string {
  const { loop } = plan;
  let load: string;
  if (loop.kind === 'closed') load = `a closed loop of ${loop.clients} clients for ${loop.seconds} s`;
  else if (loop.segments.length === 1)
    load = `an open loop at ${loop.segments[0]!.rate} requests/s (${loop.arrivals}) for ${loop.segments[0]!.seconds} s`;
  else load = `an open-loop ramp from ${loop.segments[0]!.rate} to ${loop.segments.at(-1)!.rate} requests/s`;
  const times = repeats === 1 ? '' : `, ${repeats} times`;
  const event = during === undefined ? '' : `, with a ${during} in the middle`;
  return `${url} under ${load}${times}${event}; asked: ${mix.description}.`;
}

export function stepsOf({ loop }: LoadPlan, { recording, windowMs }: LoadResult): Step[] {
  if (loop.kind === 'closed' || loop.segments.length === 1) return [];
  let from = 0;
  const steps: Step[] = [];
  for (const { rate, seconds } of loop.segments) {
    const first = Math.round(from / windowMs);
    from += seconds * 1000;
    const windows = recording.windows.slice(first, Math.round(from / windowMs));
    if (windows.every((one) => one === undefined || one.offered === 0)) break; // the run was ended before
    steps.push({ rate, ...measuresOf(windows, windowMs) });
  }
  return steps;
}

function summaryOf(
  { plan, during }: LoadSubject,
  runs: readonly LoadRun[],
  shown: LoadRun,
  steps: readonly Step[],
): MetricValue[] {
  const slices = runs.length > 1 ? runs.map(wholeRun) : steps.length > 0 ? [] : slicesOf(shown.result);
  const wholes = runs.map(wholeRun);
  const metric = (
    name: string,
    label: string,
    unit: MetricValue['unit'],
    better: MetricValue['better'],
    of: (measures: Measures) => number | null,
    note?: string,
  ): MetricValue => {
    const known = (list: readonly Measures[]) => list.map(of).filter((value) => value !== null);
    const samples = known(slices);
    return {
      name,
      label,
      value: known(wholes).length === 0 ? null : median(known(wholes)),
      unit,
      better,
      ...(samples.length > 1 ? { samples } : {}),
      ...(note === undefined ? {} : { note }),
    };
  };
  const share = (count: number, total: number) => (total === 0 ? null : count / total);
  const isClosed = plan.loop.kind === 'closed';
  const summary = [
    metric('throughput', 'Throughput', 'rate', isClosed ? 'higher' : 'none', (one) => one.throughput),
    metric('goodput_share', `Answered within ${plan.deadlineMs} ms`, 'share', 'higher', (one) => one.goodShare),
    metric('goodput', `Goodput (within ${plan.deadlineMs} ms)`, 'rate', 'higher', (one) => one.goodput),
    ...[50, 90, 99, 99.9, 99.99].map((percentile) =>
      metric(
        `latency_${nameOf(percentile).replace('.', '_')}`,
        `Latency ${nameOf(percentile)}`,
        'ms',
        'lower',
        (one) => one.latency.get(percentile) ?? null,
      ),
    ),
    metric('latency_max', 'Latency max', 'ms', 'none', (one) => one.maxMs),
    metric('failed', 'Failed requests', 'count', 'lower', (one) => one.failed),
    metric('error_share', 'Errors', 'share', 'lower', (one) => share(one.failed, one.offered)),
    metric('degraded_share', 'Degraded answers', 'share', 'lower', (one) => share(one.degraded, one.ok)),
  ];
  const [recall] = runs.flatMap((run) => (run.recall === undefined ? [] : [run.recall]));
  if (recall !== undefined) {
    summary.push({
      name: `recall_at_${recall.k}`,
      label: `Recall@${recall.k} of the answers`,
      value: recall.recall,
      unit: 'share',
      better: 'higher',
      ...(recall.values.length > 1 ? { samples: [...recall.values] } : {}),
      note: recall.note,
    });
    if (recall.behind.length > 0)
      summary.push({
        name: 'candidate_recall',
        label: 'Recall of the candidates behind re-ranked answers',
        value: mean(recall.behind),
        unit: 'share',
        better: 'higher',
        ...(recall.behind.length > 1 ? { samples: [...recall.behind] } : {}),
        note: `${recall.behind.length} re-ranked answers: the retrieval rank of the deepest item over its exact rank`,
      });
  }
  if (steps.length > 0) {
    const { rate, isFound } = kneeOf(steps);
    summary.push({
      name: 'knee',
      label: `Knee: highest rate with ${GOOD_SHARE * 100} % within ${plan.deadlineMs} ms`,
      value: rate,
      unit: 'rate',
      better: 'higher',
      ...(isFound ? {} : { note: 'every step was served well: the knee lies beyond the ramp' }),
    });
  }
  if (during !== undefined) summary.push(...duringMetrics(shown.result, during));
  if (!isClosed)
    summary.push({
      name: 'generator_late_p99',
      label: 'Generator overhead: late by, p99',
      value: median(runs.map(({ result }) => percentileMs(result.recording.lag, 99) ?? 0)),
      unit: 'ms',
      better: 'none',
    });
  return [...summary, ...serverMetrics(runs)];
}

function wholeRun({ result }: LoadRun): Measures {
  return measuresOf(result.recording.windows, result.windowMs);
}

function slicesOf({ recording: { windows }, windowMs }: LoadResult): Measures[] {
  const count = Math.min(SLICES, windows.length);
  return Array.from({ length: count }, (_, i) =>
    measuresOf(
      windows.slice(Math.round((i * windows.length) / count), Math.round(((i + 1) * windows.length) / count)),
      windowMs,
    ),
  );
}

/** p99 of the time of the event over that of the time before it. */
function duringMetrics({ recording, windowMs, events }: LoadResult, during: string): MetricValue[] {
  if (events.length === 0) return [];
  const { windows } = recording;
  const before = measuresOf(
    windowsBetween(windows, windowMs, 0, Math.min(...events.map(({ from }) => from))),
    windowMs,
  );
  const inside = measuresOf(
    events.flatMap(({ from, to }) => windowsBetween(windows, windowMs, from, to)),
    windowMs,
  );
  const [calm, stressed] = [before.latency.get(99) ?? null, inside.latency.get(99) ?? null];
  return [
    { name: 'p99_before', label: `p99 before the ${during}`, value: calm, unit: 'ms', better: 'lower' },
    { name: 'p99_during', label: `p99 during the ${during}`, value: stressed, unit: 'ms', better: 'lower' },
    {
      name: 'p99_ratio',
      label: `p99 during over before`,
      value: calm === null || stressed === null ? null : stressed / calm,
      unit: 'ratio',
      better: 'lower',
    },
    {
      name: 'failed_during',
      label: `Failed during the ${during}`,
      value: inside.failed,
      unit: 'count',
      better: 'lower',
    },
  ];
}

/** Medians over the runs. */
function serverMetrics(runs: readonly LoadRun[]): MetricValue[] {
  const watched = runs.map(({ result }) => result.server).filter((server) => server.length > 0);
  if (watched.length === 0) return [];
  const most = (of: (one: LoadResult['server'][number]) => number) =>
    watched.map((server) => Math.max(...server.map(of)));
  const cpus = watched
    .map((server) => server.flatMap(({ cpu }) => (cpu === null ? [] : [cpu])))
    .filter((all) => all.length > 0);
  const metric = (name: string, label: string, unit: MetricValue['unit'], values: readonly number[]): MetricValue => ({
    name,
    label,
    value: values.length === 0 ? null : median(values),
    unit,
    better: 'lower',
    ...(values.length > 1 ? { samples: [...values] } : {}),
  });
  return [
    metric('server_cpu', 'Server CPU, cores', 'number', cpus.map(median)),
    metric(
      'server_rss_max',
      'Server memory, most',
      'bytes',
      most(({ rssBytes }) => rssBytes),
    ),
    metric(
      'server_loop_p99',
      'Server event-loop delay, p99 of the worst second',
      'ms',
      most(({ loopP99Ms }) => loopP99Ms),
    ),
  ];
}

function gatesOf(gates: LoadGates, summary: readonly MetricValue[]): Gate[] {
  // Where all answers are re-ranked, the recall of their candidates is the one that there is.
  const hasPlain = summary.some(({ name, value }) => name.startsWith('recall_at_') && value !== null);
  const rows: [flag: string, limit: number | undefined, metric: RegExp, isMost: boolean][] = [
    ['--max-p99', gates.maxP99Ms, /^latency_p99$/, true],
    ['--max-p99.9', gates.maxP999Ms, /^latency_p99_9$/, true],
    ['--min-goodput', gates.minGoodput, /^goodput_share$/, false],
    ['--min-recall', gates.minRecall, hasPlain ? /^recall_at_/ : /^candidate_recall$/, false],
    ['--max-errors', gates.maxErrorShare, /^error_share$/, true],
  ];
  return rows.flatMap(([name, limit, pattern, isMost]) => {
    if (limit === undefined) return [];
    const found = summary.find((metric) => pattern.test(metric.name));
    const value = found?.value ?? null;
    // What could not be measured has not been shown to hold.
    const passed = value !== null && (isMost ? value <= limit : value >= limit);
    return [{ name, limit, value, unit: found?.unit ?? 'share', passed }];
  });
}
