/** The report of `bench recall`, in the words and plots of the report contract. */
import { loadAddon } from '../../ann/addon.js';
import type { Generation } from '../../generation/generation.js';
import { intervalText, reportHead } from '../report/facts.js';
import { formatValue } from '../report/format.js';
import type { BenchReport, Cell, Gate, MetricValue, Plot, Table } from '../report/schema.js';
import type { Bucket } from './buckets.js';
import type { RecallResult, Served } from './recall-bench.js';
import { warningsOf } from './recall-warnings.js';
import { advice, asField, suggestions } from './suggest.js';
import { describeAsking, describeEffort, type EffortPoint, paretoFront } from './sweep.js';

export interface RecallGates {
  readonly minRecall?: number | undefined;
  readonly maxP99Ms?: number | undefined;
}

export interface RecallSubject {
  readonly generation: Generation;
  /** For people: where the vectors are from. */
  readonly name: string;
  readonly started: Date;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly gates: RecallGates;
}

export function recallReport(subject: RecallSubject, result: RecallResult): BenchReport {
  const { generation } = subject;
  const { rows, dims, metric, kernel, threads } = generation.index.info;
  return {
    ...reportHead(
      'recall',
      'Recall',
      `${subject.name}: ${rows.toLocaleString('en-GB')} items x ${dims}, ${metric}; ${result.queries.note}, one query at a time in process.`,
      { started: subject.started, kernels: loadAddon().kernels },
    ),
    settings: { ...subject.settings, generation: generation.id, rows, dims, metric, kernel, threads },
    summary: summaryOf(result),
    gates: gatesOf(subject.gates, result.served),
    tables: tablesOf(generation, result),
    plots: plotsOf(result),
    warnings: warningsOf(generation, result),
  };
}

function summaryOf({ served, exactPerSecond, diagnosis, drift }: RecallResult): MetricValue[] {
  const of = ({ k, recall, plan, p99, rounds, p50, hits }: Served): MetricValue[] => [
    {
      name: `recall_at_${k}`,
      label: `recall@${k}`,
      value: recall.value,
      unit: 'share',
      better: 'higher',
      samples: Array.from(hits.found, (found, q) => found / hits.wanted[q]!),
      note: `${intervalText(recall)}; asked for ${plan.target}, ${describeEffort(plan.effort)}`,
    },
    {
      name: `latency_p50_at_${k}`,
      label: `k ${k}: median time`,
      value: p50,
      unit: 'ms',
      better: 'lower',
      samples: [...rounds],
    },
    { name: `latency_p99_at_${k}`, label: `k ${k}: p99`, value: p99, unit: 'ms', better: 'lower' },
  ];
  return [
    ...served.flatMap(of),
    {
      name: 'exact_per_second',
      label: 'Exact answers in batches',
      value: exactPerSecond,
      unit: 'rate',
      better: 'higher',
      note: `at k ${Math.max(...served.map(({ k }) => k))}`,
    },
    ...(diagnosis.reach === undefined
      ? []
      : [
          {
            name: 'hard_items_share',
            label: 'Items that a walk of ef 64 misses for the query made for them',
            value: diagnosis.reach.judged === 0 ? null : diagnosis.reach.hard / diagnosis.reach.judged,
            unit: 'share' as const,
            better: 'lower' as const,
            note: `${diagnosis.reach.hard} of ${diagnosis.reach.judged} that are in the exact top 10 of that query, which no user asks; ${diagnosis.reach.unreachable} cannot be reached at all`,
          },
        ]),
    ...(drift?.overlap === undefined
      ? []
      : [
          {
            name: 'answers_kept',
            label: 'Answers kept from the generation before',
            value: drift.overlap.value,
            unit: 'share' as const,
            better: 'none' as const,
            note: intervalText(drift.overlap),
          },
        ]),
  ];
}

/** Without a limit of the user's own, a request must get what it asks for, unless chance may explain what lacks. */
function gatesOf({ minRecall, maxP99Ms }: RecallGates, served: readonly Served[]): Gate[] {
  return served.flatMap(({ k, recall, plan, p99 }): Gate[] => [
    minRecall === undefined
      ? {
          name: `recall@${k}, upper end of its interval, at least the recall asked for`,
          limit: plan.target,
          value: recall.high,
          unit: 'share',
          passed: recall.high >= plan.target,
        }
      : {
          name: `--min-recall at k ${k}`,
          limit: minRecall,
          value: recall.value,
          unit: 'share',
          passed: recall.value >= minRecall,
        },
    ...(maxP99Ms === undefined
      ? []
      : [{ name: `--max-p99 at k ${k}`, limit: maxP99Ms, value: p99, unit: 'ms' as const, passed: p99 <= maxP99Ms }]),
  ]);
}

