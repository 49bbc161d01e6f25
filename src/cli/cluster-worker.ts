/**
 * A worker's side of `belfry serve --workers N`: it serves like a server that is alone, and asks the primary for what is
 * there once for all of them, which are builds and metrics.
 */
import cluster from 'node:cluster';
import { BelfryError, type ErrorCode } from '../errors.js';
import { writerOf } from '../generation/writer-lock.js';
import { BuildHistory, type BuildRecord } from '../rebuild/history.js';
import type { Rebuilds, RunningView } from '../rebuild/rebuilder.js';
import type { Retriever } from '../retrieval/retriever.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { ServingFacts } from './announce.js';
import type { ClusterState, Question, ToPrimary, ToWorker } from './cluster-messages.js';

const READY_POLL_MS = 200;

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: BelfryError) => void;
}

export class PrimaryLink {
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #state: ClusterState = { workers: { count: 0, ready: 0 } };
  #isLate = false;
  #begun: (() => void) | undefined;
  /** Called when the primary stops. Until the server sets its own, nothing is served yet that would have to end first. */
  onStop: () => void = () => process.exit(0);
  #onState: () => void = () => undefined;
  #metrics: Metrics | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** Undefined in a process that is no worker. */
  static async open(): Promise<PrimaryLink | undefined> {
    if (!cluster.isWorker) return undefined;
    const link = new PrimaryLink();
    process.on('message', (message: ToWorker) => void link.#hear(message));
    await new Promise<void>((resolve) => {
      link.#begun = resolve;
      tell({ kind: 'here' });
    });
    return link;
  }

  /** Others serve already: load first, and listen then. */
  get isLate(): boolean {
    return this.#isLate;
  }

  /** From now on the service and the primary know of each other. */
  attach({ retriever, metrics }: { readonly retriever: Retriever; readonly metrics: Metrics }): void {
    this.#metrics = metrics;
    metrics.textOfAll = async () => (await this.ask({ what: 'metrics' })) as string;
    this.#onState = () => {
      const { problem } = this.#state;
      retriever.buildProblem = problem && new BelfryError(problem.code as ErrorCode, problem.message);
    };
    this.#onState();
    let wasReady = false;
    this.#timer = setInterval(() => {
      const isReady = retriever.status().ready;
      if (isReady !== wasReady) tell({ kind: 'ready', isReady });
      wasReady = isReady;
    }, READY_POLL_MS).unref();
  }

  get workers(): ClusterState['workers'] {
    return this.#state.workers;
  }

  get state(): ClusterState {
    return this.#state;
  }

  serving(facts: ServingFacts): void {
    tell({ kind: 'serving', facts });
  }

  /** Errors: those of what is asked for. */
  ask(question: Question): Promise<unknown> {
    const id = ++this.#asked;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      tell({ kind: 'question', id, question });
    });
  }

  close(): void {
    clearInterval(this.#timer);
  }

  async #hear(message: ToWorker): Promise<void> {
    switch (message.kind) {
      case 'begin':
        this.#isLate = message.isLate;
        this.#state = message.state;
        return this.#begun?.();
      case 'state':
        this.#state = message.state;
        return this.#onState();
      case 'stop':
        return this.onStop();
      case 'answer':
      case 'refusal': {
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        if (message.kind === 'answer') return waiting?.resolve(message.value);
        return waiting?.reject(new BelfryError(message.error.code as ErrorCode, message.error.message));
      }
      case 'measure': {
        const values = (await this.#metrics?.registry.getMetricsAsJSON()) ?? [];
        return tell({ kind: 'measured', id: message.id, values });
      }
    }
  }
}

/** The builds of the primary, as a worker's routes see them. */
export class PrimaryBuilds {
  readonly rebuilder: Rebuilds;

  constructor(
    private readonly link: PrimaryLink,
    data: string,
  ) {
    const history = new BuildHistory(data);
    this.rebuilder = {
      start: (trigger, request = {}) => link.ask({ what: 'start', trigger, request }),
      cancel: async (reason) => (await link.ask({ what: 'cancel', reason })) as BuildRecord,
      view: (): RunningView | undefined => link.state.running,
      builds: async () => (await history.read()).reverse(),
      builtElsewhere: async () => (link.state.running === undefined ? writerOf(data) : undefined),
      get problem() {
        const { problem } = link.state;
        return problem && new BelfryError(problem.code as ErrorCode, problem.message);
      },
    };
  }

  readonly nextScheduled = (): Date | null => {
    const { nextScheduled } = this.link.state;
    return nextScheduled === undefined ? null : new Date(nextScheduled);
  };

  async open(): Promise<void> {}
  async start(_serving: unknown): Promise<void> {}
  async close(): Promise<void> {
    this.link.close();
  }
}

function tell(message: ToPrimary): void {
  // With a callback: a primary that just died would otherwise be an 'error' event here. Without one, workers end anyway.
  if (process.connected) process.send!(message, undefined, undefined, () => undefined);
}
