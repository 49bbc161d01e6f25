/** Metrics of the circuit breakers around rerankers. */
import { Counter, Gauge, type Registry } from 'prom-client';

export class ScorerMetrics {
  private readonly open: Gauge<'scorer'>;
  private readonly opened: Counter<'scorer'>;

  constructor(registry: Registry) {
    this.open = new Gauge({
      name: 'belfry_scorer_open',
      help: '1 while a scorer is left alone because it failed again and again; answers then keep retrieval order.',
      labelNames: ['scorer'] as const,
      registers: [registry],
      aggregator: 'max',
    });
    this.opened = new Counter({
      name: 'belfry_scorer_opened_total',
      help: 'Times that the circuit of a scorer opened, probes that failed not counted.',
      labelNames: ['scorer'] as const,
      registers: [registry],
    });
  }

  /** `scorer` is name@version. */
  changed(scorer: string, state: 'closed' | 'open' | 'half-open', before: string | undefined): void {
    this.open.set({ scorer }, state === 'closed' ? 0 : 1);
    if (state === 'open' && before !== 'half-open') this.opened.inc({ scorer });
  }
}
