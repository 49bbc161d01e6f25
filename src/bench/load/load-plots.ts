/** The plots of a load: percentiles, what happened over time, and what a ramp shows. */
import type { Plot, PlotSeries } from '../report/schema.js';
import { formatValue } from '../report/format.js';
import { kneeOf, type Measures, type Step } from './measures.js';
import { percentileMs, type Window } from './recording.js';
import type { LoadPlan, LoadResult } from './run-load.js';

export interface PlotInput {
  readonly plan: LoadPlan;
  readonly result: LoadResult;
  readonly all: Measures;
  readonly steps: readonly Step[];
}

/** Points of the percentile curve: equally far apart on the scale of nines. */
const CURVE_POINTS = 80;

export function loadPlots(input: PlotInput): Plot[] {
  const ramp = input.steps.length > 0 ? rampPlots(input) : [];
  return [...ramp, percentilePlot(input), ...timelines(input), ...serverPlots(input)];
}

type Point = PlotSeries['points'][number];

function percentilePlot({ plan, result: { recording }, all }: PlotInput): Plot {
  const count = all.window.latency.totalCount;
  // Beyond the last sample the curve would only repeat the maximum.
  const most = Math.min(5, Math.log10(Math.max(10, count)));
  const shares = Array.from({ length: CURVE_POINTS + 1 }, (_, i) => 1 - 10 ** ((-i * most) / CURVE_POINTS));
  const curve = (histogram: Measures['window']['latency']): Point[] =>
    histogram.totalCount === 0
      ? []
      : shares.map((share): Point => [share, percentileMs(histogram, share * 100) as number]);
  const isOpen = plan.loop.kind === 'open';
  return {
    id: 'latency-percentiles',
    title: 'Latency by percentile',
    note: isOpen
      ? 'From the moment a request was due. Where the grey line, from the moment it was sent, lies below, requests waited to be sent.'
      : 'Of a closed loop: stalls are hidden.',
    x: { label: 'percentile', scale: 'nines', unit: 'share' },
    y: { label: 'latency', scale: 'log', unit: 'ms' },
    series: [
      { name: 'from due', points: curve(all.window.latency), style: 'line' },
      ...(isOpen ? [{ name: 'from sent', points: curve(recording.service), style: 'line' as const, muted: true }] : []),
    ],
    marks: [{ y: plan.deadlineMs, label: `deadline ${plan.deadlineMs} ms` }],
  };
}

function timelines({ plan, result: { recording, windowMs, events } }: PlotInput): Plot[] {
  const { windows } = recording;
  const seconds = (i: number) => ((i + 0.5) * windowMs) / 1000;
  const marks = events.flatMap(({ label, from, to }) => [
    { x: from / 1000, label },
    ...(to - from > windowMs && to < windows.length * windowMs ? [{ x: to / 1000, label: `${label} done` }] : []),
  ]);
  const over = (of: (window: Window) => number | null): Point[] =>
    windows.flatMap((window, i): Point[] => {
      const value = window === undefined ? null : of(window);
      return value === null ? [] : [[seconds(i), value]];
    });
  const rate = (of: (window: Window) => number) => over((window) => (of(window) * 1000) / windowMs);
  const x = {
    label: 'time',
    scale: 'linear',
    unit: 'seconds',
    min: 0,
    max: (windows.length * windowMs) / 1000,
  } as const;
  const plots: Plot[] = [
    {
      id: 'throughput',
      title: 'Throughput over time',
      x,
      y: { label: 'requests', scale: 'linear', unit: 'rate', min: 0 },
      series: [
        { name: 'asked', points: rate(({ offered }) => offered), style: 'line', muted: true },
        { name: 'answered', points: rate(({ completed }) => completed), style: 'line' },
        { name: `good (within ${plan.deadlineMs} ms)`, points: rate(({ inDeadline }) => inDeadline), style: 'line' },
      ],
      marks,
    },
    {
      id: 'latency-timeline',
      title: 'Latency over time',
      note: 'By the moment a request was due.',
      x,
      y: { label: 'latency', scale: 'log', unit: 'ms' },
      series: [
        { name: 'p50', points: over(({ latency }) => percentileMs(latency, 50)), style: 'line' },
        { name: 'p99', points: over(({ latency }) => percentileMs(latency, 99)), style: 'line' },
        { name: 'max', points: over(({ latency }) => percentileMs(latency, 100)), style: 'line', muted: true },
      ],
      marks: [...marks, { y: plan.deadlineMs, label: `deadline ${plan.deadlineMs} ms` }],
    },
  ];
  const stacked = (of: (window: Window) => Record<string, number>): PlotSeries[] =>
    [...new Set(windows.flatMap((window) => (window === undefined ? [] : Object.keys(of(window)))))].map((name) => ({
      name,
      points: rate((window) => of(window)[name] ?? 0),
      style: 'area',
    }));
  const troubles = [...stacked(({ degraded }) => degraded), ...stacked(({ errors }) => errors)];
  if (troubles.length > 0)
    plots.push({
      id: 'degraded-timeline',
      title: 'Degraded answers and errors over time',
      note: 'By reason or code; an answer with two reasons counts twice.',
      x,
      y: { label: 'answers', scale: 'linear', unit: 'rate', min: 0 },
      series: troubles,
      marks,
    });
  return plots;
}

