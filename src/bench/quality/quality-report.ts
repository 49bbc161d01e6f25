/** The report of `bench quality`, in the words and plots of the report contract. */
import { loadAddon } from '../../ann/addon.js';
import type { Generation } from '../../generation/generation.js';
import { intervalText, reportHead } from '../report/facts.js';
import { formatValue } from '../report/format.js';
import type { BenchReport, Cell, Gate, MetricValue, Plot, Table } from '../report/schema.js';
import type { ListQuality, MeasureName, QualityResult } from './quality-bench.js';

export interface QualityGates {
  /** Of what is served first: the first re-ranked list, else the approximate one. */
  readonly minHitRate?: number | undefined;
  /** What the approximate list may miss of the exact one's recall. */
  readonly maxAnnLoss?: number | undefined;
}

export interface QualitySubject {
  readonly generation: Generation;
  readonly name: string;
  readonly started: Date;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly gates: QualityGates;
}

const LABELS: Readonly<Record<MeasureName, string>> = {
  hit: 'hit-rate',
  recall: 'recall',
  ndcg: 'NDCG',
  mrr: 'MRR',
  popularity: 'popularity rank',
  head: 'places of the first 1 %',
};
/** Of accuracy, the rest is of the catalogue. */
const ACCURACY = ['hit', 'recall', 'ndcg', 'mrr'] as const;

export function qualityReport(subject: QualitySubject, result: QualityResult): BenchReport {
  const { generation } = subject;
  const { interactions, users } = result;
  return {
    ...reportHead(
      'quality',
      'Quality for users',
      `${subject.name}: ${interactions.pairs.toLocaleString('en-GB')} held-out interactions, ${users.toLocaleString('en-GB')} users asked for.`,
      { started: subject.started, kernels: loadAddon().kernels },
    ),
    settings: { ...subject.settings, generation: generation.id, popularity: result.popularitySource ?? 'unknown' },
    summary: summaryOf(result),
    gates: gatesOf(subject.gates, result),
    tables: tablesOf(result),
    plots: plotsOf(result),
    warnings: warningsOf(result),
  };
}

const labelOf = (kind: string): string =>
  kind === 'exact' || kind === 'ann' ? kind.replace('ann', 'ANN') : `ANN, ${kind}`;
/** For names that others join by: letters, digits and underscores. */
const slug = (kind: string): string => kind.toLowerCase().replace(/[^a-z0-9]+/g, '_');

function summaryOf({ lists }: QualityResult): MetricValue[] {
  return lists.flatMap((list) =>
    ACCURACY.flatMap((measure) => {
      const interval = list.measures[measure];
      if (interval === undefined || measure === 'mrr') return [];
      return {
        name: `${measure}_at_${list.k}.${slug(list.kind)}`,
        label: `${LABELS[measure]}@${list.k}, ${labelOf(list.kind)}`,
        value: interval.value,
        unit: 'share',
        better: 'higher',
        samples: [...list.valuesOf(measure)],
        note: intervalText(interval),
      } satisfies MetricValue;
    }),
  );
}

function gatesOf({ minHitRate, maxAnnLoss }: QualityGates, { lists }: QualityResult): Gate[] {
  const k = Math.min(...lists.map((list) => list.k));
  const atK = lists.filter((list) => list.k === k);
  const served = atK.find(({ kind }) => kind !== 'exact' && kind !== 'ann') ?? atK.find(({ kind }) => kind === 'ann')!;
  const loss = lists
    .filter(({ kind }) => kind === 'ann')
    .map(({ k: own, change }) => ({ k: own, value: -change!.measures.recall!.value }));
  return [
    ...(minHitRate === undefined
      ? []
      : [
          {
            name: `--min-hit-rate at k ${k}, ${labelOf(served.kind)}`,
            limit: minHitRate,
            value: served.measures.hit!.value,
            unit: 'share' as const,
            passed: served.measures.hit!.value >= minHitRate,
          },
        ]),
    ...(maxAnnLoss === undefined
      ? []
      : loss.map(({ k: own, value }) => ({
          name: `--max-ann-loss at k ${own}`,
          limit: maxAnnLoss,
          value,
          unit: 'share' as const,
          passed: value <= maxAnnLoss,
        }))),
  ];
}

