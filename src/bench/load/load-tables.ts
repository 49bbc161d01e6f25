/** The tables of a load's report. */
import type { Table } from '../report/schema.js';
import type { LoadRun, LoadSubject } from './load-subject.js';
import { GOOD_SHARE, kneeOf, type Measures, nameOf, PERCENTILES, type Step } from './measures.js';
import { percentileMs } from './recording.js';

export function loadTables(
  { plan }: LoadSubject,
  { result, recall }: LoadRun,
  all: Measures,
  steps: readonly Step[],
): Table[] {
  const { recording, server } = result;
  const rows = (counts: Record<string, number>, total: number) =>
    Object.entries(counts)
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => [name, count, total === 0 ? null : count / total]);
  const tables: Table[] = [
    {
      id: 'latency',
      title: 'Latency',
      columns: [
        { label: 'percentile' },
        { label: 'from due to answered', unit: 'ms' },
        { label: 'from sent to answered', unit: 'ms' },
        { label: 'generator was late by', unit: 'ms' },
      ],
      rows: [...PERCENTILES.map((p) => [nameOf(p), p] as const), ['max', 100] as const].map(([name, p]) => [
        name,
        percentileMs(all.window.latency, p),
        percentileMs(recording.service, p),
        plan.loop.kind === 'open' ? percentileMs(recording.lag, p) : null,
      ]),
      note:
        plan.loop.kind === 'open'
          ? 'The first column is the one to quote: it charges the server for requests that had to wait for it.'
          : 'A closed loop sends the next request when the last is answered: while the server stalls nothing is asked, so its percentiles hide stalls.',
    },
  ];
  if (steps.length > 0) {
    const { rate: knee } = kneeOf(steps);
    tables.push({
      id: 'ramp',
      title: 'Ramp',
      columns: [
        { label: 'asked', unit: 'rate' },
        { label: 'answered', unit: 'rate' },
        { label: `within ${plan.deadlineMs} ms`, unit: 'share' },
        { label: 'p50', unit: 'ms' },
        { label: 'p99', unit: 'ms' },
        { label: 'p99.9', unit: 'ms' },
        { label: 'errors', unit: 'count' },
        { label: 'degraded', unit: 'count' },
        { label: '' },
      ],
      rows: steps.map((step) => [
        step.rate,
        step.throughput,
        step.goodShare,
        step.latency.get(50) ?? null,
        step.latency.get(99) ?? null,
        step.latency.get(99.9) ?? null,
        step.failed,
        step.degraded,
        step.rate === knee ? 'knee' : step.rate > (knee ?? 0) ? 'too much' : '',
      ]),
      ...(result.stepsRun === undefined
        ? {}
        : { note: `Ended here: two steps in a row had less than ${GOOD_SHARE * 100} % within the deadline.` }),
    });
  }
  const countColumns = (what: string): Table['columns'] => [
    { label: what },
    { label: 'requests', unit: 'count' },
    { label: 'share', unit: 'share' },
  ];
  if (all.failed > 0)
    tables.push({
      id: 'errors',
      title: 'Errors',
      columns: countColumns('code'),
      rows: rows(all.window.errors, all.offered),
    });
  if (all.degraded > 0)
    tables.push({
      id: 'degraded',
      title: 'Degraded answers',
      columns: countColumns('reason'),
      rows: rows(all.window.degraded, all.ok),
    });
  const answered = Object.values(recording.generations).reduce((sum, count) => sum + count, 0);
  if (answered > 0)
    tables.push({
      id: 'generations',
      title: 'Answers by generation',
      columns: countColumns('generation'),
      rows: rows({ ...recording.generations }, answered),
    });
  tables.push({
    id: 'generator',
    title: 'The generator itself',
    columns: [{ label: 'what' }, { label: 'value' }],
    rows: [
      ['requests sent', all.offered],
      ['threads', plan.workers],
      ['connections opened', recording.connections],
      ['requests that waited for a connection', recording.waited],
      ['CPU, cores', round(result.generatorCpu)],
      ['loop busy, share of the time', round(recording.busy)],
      ['late by, p50 ms', plan.loop.kind === 'open' ? percentileMs(recording.lag, 50) : null],
      ['late by, p99 ms', plan.loop.kind === 'open' ? percentileMs(recording.lag, 99) : null],
      ['bytes of answers', recording.bytes],
      ['answers judged for recall', (recall?.judged ?? 0) + (recall?.behind.length ?? 0)],
      ['samples of the server', server.length],
    ],
  });
  return tables;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
