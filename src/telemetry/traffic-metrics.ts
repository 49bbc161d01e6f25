/** Metrics of variants and shadows; part of Metrics. */
import { Counter, Histogram, type Registry } from 'prom-client';

const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1];
const SHARES = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];

export class TrafficMetrics {
  readonly variantRequests;
  readonly variantSeconds;
  readonly variantDegraded;
  readonly shadows;
  readonly shadowSeconds;
  readonly shadowOverlap;
  readonly shadowRankChange;
  readonly shadowLogBytes;
  readonly shadowLogLost;

  constructor(registry: Registry) {
    const registers = [registry];
    this.variantRequests = new Counter({
      name: 'belfry_variant_requests_total',
      help: 'Answers by variant (a reranker, or control) and by why the request got it.',
      labelNames: ['variant', 'reason'] as const,
      registers,
    });
    this.variantSeconds = new Histogram({
      name: 'belfry_variant_seconds',
      help: 'Time inside the retriever of answers by variant.',
      labelNames: ['variant'] as const,
      buckets: SECONDS,
      registers,
    });
    this.variantDegraded = new Counter({
      name: 'belfry_variant_degraded_total',
      help: 'Answers of a variant that were less than what was asked for, by reason.',
      labelNames: ['variant', 'reason'] as const,
      registers,
    });
    this.shadows = new Counter({
      name: 'belfry_shadow_total',
      help: 'Requests offered to shadow rerankers: scored, failed, late, or dropped because the queue was full or the generation was replaced.',
      labelNames: ['reranker', 'result'] as const,
      registers,
    });
    this.shadowSeconds = new Histogram({
      name: 'belfry_shadow_seconds',
      help: 'Time of a shadow reranker for one request, without its wait.',
      labelNames: ['reranker'] as const,
      buckets: SECONDS,
      registers,
    });
    this.shadowOverlap = new Histogram({
      name: 'belfry_shadow_overlap',
      help: 'Share of the k items of the served order that the shadow has among its first k.',
      labelNames: ['reranker'] as const,
      buckets: SHARES,
      registers,
    });
    this.shadowRankChange = new Histogram({
      name: 'belfry_shadow_rank_change',
      help: 'Mean number of places by which the shadow moves the k items of the served order.',
      labelNames: ['reranker'] as const,
      buckets: [0, 1, 2, 5, 10, 20, 50, 100, 200, 500],
      registers,
    });
    this.shadowLogBytes = new Counter({
      name: 'belfry_shadow_log_bytes_total',
      help: 'Bytes written to the shadow log.',
      registers,
    });
    this.shadowLogLost = new Counter({
      name: 'belfry_shadow_log_lost_total',
      help: 'Lines of the shadow log that were not written, because the disk was too slow or failed.',
      labelNames: ['reason'] as const,
      registers,
    });
  }
}