function tablesOf(generation: Generation, result: RecallResult): Table[] {
  const { served, points, buckets, diagnosis, drift } = result;
  const share = (label: string) => ({ label, unit: 'share' as const });
  const ms = (label: string) => ({ label, unit: 'ms' as const });
  const bucketRows = (list: readonly Bucket[]): Cell[][] =>
    list.map(({ name, size, recall }) => [name, size, recall.value, recall.low, recall.high]);
  const bucketTable = (id: string, title: string, first: string, second: string, list: readonly Bucket[]): Table => ({
    id,
    title,
    columns: [{ label: first }, { label: second, unit: 'count' }, share('recall'), share('low'), share('high')],
    rows: bucketRows(list),
  });
  const tips = [...new Set(points.map(({ k }) => k))].flatMap((k) => advice(points, k) ?? []);
  return [
    {
      id: 'served',
      title: 'What a request gets',
      columns: [
        { label: 'k', unit: 'count' },
        share('recall'),
        share('low'),
        share('high'),
        { label: 'MRR', unit: 'score' },
        { label: 'NDCG', unit: 'score' },
        { label: 'how' },
        ms('p50'),
        ms('p95'),
        ms('p99'),
        { label: 'one thread', unit: 'rate' },
      ],
      rows: served.map((one) => [
        one.k,
        one.recall.value,
        one.recall.low,
        one.recall.high,
        one.mrr.value,
        one.ndcg.value,
        describeEffort(one.plan.effort),
        one.p50,
        one.p95,
        one.p99,
        one.perSecond,
      ]),
      note: 'Recall is by score, so that ties are no misses. MRR: 1 over the exact rank of the first answer. NDCG: the exact list is the ideal.',
    },
    {
      id: 'suggested',
      title: 'Suggested settings',
      columns: [
        { label: 'k', unit: 'count' },
        share('recall surely'),
        { label: 'ask for' },
        share('measured'),
        ms('p50'),
        ms('p99'),
      ],
      rows: suggestions(points).map(({ k, atLeast, point }) => [
        k,
        atLeast,
        asField(point.asking),
        point.recall.value,
        point.p50,
        point.p99,
      ]),
      ...(tips.length === 0 ? {} : { note: `${tips.join('; ')}.` }),
    },
    {
      id: 'sweep',
      title: 'Effort',
      columns: [
        { label: 'k', unit: 'count' },
        { label: 'asked' },
        { label: 'how' },
        share('recall'),
        ms('p50'),
        ms('p95'),
        ms('p99'),
      ],
      rows: points.map(({ k, asking, plan, recall, p50, p95, p99 }) => [
        k,
        describeAsking(asking),
        describeEffort(plan.effort),
        recall.value,
        p50,
        p95,
        p99,
      ]),
    },
    bucketTable('by-norm', `Recall@${buckets.k} by norm of the query`, 'norm', 'queries', buckets.norms),
    bucketTable(
      'by-popularity',
      `Recall@${buckets.k} by popularity (${buckets.popularitySource})`,
      'items',
      'exact rows',
      buckets.popularity,
    ),
    {
      id: 'by-filter',
      title: `Recall@${buckets.k} by filter`,
      columns: [
        { label: 'filter' },
        share('items left'),
        share('recall'),
        share('low'),
        share('high'),
        { label: 'how' },
        { label: 'short answers', unit: 'count' },
      ],
      rows: buckets.filters.map((one) => [
        one.name,
        one.share,
        one.recall.value,
        one.recall.low,
        one.recall.high,
        one.effort,
        one.short,
      ]),
    },
    {
      id: 'facts',
      title: 'The vectors',
      columns: [{ label: 'what' }, { label: 'value' }],
      rows: factRows(generation, diagnosis),
    },
    ...(drift === undefined ? [] : [driftTable(drift)]),
  ];
}

