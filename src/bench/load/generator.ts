/**
 * One generator: an event loop that sends requests when they are due and notes when answers come. Each connection holds
 * one request at a time (no pipelining), so a request that finds none free waits here, and its wait counts.
 */
import { Client, type Dispatcher } from 'undici';
import { seeded } from '../random.js';
import { degradedReasons, errorCodeOf, generationOf } from './answers.js';
import type { StepCounts } from './measures.js';
import {
  addCount,
  type KeptAnswer,
  newHistogram,
  newWindow,
  type Recording,
  recordMs,
  type Window,
} from './recording.js';
import { type Arrivals, Schedule, type Segment, totalSeconds } from './schedule.js';

/** A request as it is sent; the body is text or, for a recorded one, bytes. */
export interface PreparedRequest {
  readonly path: string;
  readonly method: 'POST' | 'GET';
  readonly headers: readonly string[];
  readonly body: string | Uint8Array | null;
}

export interface GeneratorTask {
  readonly origin: string;
  readonly requests: readonly PreparedRequest[];
  /** Positions in `requests` in the order of sending; begun again at its end. */
  readonly order: Uint32Array;
  readonly worker: { readonly index: number; readonly count: number };
  readonly loop:
    | { readonly kind: 'open'; readonly segments: readonly Segment[]; readonly arrivals: Arrivals; readonly pace: Pace }
    | { readonly kind: 'closed'; readonly clients: number; readonly seconds: number };
  /** Sent before the run at the rate of its beginning, and not counted. */
  readonly warmupSeconds: number;
  /** Of this worker; an open loop opens them as it needs them. */
  readonly connections: number;
  readonly timeoutMs: number;
  readonly deadlineMs: number;
  readonly windowMs: number;
  /** Answers to keep for the recall, drawn evenly from all. */
  readonly keep: number;
  /** Milliseconds since the epoch at which the warm-up begins, the same for all workers. */
  readonly startAt: number;
  readonly seed: number;
}

/** `spin` polls between requests: sends on time to microseconds, and fills a core. `timer` sleeps: late by up to 1 ms. */
export type Pace = 'spin' | 'timer';

/** Below this a sleep would wake too late. */
const SLEEP_MARGIN_MS = 1.5;
/** In the warm-up, a request that is due for longer is left out. */
const WARMUP_LATE_MS = 5;
/** How often requests are looked over for one that waited too long. */
const SWEEP_MS = 20;
/** A client of a closed loop whose request failed: without a pause it would do nothing but fail. */
const FAILURE_PAUSE_MS = 10;

export class Generator {
  /** Counted as they happen, for whoever shows progress. */
  readonly live = { offered: 0, answered: 0, errors: 0, degraded: 0, latency: newHistogram() };
  readonly #windows: Window[] = [];
  readonly #lag = newHistogram();
  readonly #service = newHistogram();
  readonly #refused = newHistogram();
  readonly #kept: KeptAnswer[] = [];
  readonly #generations: Record<string, number> = {};
  readonly #all: Connection[] = [];
  readonly #idle: Connection[] = [];
  /** Due times of requests that wait for a connection, and where the first of them is. */
  #queue: number[] = [];
  #queueHead = 0;
  #next: number;
  #eligible = 0;
  #waited = 0;
  #bytes = 0;
  /** Sent and answered: a poll of the loop in which it did not grow had nothing to do. */
  #moves = 0;
  #emptyPollMs = 0;
  /** Performance time at which counting begins, and ends. */
  readonly #zero: number;
  readonly #end: number;
  #stopped = false;
  readonly #random: () => number;

  constructor(private readonly task: GeneratorTask) {
    this.#next = Math.floor((task.order.length * task.worker.index) / task.worker.count);
    this.#zero = task.startAt - performance.timeOrigin + task.warmupSeconds * 1000;
    const { loop } = task;
    this.#end = this.#zero + 1000 * (loop.kind === 'open' ? totalSeconds(loop.segments) : loop.seconds);
    this.#random = seeded(task.seed ^ (task.worker.index + 1));
  }

  /** Ends the run early: nothing more is sent, what is in flight is waited for. */
  stop(): void {
    this.#stopped = true;
  }

