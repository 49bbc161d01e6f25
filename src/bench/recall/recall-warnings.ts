/** What the reader of a recall report should know before quoting or changing anything. */
import type { Generation } from '../../generation/generation.js';
import { formatNumber, formatValue } from '../report/format.js';
import type { BenchReport } from '../report/schema.js';
import type { RecallResult } from './recall-bench.js';

type Warning = BenchReport['warnings'][number];

/** Beyond these a finding is worth a line. */
const LIMITS = {
  /** 99th percentile of the norms over their median. */
  normSkew: 3,
  duplicates: 0.001,
  /** Share of the lists that one item stands in; share of the places that 1 % of the items take. */
  hub: 0.3,
  firstPercent: 0.5,
  /** A bucket whose recall is so far under the whole's, beyond doubt. */
  bucket: 0.02,
  normDrift: 0.2,
  overlap: 0.5,
};

export function warningsOf(generation: Generation, result: RecallResult): Warning[] {
  return [
    ...aboutQueries(result),
    ...aboutServed(generation, result),
    ...aboutBuckets(result),
    ...aboutItems(generation, result),
    ...aboutDrift(result),
  ];
}

const share = (value: number): string => formatValue(value, 'share');

function aboutQueries({ queries }: RecallResult): Warning[] {
  const warnings: Warning[] = [];
  if (queries.source === 'items')
    warnings.push({
      code: 'queries-are-items',
      message:
        'there are no user vectors: items stand in, which lie nearer to items than users do; recall is flattered',
    });
  if (queries.count < 500)
    warnings.push({
      code: 'few-queries',
      message: `${queries.count} queries give wide intervals; 2,000 are a good number`,
    });
  return warnings;
}

function aboutServed(generation: Generation, { served }: RecallResult): Warning[] {
  const below = served.filter(({ plan, recall }) => recall.high < plan.target);
  const short = served.filter((one) => one.short > 0);
  const repeated = served.filter(({ hits }) => hits.repeated > 0);
  const { calibration } = generation.manifest.graph ?? {};
  const off = served.filter(
    ({ plan, recall }) => plan.expectedRecall !== undefined && recall.high < plan.expectedRecall,
  );
  return [
    ...below.map(({ k, plan, recall }) => ({
      code: 'recall-below-target',
      message: `recall@${k} is ${share(recall.value)}, surely below the ${share(plan.target)} that was asked for; rebuild the generation (belfry build --force), or ask for more`,
    })),
    ...off
      .filter((one) => !below.includes(one))
      .map(({ k, plan, recall }) => ({
        code: 'calibration-off',
        message: `recall@${k} is ${share(recall.value)}, the calibration of the build promised ${share(plan.expectedRecall!)} (on ${calibration?.queries ?? 0} ${calibration?.source ?? 'queries'})`,
      })),
    ...short.map((one) => ({
      code: 'short-answers',
      message: `k ${one.k}: ${one.short} queries came back with fewer rows than there are`,
    })),
    ...repeated.map(({ k, hits }) => ({
      code: 'repeated-rows',
      message: `k ${k}: answers named ${hits.repeated} rows a second time`,
    })),
  ];
}

function aboutBuckets({ served, buckets }: RecallResult): Warning[] {
  const whole = served.find(({ k }) => k === buckets.k)?.recall ?? served[0]!.recall;
  const kinds = [
    ['norm', 'queries of norm', buckets.norms],
    ['popularity', `items by ${buckets.popularitySource},`, buckets.popularity],
  ] as const;
  const uneven = kinds.flatMap(([kind, words, list]) =>
    list
      .filter(({ recall }) => recall.high < whole.low - LIMITS.bucket)
      .map(({ name, recall }) => ({
        code: `uneven-recall-${kind}`,
        message: `recall@${buckets.k} is ${share(recall.value)} for ${words} ${name}, ${share(whole.value)} as a whole`,
      })),
  );
  const target = served[0]!.plan.target;
  const filtered = buckets.filters
    .filter(({ recall }) => recall.high < target)
    .map(({ name, share: left, recall }) => ({
      code: 'filtered-recall-below-target',
      message: `recall@${buckets.k} is ${share(recall.value)} under filter ${name} (${share(left)} of the items), surely below the ${share(target)} that was asked for; ask for more with such filters`,
    }));
  return [...uneven, ...filtered];
}