function rampPlots({ plan, steps }: PlotInput): Plot[] {
  const { rate: knee, isFound } = kneeOf(steps);
  const kneeMarks = knee === null || !isFound ? [] : [{ x: knee, label: `knee ${formatValue(knee, 'rate')}` }];
  const x = { label: 'asked', scale: 'linear', unit: 'rate', min: 0 } as const;
  const line = (name: string, of: (step: Step) => number | null): PlotSeries => ({
    name,
    style: 'line',
    points: steps.flatMap((step): Point[] => {
      const value = of(step);
      return value === null ? [] : [[step.rate, value]];
    }),
  });
  return [
    {
      id: 'ramp-latency',
      title: 'Latency by rate',
      note: 'The knee is the last rate of which 99 % were answered before the deadline.',
      x,
      y: { label: 'latency', scale: 'log', unit: 'ms' },
      series: [50, 99, 99.9].map((percentile) =>
        line(`p${percentile}`, (step) => step.latency.get(percentile) ?? null),
      ),
      marks: [...kneeMarks, { y: plan.deadlineMs, label: `deadline ${plan.deadlineMs} ms` }],
    },
    {
      id: 'ramp-goodput',
      title: 'Answered by rate',
      x,
      y: { label: 'answers', scale: 'linear', unit: 'rate', min: 0 },
      series: [
        { ...line('asked', ({ rate }) => rate), muted: true },
        line('answered', ({ throughput }) => throughput),
        line(`good (within ${plan.deadlineMs} ms)`, ({ goodput }) => goodput),
      ],
      marks: kneeMarks,
    },
  ];
}

function serverPlots({ result: { server, events, recording, windowMs } }: PlotInput): Plot[] {
  if (server.length < 2) return [];
  const x = {
    label: 'time',
    scale: 'linear',
    unit: 'seconds',
    min: 0,
    max: (recording.windows.length * windowMs) / 1000,
  } as const;
  const marks = events.map(({ label, from }) => ({ x: from / 1000, label }));
  const over = (name: string, of: (one: (typeof server)[number]) => number | null): PlotSeries => ({
    name,
    style: 'line',
    points: server.flatMap((one): Point[] => {
      const value = of(one);
      return value === null ? [] : [[one.at / 1000, value]];
    }),
  });
  return [
    {
      id: 'server-cpu',
      title: 'Server CPU',
      x,
      y: { label: 'cores', scale: 'linear', unit: 'number', min: 0 },
      series: [over('busy cores', ({ cpu }) => cpu)],
      marks,
    },
    {
      id: 'server-memory',
      title: 'Server memory',
      x,
      y: { label: 'resident', scale: 'linear', unit: 'bytes', min: 0 },
      series: [over('resident', ({ rssBytes }) => rssBytes)],
      marks,
    },
    {
      id: 'server-loop',
      title: 'Event-loop delay of the server',
      note: 'Of each second.',
      x,
      y: { label: 'delay', scale: 'log', unit: 'ms' },
      series: [
        over('p50', ({ loopP50Ms }) => loopP50Ms),
        over('p99', ({ loopP99Ms }) => loopP99Ms),
        { ...over('max', ({ loopMaxMs }) => loopMaxMs), muted: true },
      ],
      marks,
    },
  ];
}
