/** Metrics of deadlines, admission and the ladder: docs/overload.md. */
import { Counter, Gauge, type Registry } from 'prom-client';

/** What admission tells when it is asked. */
export interface AdmissionView {
  /** Seconds of estimated work that run now, and that are done in a second. */
  readonly inFlight: () => number;
  readonly rate: () => number;
  readonly waiting: (priority: 'online' | 'batch') => number;
}

export class OverloadMetrics {
  readonly shed: Counter<'priority' | 'reason'>;
  /** Requests by level since the counter was last read: a plain number, for it changes with every request. */
  private readonly admitted = new Map<number, number>();
  readonly logDropped: Counter;

  constructor(private readonly registry: Registry) {
    const registers = [registry];
    this.shed = new Counter({
      name: 'belfry_shed_total',
      help: 'Requests that were not let in, by priority and reason: queue_full, waited, late, turn. Some got a cached or popular answer.',
      labelNames: ['priority', 'reason'] as const,
      registers,
    });
    const { admitted } = this;
    new Counter({
      name: 'belfry_admitted_total',
      help: 'Requests that were let in, by level of the ladder: 0 whole, 1 less recall, 2 no re-rank, 3 fewer candidates.',
      labelNames: ['level'] as const,
      registers,
      collect() {
        for (const [level, count] of admitted) this.inc({ level }, count);
        admitted.clear();
      },
    });
    this.logDropped = new Counter({
      name: 'belfry_log_lines_dropped_total',
      help: 'Log lines that were dropped because the sink took none.',
      registers,
    });
  }

  onAdmitted(level: number): void {
    this.admitted.set(level, (this.admitted.get(level) ?? 0) + 1);
  }

  /** The newest admission of the process is the one that is shown. */
  watchAdmission(view: AdmissionView): void {
    const gauges = [
      {
        name: 'belfry_in_flight_cost_seconds',
        help: 'Estimated work of the requests that run now, in seconds of one core.',
        labels: [],
        read: (gauge: Gauge) => gauge.set(view.inFlight()),
      },
      {
        name: 'belfry_work_rate',
        help: 'Seconds of estimated work that are done in a second, as admission measures it.',
        labels: [],
        read: (gauge: Gauge) => gauge.set(view.rate()),
      },
      {
        name: 'belfry_admission_waiting',
        help: 'Requests that wait for admission.',
        labels: ['priority'],
        read: (gauge: Gauge) => {
          for (const priority of ['online', 'batch'] as const) gauge.set({ priority }, view.waiting(priority));
        },
      },
    ];
    for (const { name, help, labels, read } of gauges) {
      this.registry.removeSingleMetric(name);
      new Gauge({
        name,
        help,
        labelNames: labels,
        registers: [this.registry],
        collect() {
          read(this);
        },
      });
    }
  }
}
