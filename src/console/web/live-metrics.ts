/** From two readings of /metrics to what happened between them: rates, and percentiles of the latency histogram. */

/** Routes that search; the page's own requests are not what is watched. */
const SEARCHES = ['/retrieve', '/retrieve/batch', '/similar/items', '/similar/users'];

/** A moment of a server's counters; all of them only grow, but for the last three. */
export interface Reading {
  /** Milliseconds, of any clock that does not go back. */
  readonly at: number;
  /** Answers, and of them those of status 500 and above. */
  readonly answers: number;
  readonly failed: number;
  readonly degraded: number;
  /** Answers up to each bound of the histogram, seconds; the last bound is Infinity. */
  readonly buckets: ReadonlyMap<number, number>;
  readonly loopSeconds: number | undefined;
  /** Of answers that were checked against the exact path; undefined where none was. */
  readonly recall: number | undefined;
}

/** What happened between two readings; undefined: nothing was answered, or the server does not say. */
export interface Moment {
  readonly at: number;
  readonly perSecond: number;
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
  readonly degradedPerSecond: number;
  readonly failedPerSecond: number;
  readonly loopMs: number | undefined;
  readonly recall: number | undefined;
}

/** `text`: the Prometheus text format. */
export function readMetrics(text: string, at: number): Reading {
  const buckets = new Map<number, number>();
  let [answers, failed, degraded] = [0, 0, 0];
  let loopSeconds: number | undefined;
  let recall: number | undefined;
  for (const line of text.split('\n')) {
    const [, name, labels = '', number] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    const value = Number(number);
    if (name === undefined || Number.isNaN(value)) continue;
    const label = (key: string) => new RegExp(`(?:^|,)${key}="([^"]*)"`).exec(labels)?.[1];
    switch (name) {
      case 'belfry_request_seconds_bucket': {
        if (!SEARCHES.includes(label('route') ?? '')) break;
        const bound = label('le') === '+Inf' ? Number.POSITIVE_INFINITY : Number(label('le'));
        buckets.set(bound, (buckets.get(bound) ?? 0) + value);
        break;
      }
      case 'belfry_request_seconds_count':
        if (!SEARCHES.includes(label('route') ?? '')) break;
        answers += value;
        if (Number(label('status')) >= 500) failed += value;
        break;
      case 'belfry_degraded_total':
        degraded += value;
        break;
      case 'belfry_event_loop_delay_seconds':
        if (label('quantile') === '0.99') loopSeconds = value;
        break;
      case 'belfry_recall_live':
        recall = value;
        break;
    }
  }
  return { at, answers, failed, degraded, buckets, loopSeconds, recall };
}

/** Undefined where the counters went back: the server was started anew. */
export function momentBetween(before: Reading, now: Reading): Moment | undefined {
  const seconds = (now.at - before.at) / 1000;
  if (seconds <= 0 || now.answers < before.answers || now.degraded < before.degraded) return undefined;
  const counts = [...now.buckets]
    .sort(([a], [b]) => a - b)
    .map(([bound, count]): [number, number] => [bound, count - (before.buckets.get(bound) ?? 0)]);
  return {
    at: now.at,
    perSecond: (now.answers - before.answers) / seconds,
    p50Ms: percentileMs(counts, 0.5),
    p99Ms: percentileMs(counts, 0.99),
    degradedPerSecond: (now.degraded - before.degraded) / seconds,
    failedPerSecond: (now.failed - before.failed) / seconds,
    loopMs: now.loopSeconds === undefined ? undefined : now.loopSeconds * 1000,
    recall: now.recall,
  };
}

/** Linear within a bucket, as Prometheus does it; beyond the last bound the bound itself. */
function percentileMs(counts: readonly (readonly [bound: number, upTo: number])[], share: number): number | undefined {
  const total = counts.at(-1)?.[1] ?? 0;
  if (total === 0) return undefined;
  let [low, below] = [0, 0];
  for (const [bound, upTo] of counts) {
    if (upTo >= share * total) {
      if (!Number.isFinite(bound)) return low * 1000;
      return (low + ((bound - low) * (share * total - below)) / (upTo - below)) * 1000;
    }
    [low, below] = [bound, upTo];
  }
  return undefined;
}
