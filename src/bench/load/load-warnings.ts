/** What makes a load test say less than it seems to: said in the report, before somebody quotes a number. */
import type { BenchReport } from '../report/schema.js';
import { type Measures, nameOf, samplesNeeded, type Step } from './measures.js';
import { percentileMs } from './recording.js';
import type { LoadPlan, LoadResult } from './run-load.js';

type Warning = BenchReport['warnings'][number];

/** A generator that is late by more than this share of the latency that it reports has measured itself. */
const LAG_SHARE = 0.1;
const LAG_MS = 1;
const BUSY_SHARE = 0.9;
const WAITED_SHARE = 0.01;

export function loadWarnings(
  { loop, connections }: LoadPlan,
  { recording, server, seconds, windowMs }: LoadResult,
  all: Measures,
  steps: readonly Step[],
): Warning[] {
  const warnings: Warning[] = [];
  const warn = (code: string, message: string) => warnings.push({ code, message });
  const p99 = all.latency.get(99) ?? 0;
  if (loop.kind === 'open') {
    const lag = percentileMs(recording.lag, 99) ?? 0;
    const sent = all.offered / ((recording.windows.length * windowMs) / 1000);
    const isLate = lag > LAG_MS && lag > LAG_SHARE * p99;
    if (isLate || recording.busy > BUSY_SHARE)
      warn(
        'generator-is-the-limit',
        `at ${Math.round(sent)} requests/s the generator was late by ${lag.toFixed(2)} ms at p99 and its loop busy ${Math.round(recording.busy * 100)} % of the time: latencies hold that; give it a core of its own, more --workers, or another machine`,
      );
    if (recording.waited > WAITED_SHARE * all.offered)
      warn(
        'out-of-connections',
        `${recording.waited} of ${all.offered} requests waited for one of ${connections} connections; their wait is in the latencies. The server was slower than the load, or --connections is too low`,
      );
  } else {
    if (recording.busy > BUSY_SHARE)
      warn(
        'generator-is-the-limit',
        `the generator's loop was busy ${Math.round(recording.busy * 100)} % of the time: the server could do more; raise --workers`,
      );
    warn(
      'closed-loop',
      'a closed loop asks nothing while the server stalls (coordinated omission): quote its throughput, not its percentiles; use --rate for latency',
    );
  }
  if (steps.length === 0) {
    const thin = [99, 99.9, 99.99].filter((percentile) => all.window.latency.totalCount < samplesNeeded(percentile));
    if (thin.length > 0)
      warn(
        'few-samples',
        `${all.window.latency.totalCount} answers are too few for ${thin.map(nameOf).join(', ')} (ten beyond the percentile); run longer`,
      );
  }
  if (server.length === 0 && seconds >= 2)
    warn('no-server-metrics', 'the server gave no /metrics with CPU, memory and event-loop delay');
  const errors = all.failed / Math.max(1, all.offered);
  if (errors > 0.001)
    warn('errors', `${all.failed} of ${all.offered} requests failed (${(errors * 100).toFixed(2)} %)`);
  return warnings;
}