  countsByWindow(): StepCounts[] {
    return Array.from(this.#windows, (one) => ({ offered: one?.offered ?? 0, inDeadline: one?.inDeadline ?? 0 }));
  }

  /** Resolves when every request is answered or given up. */
  async run(): Promise<Recording> {
    await sleep(this.#zero - this.task.warmupSeconds * 1000 - performance.now());
    const sweep = setInterval(() => this.#giveUpLate(performance.now()), SWEEP_MS);
    const before = performance.eventLoopUtilization();
    try {
      if (this.task.loop.kind === 'open') await this.#open(this.task.loop);
      else await this.#closed(this.task.loop.clients);
      const { active, idle } = performance.eventLoopUtilization(before);
      while (this.#all.length > this.#idle.length || this.#queueHead < this.#queue.length) await sleep(5);
      return {
        windows: this.#windows,
        lag: this.#lag,
        service: this.#service,
        refused: this.#refused,
        kept: this.#kept,
        waited: this.#waited,
        connections: this.#all.length,
        generations: this.#generations,
        bytes: this.#bytes,
        busy: (active - this.#emptyPollMs) / (active + idle),
      };
    } finally {
      clearInterval(sweep);
      await Promise.all(this.#all.map((connection) => connection.close()));
    }
  }

  #open({ segments, arrivals, pace }: GeneratorTask['loop'] & { kind: 'open' }): Promise<void> {
    const { warmupSeconds, worker, seed } = this.task;
    const warmup = warmupSeconds > 0 ? [{ rate: segments[0]?.rate ?? 1, seconds: warmupSeconds }] : [];
    const schedule = new Schedule([...warmup, ...segments], arrivals, worker, seed);
    const start = this.#zero - warmupSeconds * 1000;
    let due = start + schedule.next();
    return new Promise((resolve) => {
      const pump = (): void => {
        let now = performance.now();
        while (due <= now && !this.#stopped) {
          this.#offer(due, now);
          due = start + schedule.next();
          now = performance.now();
        }
        if (due === Number.POSITIVE_INFINITY || this.#stopped) return resolve();
        const wait = due - now;
        if (pace === 'timer') setTimeout(pump, Math.max(1, Math.round(wait)));
        else if (wait > SLEEP_MARGIN_MS + 1) setTimeout(pump, Math.floor(wait - SLEEP_MARGIN_MS));
        else {
          const moves = this.#moves;
          setImmediate(() => {
            if (this.#moves === moves) this.#emptyPollMs += performance.now() - now;
            pump();
          });
        }
      };
      pump();
    });
  }

  /** Each client sends its next request when the last is answered; it is due when it is sent. */
  async #closed(clients: number): Promise<void> {
    for (let i = 0; i < clients; i++) this.#connect().send(performance.now());
    while (performance.now() < this.#end && !this.#stopped) {
      await sleep(Math.min(20, Math.max(1, this.#end - performance.now())));
    }
    this.#stopped = true;
  }

  #offer(due: number, now: number): void {
    // Code that is not compiled yet is slow. What it fell behind by is not the server's, so the run does not begin with it.
    if (due < this.#zero && now - due > WARMUP_LATE_MS) return;
    if (due >= this.#zero) {
      if (this.#lag.totalCount === 0) this.#queue.length = this.#queueHead = 0; // nor with requests of the warm-up that wait
      recordMs(this.#lag, now - due);
    }
    this.#countOffered(due);
    const connection = this.#idle.pop();
    if (connection !== undefined) connection.send(due);
    else if (this.#all.length < this.task.connections) this.#connect().send(due);
    else {
      if (due >= this.#zero) this.#waited++;
      this.#queue.push(due);
    }
  }

  #connect(): Connection {
    const connection = new Connection(this, this.task);
    this.#all.push(connection);
    return connection;
  }

  /** The position of the next request to send. */
  draw(): number {
    const { order } = this.task;
    if (this.#next >= order.length) this.#next = 0;
    return order[this.#next++] as number;
  }

  countSent(due: number): void {
    this.#moves++;
    if (this.task.loop.kind === 'closed') this.#countOffered(due);
  }

  #countOffered(due: number): void {
    this.live.offered++;
    if (due >= this.#zero) this.#windowOf(due).offered++;
  }

  answered(connection: Connection, { due, sent, request }: Exchange, status: number, body: Buffer): void {
    const now = performance.now();
    const latency = now - due;
    this.#moves++;
    const isOk = status >= 200 && status < 300;
    this.live.answered++;
    if (isOk) recordMs(this.live.latency, latency);
    else this.live.errors++;
    if (now >= this.#zero && now < this.#end) this.#windowOf(now).completed++;
    if (due >= this.#zero) {
      const window = this.#windowOf(due);
      this.#bytes += body.length;
      if (isOk) {
        window.ok++;
        if (latency <= this.task.deadlineMs) window.inDeadline++;
        recordMs(window.latency, latency);
        recordMs(this.#service, now - sent);
        this.#read(window, request, body);
      } else {
        addCount(window.errors, errorCodeOf(status, body));
        if (status === 503 || status === 504) recordMs(this.#refused, now - sent);
      }
    }
    this.#freed(connection, now);
  }

  /** Of a request without an answer: `code` says why. */
  failed(connection: Connection, { due }: Exchange, code: string): void {
    this.#countFailure(due, code);
    if (this.task.loop.kind === 'open') this.#freed(connection, performance.now());
    else setTimeout(() => this.#freed(connection, performance.now()), FAILURE_PAUSE_MS);
  }

  #countFailure(due: number, code: string): void {
    this.live.errors++;
    if (due < this.#zero) return;
    const window = this.#windowOf(due);
    addCount(window.errors, code);
    recordMs(window.latency, performance.now() - due);
  }

  #read(window: Window, request: number, body: Buffer): void {
    const reasons = degradedReasons(body);
    if (reasons.length > 0) {
      this.live.degraded++;
      window.degradedAnswers++;
      for (const reason of reasons) addCount(window.degraded, reason);
    }
    const generation = generationOf(body);
    if (generation !== undefined) addCount(this.#generations, generation);
    // Reservoir sampling: every answer has the same chance to be kept, however many come.
    const { keep } = this.task;
    if (keep === 0) return;
    this.#eligible++;
    const place = this.#kept.length < keep ? this.#kept.length : Math.floor(this.#random() * this.#eligible);
    if (place < keep) this.#kept[place] = { request, text: body.toString('utf8') };
  }

  #freed(connection: Connection, now: number): void {
    if (this.task.loop.kind === 'closed') {
      if (now < this.#end && !this.#stopped) connection.send(now);
      else this.#idle.push(connection);
      return;
    }
    const due = this.#takeQueued();
    if (due === undefined) this.#idle.push(connection);
    else connection.send(due);
  }

  #takeQueued(): number | undefined {
    if (this.#queueHead >= this.#queue.length) return undefined;
    const due = this.#queue[this.#queueHead++] as number;
    if (this.#queueHead > 4096 && this.#queueHead * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#queueHead);
      this.#queueHead = 0;
    }
    return due;
  }

  #giveUpLate(now: number): void {
    const { timeoutMs } = this.task;
    while (this.#queueHead < this.#queue.length && now - (this.#queue[this.#queueHead] as number) > timeoutMs) {
      this.#countFailure(this.#takeQueued() as number, 'timeout');
    }
    for (const connection of this.#all) connection.giveUpBefore(now - timeoutMs);
  }

  #windowOf(time: number): Window {
    const at = Math.floor((time - this.#zero) / this.task.windowMs);
    return (this.#windows[at] ??= newWindow());
  }
}

/** One connection, with one request at a time. */
class Connection {
  #client: Client;
  #current: Exchange | undefined;

  constructor(
    private readonly generator: Generator,
    private readonly task: GeneratorTask,
  ) {
    this.#client = this.#open();
  }

  #open(): Client {
    return new Client(this.task.origin, {
      pipelining: 1,
      connect: { timeout: this.task.timeoutMs },
      // Its own timers are coarse; the generator looks itself.
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: 600_000,
    });
  }

  send(due: number): void {
    const exchange = new Exchange(this, due, this.generator.draw());
    this.#current = exchange;
    this.generator.countSent(due);
    const { path, method, headers, body } = this.task.requests[exchange.request] as PreparedRequest;
    this.#client.dispatch({ path, method, headers: headers as string[], body }, exchange);
  }

  ended(exchange: Exchange, status: number, body: Buffer): void {
    if (exchange !== this.#current) return; // given up before
    this.#current = undefined;
    this.generator.answered(this, exchange, status, body);
  }

  failed(exchange: Exchange, error: NodeJS.ErrnoException): void {
    if (exchange !== this.#current) return;
    this.#current = undefined;
    this.generator.failed(this, exchange, error.code ?? error.name);
  }

  giveUpBefore(time: number): void {
    const exchange = this.#current;
    if (exchange === undefined || exchange.due >= time) return;
    this.#current = undefined;
    // The late answer would come on this socket, before that of the next request.
    void this.#client.destroy();
    this.#client = this.#open();
    this.generator.failed(this, exchange, 'timeout');
  }

  close(): Promise<void> {
    return this.#client.destroy();
  }
}

/** One request and its answer. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly sent = performance.now();
  #status = 0;
  readonly #chunks: Buffer[] = [];

  constructor(
    private readonly connection: Connection,
    readonly due: number,
    readonly request: number,
  ) {}

  // Without it undici takes the handler for one of its older interface.
  onRequestStart(): void {}

  onResponseStart(_controller: Dispatcher.DispatchController, status: number): void {
    this.#status = status;
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    const body = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
    this.connection.ended(this, this.#status, body);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.connection.failed(this, error);
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)));
}