function aboutItems(generation: Generation, { diagnosis, buckets }: RecallResult): Warning[] {
  const { items, hubs, reach, outside } = diagnosis;
  const { metric } = generation.manifest;
  const rows = generation.items.rows - generation.skippedItems.size;
  const warnings: Warning[] = [];
  const skew = items.norms.p99 / items.norms.p50;
  if (metric === 'ip' && skew > LIMITS.normSkew)
    warnings.push({
      code: 'norm-skew',
      message: `the longest 1 % of the items are ${formatNumber(skew)} times as long as the middle one: under inner product they crowd out the rest; normalise, or bound the norm in training`,
    });
  if (items.zeroRows > 0 && metric !== 'l2')
    warnings.push({
      code: 'zero-vectors',
      message: `${items.zeroRows} items have a zero vector, which scores 0 for everybody; leave them out of the export`,
    });
  if (items.duplicateRows > LIMITS.duplicates * rows)
    warnings.push({
      code: 'duplicates',
      message: `${items.duplicateRows} items have the vector of another item (up to ${items.largestGroup} share one): they tie everywhere, and a list may be filled with them`,
    });
  if (hubs.share > LIMITS.hub)
    warnings.push({
      code: 'hubs',
      message: `item ${String(generation.itemIds.idOf(hubs.row))} is in the exact top ${buckets.k} of ${share(hubs.share)} of the queries`,
    });
  if (hubs.firstPercent > LIMITS.firstPercent)
    warnings.push({
      code: 'popularity-heavy',
      message: `1 % of the items take ${share(hubs.firstPercent)} of all places in the exact top ${buckets.k}`,
    });
  if (reach !== undefined && reach.unreachable > 0)
    warnings.push({
      code: 'unreachable-items',
      message: `no path of the graph leads to ${reach.unreachable} of ${rows} items (first: ${reach.examples.map((row) => String(generation.itemIds.idOf(row))).join(', ')}): walks never return them, only scans do; rebuild the generation`,
    });
  if (outside !== undefined && outside.queryAngle > outside.itemAngleP95) {
    const learnt = generation.manifest.graph?.trainingUsers ?? 0;
    warnings.push({
      code: 'queries-outside',
      message: `queries lie outside of the items: ${outside.queryAngle.toFixed(0)} degrees to the nearest item, items ${outside.itemAngle.toFixed(0)} to each other; ${learnt > 0 ? `the graph was built with ${learnt} users to meet that` : 'build with user_embeddings.npy, so that the graph learns where users look'}`,
    });
  }
  return warnings;
}

function aboutDrift({ drift }: RecallResult): Warning[] {
  if (drift === undefined) return [];
  const sides = [
    ['items', drift.items] as const,
    ...(drift.users === undefined ? [] : [['users', drift.users] as const]),
  ];
  return [
    ...sides
      .filter(([, side]) => Math.abs(side.normRatio - 1) > LIMITS.normDrift)
      .map(([name, side]) => ({
        code: `${name}-norm-drift`,
        message: `the ${name} are ${formatNumber(side.normRatio)} times as long as in generation ${drift.previous}`,
      })),
    ...(drift.overlap !== undefined && drift.overlap.high < LIMITS.overlap
      ? [
          {
            code: 'answers-drift',
            message: `users keep ${share(drift.overlap.value)} of the items that generation ${drift.previous} gave them`,
          },
        ]
      : []),
  ];
}