function factRows(generation: Generation, { items, hubs, reach, outside }: RecallResult['diagnosis']): Cell[][] {
  const { norms } = items;
  const text = (value: number) => formatValue(value, 'share');
  return [
    [
      'item norms: min, median, p99, max',
      [norms.min, norms.p50, norms.p99, norms.max].map((one) => one.toPrecision(3)).join(', '),
    ],
    ['zero item vectors', String(items.zeroRows)],
    ['items with the vector of another', `${items.duplicateRows} (largest group ${items.largestGroup})`],
    ['item in most exact lists', `${String(generation.itemIds.idOf(hubs.row))}, in ${text(hubs.share)}`],
    ['places that 1 % of the items take', text(hubs.firstPercent)],
    ['items in no exact list', text(hubs.unused)],
    ...(reach === undefined
      ? []
      : [
          [
            'items that a walk of ef 64 misses for the query made for them',
            `${reach.hard} of ${reach.judged} judged (${reach.rows} looked for)`,
          ],
          ['items that no path of the graph leads to', String(reach.unreachable)],
        ]),
    ...(outside === undefined
      ? []
      : [
          [
            'degrees to the nearest item: queries, items',
            `${outside.queryAngle.toFixed(1)}, ${outside.itemAngle.toFixed(1)} (p95 ${outside.itemAngleP95.toFixed(1)})`,
          ],
        ]),
  ];
}

function driftTable({ previous, items, users, note }: NonNullable<RecallResult['drift']>): Table {
  return {
    id: 'drift',
    title: `Since generation ${previous}`,
    columns: [
      { label: '' },
      { label: 'added', unit: 'count' },
      { label: 'removed', unit: 'count' },
      { label: 'in both', unit: 'count' },
      { label: 'norm', unit: 'ratio' },
      { label: 'cosine to its own vector of then', unit: 'score' },
    ],
    rows: [['items', items] as const, ...(users === undefined ? [] : [['users', users] as const])].map(
      ([name, side]) => [name, side.added, side.removed, side.common, side.normRatio, side.cosine],
    ),
    ...(note === undefined ? {} : { note }),
  };
}

function plotsOf({ points, served, buckets }: RecallResult): Plot[] {
  const ks = [...new Set(points.map(({ k }) => k))];
  const at = (point: EffortPoint): [number, number, string] => [
    point.recall.value,
    point.p50,
    describeAsking(point.asking),
  ];
  const bars = (id: string, title: string, label: string, list: readonly Bucket[]): Plot => ({
    id,
    title,
    ...beginsAt(list),
    x: { label, scale: 'category', categories: list.map(({ name }) => name) },
    y: { label: `recall@${buckets.k}`, unit: 'share', scale: 'linear', min: floorOf(list), max: 1 },
    series: [{ name: 'recall', style: 'bars', points: list.map(({ recall }, i) => [i, recall.value]) }],
  });
  const lists = [
    ['recall-by-norm', 'Recall by norm of the query', 'norm', buckets.norms],
    ['recall-by-popularity', 'Recall by popularity of the item', buckets.popularitySource, buckets.popularity],
    ['recall-by-filter', 'Recall by filter', 'filter', buckets.filters],
  ] as const;
  return [
    {
      id: 'recall-latency',
      title: 'Recall and latency',
      note: 'Further right and further down is better. Lines join what no other effort beats.',
      x: { label: 'recall', unit: 'share', scale: 'nines' },
      y: { label: 'median time of one query', unit: 'ms', scale: 'log' },
      series: [
        ...ks.map((k) => ({
          name: `k ${k}`,
          style: 'line' as const,
          points: paretoFront(points.filter((point) => point.k === k)).map(at),
        })),
        {
          name: 'as served',
          style: 'dots',
          muted: true,
          points: served
            .filter(({ k }) => ks.includes(k))
            .map((one): [number, number, string] => [one.recall.value, one.p50, `k ${one.k}`]),
        },
      ],
    },
    {
      id: 'recall-by-k',
      title: 'Recall by k',
      ...beginsAt(served),
      x: { label: 'k', scale: 'category', categories: served.map(({ k }) => String(k)) },
      y: { label: 'recall', unit: 'share', scale: 'linear', min: floorOf(served), max: 1 },
      series: [{ name: 'recall', style: 'bars', points: served.map(({ recall }, i) => [i, recall.value]) }],
      marks: [{ y: served[0]!.plan.target, label: `asked for ${served[0]!.plan.target}` }],
    },
    ...lists.filter(([, , , list]) => list.length > 0).map(([id, title, label, list]) => bars(id, title, label, list)),
  ];
}

/** Bars begin at 0.9, 0.5 or 0, whichever shows them all: differences of a point are what matters. */
function floorOf(list: readonly { readonly recall: { readonly value: number } }[]): number {
  const least = Math.min(...list.map(({ recall }) => recall.value));
  return [0.9, 0.5].find((floor) => least > floor) ?? 0;
}

function beginsAt(list: Parameters<typeof floorOf>[0]): { note?: string } {
  const floor = floorOf(list);
  return floor === 0 ? {} : { note: `Bars begin at ${floor * 100} %.` };
}
