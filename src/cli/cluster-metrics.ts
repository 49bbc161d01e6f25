/** The metrics of all processes of a server as those of one: counters and histograms are summed, gauges as each of them says. */
import type { Worker } from 'node:cluster';
import { AggregatorRegistry } from 'prom-client';
import type { Metrics } from '../telemetry/metrics.js';
import { type MetricValues, tell } from './cluster-messages.js';

/** Of a worker that does not answer in this time, what it said last is told: its event loop is held up, and scrapes must not be. */
const ANSWER_MS = 1_000;
/** What the primary measures itself. Of the rest it has the zeros that a registry begins with, and averages must not know them. */
const OF_PRIMARY = /^(belfry_(build|worker)|process_|nodejs_)/;

interface Round {
  readonly missing: Set<Worker>;
  readonly done: () => void;
}

export class ClusterMetrics {
  readonly #rounds = new Map<number, Round>();
  readonly #last = new Map<Worker, MetricValues>();
  /** Of workers that are gone, as far as was known: a counter that fell would be read as a restart of all. */
  #departed: MetricValues = [];
  #count = 0;

  constructor(
    private readonly own: Metrics,
    private readonly workers: () => readonly Worker[],
  ) {}

  /** In the text format of Prometheus. */
  async text(): Promise<string> {
    const workers = this.workers();
    await this.#ask(workers);
    const values = workers.map((worker) => this.#last.get(worker) ?? []);
    const own = (await this.own.registry.getMetricsAsJSON()).filter(({ name }) => OF_PRIMARY.test(name));
    return aggregated([own, this.#departed, ...values]).metrics();
  }

  take(worker: Worker, id: number, values: MetricValues): void {
    this.#last.set(worker, values);
    const round = this.#rounds.get(id);
    round?.missing.delete(worker);
    if (round?.missing.size === 0) round.done();
  }

  /** What a worker that died had counted, when it was last asked. */
  keepOf(worker: Worker): void {
    const counted = (this.#last.get(worker) ?? []).filter(({ type }) =>
      ['counter', 'histogram'].includes(String(type)),
    );
    this.#last.delete(worker);
    for (const round of this.#rounds.values())
      if (round.missing.delete(worker) && round.missing.size === 0) round.done();
    void aggregated([this.#departed, counted])
      .getMetricsAsJSON()
      .then((departed) => (this.#departed = departed));
  }

  #ask(workers: readonly Worker[]): Promise<void> {
    const id = ++this.#count;
    return new Promise<void>((resolve) => {
      const timer = setTimeout(() => done(), ANSWER_MS);
      const done = () => {
        clearTimeout(timer);
        this.#rounds.delete(id);
        resolve();
      };
      this.#rounds.set(id, { missing: new Set(workers), done });
      for (const worker of workers) tell(worker, { kind: 'measure', id });
    });
  }
}

function aggregated(all: readonly MetricValues[]): ReturnType<typeof AggregatorRegistry.aggregate> {
  return AggregatorRegistry.aggregate(all.map((one) => [...one]));
}
