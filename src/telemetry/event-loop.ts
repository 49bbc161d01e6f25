/** How long the event loop was held up, as Prometheus metrics. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

/** A timer looks so often; the finer, the shorter the hold-ups that it sees. */
const RESOLUTION_MS = 5;
const QUANTILES = [0.5, 0.99, 1] as const;

/**
 * `belfry_event_loop_delay_seconds` since the last scrape. Node's histogram holds the time between two looks, so that an idle
 * process shows the resolution (as `nodejs_eventloop_lag_p99_seconds` does); here only what came on top of it is shown.
 */
export function observeEventLoop(registry: Registry): void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  new Gauge({
    name: 'belfry_event_loop_delay_seconds',
    help: 'How much later than due the event loop came to a timer, since the last scrape; quantile 1 is the longest.',
    labelNames: ['quantile'] as const,
    registers: [registry],
    aggregator: 'max',
    collect() {
      for (const quantile of QUANTILES) {
        const nanoseconds = delay.count === 0 ? 0 : delay.percentile(quantile * 100);
        this.set({ quantile: String(quantile) }, Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1000));
      }
      delay.reset();
    },
  });
}
