/** Metrics of searches: which way they went, what waited, how near to exact they were. Part of Metrics. */
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { onBatch } from './batches.js';
import { TallyHistogram } from './tally-histogram.js';

const SECONDS = [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];
const SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16_384];
/** Upper bounds, so that the share of perfect answers is what is above the last but one. */
const RECALLS = [0.5, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1];

/** Lookups since a cache was made. */
export interface CacheFacts {
  readonly hits: number;
  readonly misses: number;
  readonly bytes: number;
}

export class SearchMetrics {
  readonly searchSeconds;
  readonly queueWaitSeconds;
  readonly batchSize;
  readonly recallSampled;
  readonly recallSamples;
  /** Requests whose answer is not written yet; a plain number, for it changes twice a request. */
  inFlight = 0;
  private recall = Number.NaN;
  private readonly filterLookups;
  private filterCache: () => CacheFacts | undefined = () => undefined;
  private counted: { hits: number; misses: number } = { hits: 0, misses: 0 };

  constructor(registry: Registry) {
    const registers = [registry];
    this.searchSeconds = new TallyHistogram({
      name: 'belfry_search_seconds',
      help: 'Time of one search with its waiting, by the way it went: scan, list, probe, walk, filtered walk, filtered probe.',
      labelNames: ['path'],
      buckets: SECONDS,
      registers,
    });
    this.queueWaitSeconds = new Histogram({
      name: 'belfry_queue_wait_seconds',
      help: 'How long the first request of a batch waited, by queue: scan (for the scan before it), pool (for a thread), or a model.',
      labelNames: ['queue'] as const,
      buckets: SECONDS,
      registers,
    });
    this.batchSize = new Histogram({
      name: 'belfry_batch_size',
      help: 'Queries (scan) or rows (models) that shared one run.',
      labelNames: ['queue'] as const,
      buckets: SIZES,
      registers,
    });
    this.recallSampled = new Histogram({
      name: 'belfry_recall_sampled',
      help: 'Recall of searches that were answered exactly afterwards, counted by score, by the way they went.',
      labelNames: ['path'] as const,
      buckets: RECALLS,
      registers,
    });
    this.recallSamples = new Counter({
      name: 'belfry_recall_samples_total',
      help: 'Searches taken as samples of recall, by result: measured, busy (no idle moment came), changed (items changed meanwhile), failed.',
      labelNames: ['result'] as const,
      registers,
    });
    new Gauge({
      name: 'belfry_recall_live',
      help: 'Mean recall of the last samples (GET /admin/recall tells how many); absent before the first.',
      registers,
      aggregator: 'average',
      collect: this.collector((gauge) => {
        if (Number.isNaN(this.recall)) gauge.remove();
        else gauge.set(this.recall);
      }),
    });
    new Gauge({
      name: 'belfry_requests_in_flight',
      help: 'Requests that are being answered.',
      registers,
      collect: this.collector((gauge) => gauge.set(this.inFlight)),
    });
    this.filterLookups = new Counter({
      name: 'belfry_filter_cache_lookups_total',
      help: 'Filters of requests, by whether their bitmap was in the cache: hit or miss.',
      labelNames: ['result'] as const,
      registers,
      collect: () => this.collectFilterLookups(),
    });
    new Gauge({
      name: 'belfry_filter_cache_bytes',
      help: 'Bytes of cached bitmaps of the serving generation.',
      registers,
      collect: this.collector((gauge) => gauge.set(this.filterCache()?.bytes ?? 0)),
    });
  }

  /** Shown from now on: the mean of the newest samples. */
  showRecall(mean: number): void {
    this.recall = mean;
  }

  /** The cache of the generation that serves. */
  watchFilterCache(facts: () => CacheFacts | undefined): void {
    this.filterCache = facts;
  }

  /** Takes the batches of this process as those of this server. Returns what ends it. */
  watchBatches(): () => void {
    return onBatch(({ queue, size, waitMs }) => {
      if (size > 0) this.batchSize.observe({ queue }, size);
      this.queueWaitSeconds.observe({ queue }, waitMs / 1000);
    });
  }

  /** A function with a `this` of its own, which prom-client sets. */
  private collector(collect: (gauge: Gauge) => void): (this: Gauge) => void {
    return function (this: Gauge) {
      collect(this);
    };
  }

  private collectFilterLookups(): void {
    const facts = this.filterCache();
    if (facts === undefined) return;
    // Each generation has a cache of its own, which begins at 0; a counter must not fall.
    if (facts.hits < this.counted.hits || facts.misses < this.counted.misses) this.counted = { hits: 0, misses: 0 };
    this.filterLookups.inc({ result: 'hit' }, facts.hits - this.counted.hits);
    this.filterLookups.inc({ result: 'miss' }, facts.misses - this.counted.misses);
    this.counted = { hits: facts.hits, misses: facts.misses };
  }
}
