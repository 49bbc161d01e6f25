/** Latency of the last runs of something: exact percentiles of a window, for people. Prometheus has histograms. */
const RUNS = 512;

export interface LatencySummary {
  /** Milliseconds. */
  readonly p50: number;
  readonly p99: number;
  /** How many runs that is of. */
  readonly runs: number;
}

export class RecentLatency {
  private readonly window = new Float64Array(RUNS);
  private count = 0;

  record(ms: number): void {
    this.window[this.count++ % RUNS] = ms;
  }

  /** Undefined before the first run. */
  summary(): LatencySummary | undefined {
    const runs = Math.min(this.count, RUNS);
    if (runs === 0) return undefined;
    const sorted = this.window.slice(0, runs).sort();
    const at = (share: number) => Number(sorted[Math.ceil(share * runs) - 1]!.toFixed(3));
    return { p50: at(0.5), p99: at(0.99), runs };
  }
}