function tablesOf({ lists, popularitySource, takenPopularity }: QualityResult): Table[] {
  const value = (list: ListQuality, measure: MeasureName): Cell => list.measures[measure]?.value ?? null;
  const share = (label: string) => ({ label, unit: 'share' as const });
  const changes = lists.flatMap((list) =>
    list.change === undefined
      ? []
      : Object.entries(list.change.measures).map(([measure, { value: mean, low, high }]): Cell[] => [
          `${labelOf(list.kind)} less ${labelOf(list.change!.from)}`,
          `${LABELS[measure as MeasureName]}@${list.k}`,
          mean,
          low,
          high,
          low > 0 || high < 0 ? 'yes' : 'no',
        ]),
  );
  return [
    {
      id: 'lists',
      title: 'Lists',
      columns: [
        { label: 'list' },
        { label: 'k', unit: 'count' },
        share('hit-rate'),
        share('recall'),
        { label: 'NDCG', unit: 'score' },
        { label: 'MRR', unit: 'score' },
        share('coverage'),
        { label: 'Gini', unit: 'score' },
        share('popularity rank'),
        share('places of the first 1 %'),
      ],
      rows: lists.map((list) => [
        labelOf(list.kind),
        list.k,
        ...ACCURACY.map((measure) => value(list, measure)),
        list.coverage,
        list.gini,
        value(list, 'popularity'),
        value(list, 'head'),
      ]),
      note:
        popularitySource === undefined
          ? 'Nothing says how popular items are: give --popularity COLUMN.'
          : `Popularity rank: mean place in the catalogue by ${popularitySource}, 0 % the most popular; what users took is at ${formatValue(takenPopularity ?? null, 'share')}.`,
    },
    {
      id: 'changes',
      title: 'What ANN and re-ranking change',
      columns: [
        { label: 'lists' },
        { label: 'measure' },
        { label: 'change', unit: 'score' },
        { label: 'low', unit: 'score' },
        { label: 'high', unit: 'score' },
        { label: 'beyond chance' },
      ],
      rows: changes,
      note: 'Paired by user; 95 % bootstrap intervals of the mean difference.',
    },
  ];
}

function plotsOf({ lists }: QualityResult): Plot[] {
  const kinds = [...new Set(lists.map(({ kind }) => kind))];
  const ks = [...new Set(lists.map(({ k }) => k))];
  const cells = ks.flatMap((k) => (['hit', 'recall', 'ndcg'] as const).map((measure) => ({ k, measure })));
  const find = (kind: string, k: number): ListQuality => lists.find((list) => list.kind === kind && list.k === k)!;
  const exposure = ks.flatMap((k) => (['coverage', 'gini'] as const).map((measure) => ({ k, measure })));
  return [
    {
      id: 'accuracy',
      title: 'What users took, in the lists',
      x: { label: '', scale: 'category', categories: cells.map(({ k, measure }) => `${LABELS[measure]}@${k}`) },
      y: { label: 'mean over users', unit: 'share', scale: 'linear', min: 0 },
      series: kinds.map((kind) => ({
        name: labelOf(kind),
        style: 'bars',
        points: cells.map(({ k, measure }, i): [number, number] => [i, find(kind, k).measures[measure]!.value]),
      })),
    },
    {
      id: 'catalogue',
      title: 'What the lists show of the catalogue',
      note: 'Coverage: share of the items that anybody is shown. Gini: 0 all items alike, 1 a few take all.',
      x: {
        label: '',
        scale: 'category',
        categories: exposure.map(({ k, measure }) => `${measure === 'gini' ? 'Gini' : 'coverage'}@${k}`),
      },
      y: { label: '', unit: 'share', scale: 'linear', min: 0, max: 1 },
      series: kinds.map((kind) => ({
        name: labelOf(kind),
        style: 'bars',
        points: exposure.map(({ k, measure }, i): [number, number] => [i, find(kind, k)[measure]]),
      })),
    },
  ];
}

function warningsOf({ lists, interactions, users, degraded, takenPopularity }: QualityResult): BenchReport['warnings'] {
  const { unknownItems, unknownUsers, pairs } = interactions;
  const warnings: BenchReport['warnings'] = [];
  const unknown = unknownItems + unknownUsers;
  if (unknown > 0.01 * pairs)
    warnings.push({
      code: 'unknown-interactions',
      message: `${unknown} of ${pairs} interactions are left out: ${unknownUsers} of users and ${unknownItems} of items that the generation does not have`,
    });
  if (users < 500)
    warnings.push({ code: 'few-users', message: `${users} users give wide intervals; 2,000 are a good number` });
  for (const [kind, { count, reason }] of degraded)
    warnings.push({
      code: 'rerank-degraded',
      message: `${kind} failed for ${count} of ${users} users, whose lists kept retrieval order: ${reason}`,
    });
  for (const { kind, k, change } of lists) {
    const hit = change?.measures.recall;
    if (hit !== undefined && hit.high < 0)
      warnings.push({
        code: kind === 'ann' ? 'ann-loses' : 'rerank-loses',
        message: `recall@${k} of held-out items falls by ${(-hit.value).toFixed(4)} from ${labelOf(change!.from)} to ${labelOf(kind)}, beyond chance`,
      });
  }
  const first = lists[0]?.measures.popularity;
  if (first !== undefined && takenPopularity !== undefined && first.high < takenPopularity / 2)
    warnings.push({
      code: 'popularity-bias',
      message: `exact lists show items twice as popular as those that users took (mean popularity rank ${formatValue(first.value, 'share')} against ${formatValue(takenPopularity, 'share')})`,
    });
  return warnings;
}
