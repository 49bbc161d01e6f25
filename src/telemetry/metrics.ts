/** Prometheus metrics of one server. A registry per server, so that tests can run several in one process. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import { TrafficMetrics } from './traffic-metrics.js';
import { observeEventLoop } from './event-loop.js';
import { OverloadMetrics } from './overload-metrics.js';
import { SearchMetrics } from './search-metrics.js';
import { TallyHistogram } from './tally-histogram.js';

/** From 50 µs to 1 s: a search takes tenths of a millisecond, a re-rank tens of milliseconds. */
const SECONDS = [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];

export class Metrics {
  readonly registry = new Registry();
  readonly overload = new OverloadMetrics(this.registry);
  readonly searches = new SearchMetrics(this.registry);

  readonly requestSeconds = new TallyHistogram({
    name: 'belfry_request_seconds',
    help: 'Time from the parsed request to the answer, by route and status.',
    labelNames: ['route', 'status'],
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly stageSeconds = new TallyHistogram({
    name: 'belfry_stage_seconds',
    help: 'Time of one stage of a request: query, features, tower, filter, search, rerank, arrange.',
    labelNames: ['stage'],
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly degraded = new Counter({
    name: 'belfry_degraded_total',
    help: 'Answers that were useful but not all that was asked for, by reason.',
    labelNames: ['reason'] as const,
    registers: [this.registry],
  });
  readonly errors = new Counter({
    name: 'belfry_errors_total',
    help: 'Requests answered with an error, by code.',
    labelNames: ['code'] as const,
    registers: [this.registry],
  });
  readonly invalidScores = new Counter({
    name: 'belfry_rerank_invalid_scores_total',
    help: 'Candidates whose reranker score was not finite.',
    labelNames: ['reranker'] as const,
    registers: [this.registry],
  });
  readonly modelOutputInvalid = new Counter({
    name: 'belfry_model_output_invalid_total',
    help: 'Model runs whose output had a wrong shape or was not finite.',
    labelNames: ['model'] as const,
    registers: [this.registry],
  });
  readonly featureLookups = new Counter({
    name: 'belfry_feature_lookups_total',
    help: 'Lookups of users in feature stores, by result: found, unknown, cached, timeout, failed, open (left alone by the breaker), full (queue).',
    labelNames: ['store', 'result'] as const,
    registers: [this.registry],
  });
  readonly featureStoreSeconds = new Histogram({
    name: 'belfry_feature_store_seconds',
    help: 'Time of one question to a feature store, of one or more users.',
    labelNames: ['store'] as const,
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly featureAgeSeconds = new Histogram({
    name: 'belfry_feature_age_seconds',
    help: 'Age of the oldest feature that a lookup gave, where the store says when it was written.',
    labelNames: ['store'] as const,
    buckets: [1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600],
    registers: [this.registry],
  });
  readonly featuresDefaulted = new Counter({
    name: 'belfry_features_default_total',
    help: 'Features that a request wanted of a store and did not get: the table, or the default, stood in.',
    labelNames: ['store', 'feature'] as const,
    registers: [this.registry],
  });
  readonly featureValuesInvalid = new Counter({
    name: 'belfry_feature_values_invalid_total',
    help: 'Values of a feature store that were not of their declared type, or not what the models take.',
    labelNames: ['store', 'feature'] as const,
    registers: [this.registry],
  });
  readonly featureStoreOpen = new Gauge({
    name: 'belfry_feature_store_open',
    help: '1 while a feature store is left alone because it failed again and again.',
    labelNames: ['store'] as const,
    registers: [this.registry],
    aggregator: 'max',
  });
  readonly generation = new Gauge({
    name: 'belfry_generation_info',
    help: 'The generation that serves; the value is always 1.',
    labelNames: ['generation', 'metric', 'kernel'] as const,
    registers: [this.registry],
    aggregator: 'max', // the same in every process
  });
  readonly generationRows = new Gauge({
    name: 'belfry_generation_rows',
    help: 'Rows of the serving generation.',
    labelNames: ['kind'] as const,
    registers: [this.registry],
    aggregator: 'max', // the same in every process
  });
  readonly swaps = new Counter({
    name: 'belfry_generation_swaps_total',
    help: 'Generations that began to serve.',
    registers: [this.registry],
  });
  readonly generationLoadSeconds = new Histogram({
    name: 'belfry_generation_load_seconds',
    help: 'Time from seeing a generation to serving it, by stage: load (with its verification) and warm_up.',
    labelNames: ['stage'] as const,
    buckets: [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300],
    registers: [this.registry],
  });
  readonly generationsPassedOver = new Counter({
    name: 'belfry_generations_passed_over_total',
    help: 'Generations that were not served because they are damaged or wrong, by code.',
    labelNames: ['code'] as const,
    registers: [this.registry],
  });
  readonly generationsQuarantined = new Counter({
    name: 'belfry_generations_quarantined_total',
    help: 'Generations whose bytes had changed on disk, moved aside for good.',
    registers: [this.registry],
  });
  readonly swapsRefused = new Counter({
    name: 'belfry_generation_swaps_refused_total',
    help: 'Generations that were not loaded for want of memory.',
    registers: [this.registry],
  });
  readonly itemChanges = new Counter({
    name: 'belfry_item_changes_total',
    help: 'Items put and deleted by requests to this process.',
    labelNames: ['op'] as const,
    registers: [this.registry],
  });
  readonly itemDelta = new Gauge({
    name: 'belfry_item_delta_rows',
    help: 'Changes since the serving generation: items that are scanned beside it, and rows of it that are hidden (tombstones).',
    labelNames: ['kind'] as const,
    registers: [this.registry],
    aggregator: 'max', // the same in every process
  });
  readonly itemLogBytes = new Gauge({
    name: 'belfry_item_log_bytes',
    help: 'Bytes of the item changes that no rebuild has folded in.',
    registers: [this.registry],
    aggregator: 'max', // the same in every process
  });
  readonly itemLogAppendSeconds = new Histogram({
    name: 'belfry_item_log_append_seconds',
    help: 'Time of one write to the log of item changes, with its fsync where the policy is always.',
    buckets: SECONDS,
    registers: [this.registry],
  });

  readonly builds = new Counter({
    name: 'belfry_builds_total',
    help: 'Builds of the data folder that ended while this process ran, by result and the code of a failure.',
    labelNames: ['result', 'code'] as const,
    registers: [this.registry],
  });
  readonly buildRunning = new Gauge({
    name: 'belfry_build_running',
    help: '1 while this process has a build running.',
    registers: [this.registry],
  });
  readonly buildProblem = new Gauge({
    name: 'belfry_build_problem',
    help: '1, with the code, while the last build is one that failed: what serves is older than the export.',
    labelNames: ['code'] as const,
    registers: [this.registry],
  });
  readonly buildSeconds = new Gauge({
    name: 'belfry_build_seconds',
    help: 'Duration of the last build that was published.',
    registers: [this.registry],
  });
  readonly buildPublished = new Gauge({
    name: 'belfry_build_published_timestamp_seconds',
    help: 'Unix time at which the last published build began.',
    registers: [this.registry],
  });

  readonly workerDeaths = new Counter({
    name: 'belfry_worker_deaths_total',
    help: 'Worker processes that died and were started again.',
    registers: [this.registry],
  });
  readonly traffic = new TrafficMetrics(this.registry);

  /** In the text format of Prometheus; of all processes of the server, where there is more than one. */
  textOfAll: () => Promise<string> = () => this.registry.metrics();

  constructor() {
    collectDefaultMetrics({ register: this.registry });
    observeEventLoop(this.registry);
  }
}
