/**
 * The primary of `belfry serve --workers N`: it answers no requests. It starts workers and starts them again when they die,
 * runs the builds, and knows what is true of all of them.
 */
import cluster, { type Worker } from 'node:cluster';
import { setTimeout as sleep } from 'node:timers/promises';
import closeWithGrace, { type Options as GraceOptions } from 'close-with-grace';
import type { Logger } from 'pino';
import type { Settings } from '../config/schema.js';
import { asBelfryError } from '../errors.js';
import type { DataFolder } from '../generation/data-folder.js';
import { Metrics } from '../telemetry/metrics.js';
import { announce, type ServingFacts } from './announce.js';
import { keepConnections } from './cluster-connections.js';
import { ClusterMetrics } from './cluster-metrics.js';
import { type ClusterState, type Question, tell, type ToPrimary } from './cluster-messages.js';
import { ServerRebuilds } from './rebuild.js';
import { RestartPolicy } from './restart-policy.js';

/** Workers see the progress of a build so often. */
const STATE_MS = 500;
/** Longer than a worker gives its requests to end. */
const STOP_MS = 15_000;

export interface PrimaryOptions {
  readonly logger: Logger;
  readonly isReused: boolean;
  readonly asJson: boolean;
  /** Signals that handle a crash and must be left alone. */
  readonly skippedSignals: GraceOptions['skip'];
}

interface Place {
  readonly number: number;
  readonly policy: RestartPolicy;
  worker: Worker | undefined;
  startedAt: number;
  isReady: boolean;
  facts: ServingFacts | undefined;
}

export class Primary {
  readonly #places: Place[];
  readonly #metrics = new Metrics();
  readonly #collected: ClusterMetrics;
  readonly #builds: ServerRebuilds;
  #told = '';
  #hasServed = false;
  #isStopping = false;

