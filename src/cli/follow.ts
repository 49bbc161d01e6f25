/** The follower of a server: its log lines and metrics. */
import type { Logger } from 'pino';
import type { Settings } from '../config/schema.js';
import { BelfryError } from '../errors.js';
import type { DataFolder } from '../generation/data-folder.js';
import { type FollowerEvent, GenerationFollower } from '../generation/follower.js';
import type { Retriever } from '../retrieval/retriever.js';
import type { OnRerankerState } from '../rerank/guarded-reranker.js';
import type { Metrics } from '../telemetry/metrics.js';
import { ScorerMetrics } from '../telemetry/scorer-metrics.js';
import type { ItemUpserts } from '../upserts/item-upserts.js';
import { serverLoadOptions } from './load-options.js';

export function followerOf(
  data: DataFolder,
  settings: Settings,
  {
    retriever,
    upserts,
    metrics,
    logger,
  }: { retriever: Retriever; upserts: ItemUpserts; metrics: Metrics; logger: Logger },
): GenerationFollower {
  const follower = new GenerationFollower({
    data,
    store: retriever.store,
    load: serverLoadOptions(settings, scorerWatch(metrics, logger)),
    swap: settings.swap,
    canary: async (generation) => {
      await upserts.prepare(generation); // its first request finds the changes since its mark in memory
    },
    onEvent: (event) => {
      count(event, metrics);
      log(event, logger);
      if (event.kind === 'swapped') retriever.publishFacts(event.generation);
    },
  });
  retriever.coming = follower;
  return follower;
}

/** A line for each change of a scorer, where a line for each request of an outage would be part of it. */
function scorerWatch(metrics: Metrics, logger: Logger): OnRerankerState {
  const scorers = new ScorerMetrics(metrics.registry);
  const states = new Map<string, string>();
  return (scorer, state, cause) => {
    const before = states.get(scorer);
    states.set(scorer, state);
    scorers.changed(scorer, state, before);
    const code = cause instanceof BelfryError ? cause.code : undefined;
    if (state === 'open' && before !== 'half-open')
      logger.warn({ scorer, code, err: cause?.message }, 'scorer left alone; answers keep retrieval order');
    if (state === 'closed' && before === 'half-open') logger.info({ scorer }, 'scorer is back');
  };
}

function count(event: FollowerEvent, metrics: Metrics): void {
  if (event.kind === 'swapped') {
    metrics.swaps.inc();
    metrics.generationLoadSeconds.observe({ stage: 'load' }, event.seconds.load);
    metrics.generationLoadSeconds.observe({ stage: 'warm_up' }, event.seconds.warmUp);
  }
  if (event.kind === 'passed over') metrics.generationsPassedOver.inc({ code: event.error.code });
  if (event.kind === 'passed over' && event.isQuarantined) metrics.generationsQuarantined.inc();
  if (event.kind === 'refused') metrics.swapsRefused.inc();
}

function log(event: FollowerEvent, logger: Logger): void {
  switch (event.kind) {
    case 'swapped': {
      const { generation, before, seconds } = event;
      const { load, warmUp } = seconds;
      return logger.info(
        { generation: generation.id, before, load_s: rounded(load), warm_up_s: rounded(warmUp) },
        before === undefined ? 'generation loaded' : 'generation swapped',
      );
    }
    case 'passed over':
      return logger.error(
        { generation: event.id, code: event.error.code, err: event.error.message, quarantined: event.isQuarantined },
        'generation passed over',
      );
    case 'refused':
      return logger.error(
        { generation: event.id, code: event.error.code, err: event.error.message },
        'generation not loaded; what serves goes on serving',
      );
    case 'stopped':
      return logger.warn({ generation: event.id, next: event.next }, 'not serving until the next generation is loaded');
    case 'unwatched':
      return logger.warn({ err: event.error.message }, 'the data folder cannot be watched; CURRENT is polled');
  }
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1000) / 1000;
}