  constructor(
    settings: Settings,
    private readonly data: DataFolder,
    private readonly options: PrimaryOptions,
  ) {
    const { logger } = options;
    this.#builds = new ServerRebuilds(settings, data, {
      retriever: { buildProblem: undefined },
      metrics: this.#metrics,
      logger,
    });
    this.#collected = new ClusterMetrics(this.#metrics, () => this.#workers());
    this.#places = Array.from({ length: settings.workers }, (_, number) => ({
      number,
      policy: new RestartPolicy(),
      worker: undefined,
      startedAt: 0,
      isReady: false,
      facts: undefined,
    }));
  }

  async start(): Promise<void> {
    const { skippedSignals, logger } = this.options;
    closeWithGrace({ delay: STOP_MS, logger: false, skip: skippedSignals ?? [] }, async ({ err }) => {
      if (err !== undefined) logger.fatal({ err }, 'stopping after an error');
      await this.stop();
    });
    await this.#builds.open();
    cluster.schedulingPolicy = cluster.SCHED_RR; // on Windows, too
    for (const place of this.#places) this.#fork(place);
    setInterval(() => this.#tellState(), STATE_MS).unref();
  }

  /** Workers end their requests; those that take too long are killed. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const gone = this.#workers().map(
      (worker) =>
        new Promise<void>((resolve) => {
          worker.once('exit', () => resolve());
          // Not by a signal: a terminal has sent them one already, and a second one means "at once".
          tell(worker, { kind: 'stop' });
        }),
    );
    await Promise.all([...gone, this.#builds.close()]);
  }

  #workers(): Worker[] {
    return this.#places.flatMap(({ worker }) => (worker === undefined ? [] : [worker]));
  }

  #fork(place: Place): void {
    const worker = cluster.fork();
    keepConnections(worker, () =>
      this.#places.some((other) => other.worker !== worker && other.worker?.isConnected() && other.facts !== undefined),
    );
    Object.assign(place, { worker, startedAt: performance.now(), isReady: false, facts: undefined });
    worker.on('message', (message: ToPrimary) => void this.#hear(place, worker, message));
    worker.once('exit', (code, signal) => void this.#onExit(place, worker, code, signal));
  }

  async #onExit(place: Place, worker: Worker, code: number | null, signal: string | null): Promise<void> {
    const livedMs = performance.now() - place.startedAt;
    Object.assign(place, { worker: undefined, isReady: false });
    this.#collected.keepOf(worker);
    if (this.#isStopping) return;
    const { logger } = this.options;
    this.#tellState();
    // Nothing ever served: what ended the worker will end the next one, and it has said why.
    if (!this.#hasServed && signal === null) return this.#end(code ?? 1);
    const pauseMs = place.policy.afterDeath(livedMs);
    const facts = { worker: worker.process.pid, code, signal, lived_s: Math.round(livedMs / 1000) };
    if (pauseMs === undefined) {
      logger.fatal(facts, 'a worker died again and again; its place stays empty');
      if (this.#workers().length === 0) await this.#end(1);
      return;
    }
    logger.error({ ...facts, pause_ms: pauseMs }, 'a worker died; another one is started');
    this.#metrics.workerDeaths.inc();
    await sleep(pauseMs);
    if (!this.#isStopping) this.#fork(place);
  }

  async #end(code: number): Promise<void> {
    await this.stop();
    process.exit(code);
  }

  async #hear(place: Place, worker: Worker, message: ToPrimary): Promise<void> {
    switch (message.kind) {
      case 'here':
        // What it was told before, it did not hear.
        if (this.#isStopping) return tell(worker, { kind: 'stop' });
        return tell(worker, { kind: 'begin', isLate: this.#hasServed, state: this.#state() });
      case 'ready':
        place.isReady = message.isReady;
        return this.#tellState();
      case 'serving':
        place.facts = message.facts;
        return this.#begin();
      case 'measured':
        return this.#collected.take(worker, message.id, message.values);
      case 'question':
        try {
          tell(worker, { kind: 'answer', id: message.id, value: await this.#answer(message.question) });
        } catch (thrown) {
          const { code, message: text } = asBelfryError(thrown);
          tell(worker, { kind: 'refusal', id: message.id, error: { code, message: text } });
        }
    }
  }

  async #answer(question: Question): Promise<unknown> {
    const { rebuilder } = this.#builds;
    switch (question.what) {
      case 'metrics':
        return this.#collected.text();
      case 'start':
        await rebuilder.start(question.trigger, question.request);
        this.#tellState(); // before the answer: the worker's own next answer names the build
        return null;
      case 'cancel': {
        const record = await rebuilder.cancel(question.reason);
        this.#tellState();
        return record;
      }
    }
  }

  /** Once all of the first workers listen and have looked for a generation. */
  async #begin(): Promise<void> {
    const facts = this.#places.map((place) => place.facts);
    if (this.#isStopping || this.#hasServed || facts.includes(undefined)) return;
    this.#hasServed = true;
    const { logger, isReused, asJson } = this.options;
    const [first] = facts as [ServingFacts];
    const workers = this.#workers().map(({ process: { pid } }) => pid);
    const { address, admin, generation } = first;
    logger.info({ generation: generation?.id, address, admin, reused: isReused, workers }, 'serving');
    announce(first, isReused, asJson, { workers });
    const current = await this.data.current(() => undefined); // workers have said what is wrong with it
    await this.#builds.start(current?.manifest);
  }

  #state(): ClusterState {
    const { rebuilder, nextScheduled } = this.#builds;
    const { problem } = rebuilder;
    return {
      workers: { count: this.#places.length, ready: this.#places.filter(({ isReady }) => isReady).length },
      running: rebuilder.view(),
      problem: problem && { code: problem.code, message: problem.message },
      nextScheduled: nextScheduled()?.toISOString(),
    };
  }

  #tellState(): void {
    const state = this.#state();
    const text = JSON.stringify(state);
    if (text === this.#told) return;
    this.#told = text;
    for (const worker of this.#workers()) tell(worker, { kind: 'state', state });
  }
}
