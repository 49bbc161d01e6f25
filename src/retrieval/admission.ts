/**
 * Who may start now, and how much of what he asks for he gets. Admission is by cost, not by count: a request starts when
 * what is in flight, with it, will be done in a share of the time that it has. How fast work gets done is measured: cost
 * that got done in a window of busy time, and windows that load did not limit can only raise it, as in BBR's
 * estimate of a bottleneck (Cardwell et al., ACM Queue 14:5, 2016). So the limit on the cost in flight is rate × time, as
 * in the gradient limits of Netflix's concurrency-limits, and follows what the machine does.
 *
 * The shares rise along the ladder: cheaper forms of a request still start where its full form does not. What does not
 * start waits for a few milliseconds, the newest first when a queue stands (adaptive LIFO with a short time-out: Maurer,
 * Fail at Scale, ACM Queue 13:8, 2015), so that a refusal is quick. Batches start only on a quiet server and wait longest.
 */
import { BelfryError } from '../errors.js';
import type { OverloadMetrics } from '../telemetry/overload-metrics.js';
import { RESERVE_MS, type Deadline } from './deadline.js';

export type Priority = 'online' | 'batch';

export interface Costs {
  readonly length: number;
  at(level: number): number | undefined;
}

/** What asks to start. */
export interface Entrant {
  /** Microseconds of each level of the ladder, falling; one alone: nothing less will do. An array, or made when asked for. */
  readonly costs: Costs;
  readonly deadline: Deadline;
  readonly priority: Priority;
}

export interface Ticket {
  /** How far down the ladder the request begins; 0 is all that it asks for. */
  readonly level: number;
  /** The level is due to the time that the request has, not to load. */
  readonly isShort: boolean;
  /** Much is in flight: what is found now may soon be all that can be answered. */
  readonly isBusy: boolean;
  /** To be called once, when the work is done, or given up: then its cost did not get done. */
  release(isDone?: boolean): void;
}

interface Waiting {
  readonly entrant: Entrant;
  readonly until: number;
  readonly resolve: (ticket: Ticket) => void;
  readonly reject: (error: BelfryError) => void;
}

/** Shares of the time left in which the work in flight must be done, by level. */
const SHARES = [0.45, 0.55, 0.65, 0.75];
const BATCH_SHARE = 0.25;
/** Cores' worth of work done at once: where it begins, and the least that is believed. */
const RATE = { first: 1, least: 0.25 };
/** Busy time that makes a sample, and its weight: half a second makes a new mean. */
const WINDOW_MS = 50;
const WEIGHT = 0.2;
/** With less than this share of the limit in flight, a slow request says nothing of the machine's limit. */
const LIMITED_SHARE = 0.25;
const SWEEP_MS = 1;

export class Admission {
  /** Requests, and microseconds of estimated cost, that run now. */
  private running = 0;
  private inFlight = 0;
  /** Estimated cost done in a unit of time. */
  private rate = RATE.first;
  private readonly online: Waiting[] = [];
  private readonly batch: Waiting[] = [];
  private sweep: NodeJS.Timeout | undefined;
  private window = { busyMs: 0, done: 0, starts: 0, limited: 0 };
  /** Since when something is in flight. */
  private busySince = 0;

  constructor(
    private readonly options: { readonly queueMax: number; readonly queueWaitMs: number },
    private readonly metrics: OverloadMetrics,
  ) {
    metrics.watchAdmission({
      inFlight: () => this.inFlight / 1e6,
      rate: () => this.rate,
      waiting: (priority) => this[priority].length,
    });
  }

  /** Errors: BELFRY_OVERLOADED, BELFRY_DEADLINE_EXCEEDED for one that is past its deadline already. */
  admit(entrant: Entrant): Ticket | Promise<Ticket> {
    const { deadline, priority } = entrant;
    if (deadline.remainingMs <= 0) throw this.refuse(priority, 'late', deadline.exceeded('before the request began'));
    const queue = this[priority];
    // Whoever waits goes first, unless this one is online and they are a batch.
    const ticket = queue.length > 0 ? undefined : this.start(entrant);
    if (ticket !== undefined) return ticket;
    const { queueMax, queueWaitMs } = this.options;
    if (this.online.length + this.batch.length >= queueMax && !this.makeRoom(priority))
      throw this.refuse(priority, 'queue_full', overloaded(`${queueMax} requests wait`, queueMax));
    const now = performance.now();
    const left = deadline.remainingMs - RESERVE_MS;
    const until = now + (priority === 'batch' ? left : Math.min(queueWaitMs, left));
    return new Promise((resolve, reject) => {
      queue.push({ entrant, until, resolve, reject });
      this.sweep ??= setInterval(() => this.work(), SWEEP_MS);
    });
  }

  private start({ costs, deadline, priority }: Entrant): Ticket | undefined {
    const leftMs = deadline.remainingMs - RESERVE_MS;
    const last = costs.length - 1;
    let fits = 0; // the first level that the request has time for
    while (fits < last && costs.at(fits)! > leftMs * 1000) fits++;
    let before: number | undefined;
    for (let level = fits; level <= last; level++) {
      const cost = costs.at(level)!;
      if (cost === before) continue; // this step takes nothing off
      before = cost;
      const share = priority === 'batch' ? BATCH_SHARE : SHARES[last === 0 ? SHARES.length - 1 : level]!;
      if (this.running === 0 || this.inFlight + cost <= this.rate * share * leftMs * 1000)
        return this.ticket(level, level === fits && fits > 0, cost, leftMs);
      if (priority === 'batch') return undefined;
    }
    // The last steps took nothing off: what is left of the ladder is room.
    const cost = costs.at(last)!;
    if (this.inFlight + cost <= this.rate * SHARES.at(-1)! * leftMs * 1000)
      return this.ticket(last, last === fits && fits > 0, cost, leftMs);
    return undefined;
  }

  private ticket(level: number, isShort: boolean, cost: number, leftMs: number): Ticket {
    if (this.running++ === 0) this.busySince = performance.now();
    this.inFlight += cost;
    const isLimited = this.inFlight >= LIMITED_SHARE * this.rate * leftMs * 1000;
    this.window.starts++;
    if (isLimited) this.window.limited++;
    let isHeld = true;
    return {
      level,
      isShort,
      isBusy: isLimited,
      release: (isDone = true) => {
        if (!isHeld) return;
        isHeld = false;
        this.running--;
        this.inFlight = this.running === 0 ? 0 : Math.max(0, this.inFlight - cost);
        this.learn(isDone ? cost : 0);
        if (this.online.length + this.batch.length > 0) this.work();
      },
    };
  }

  private learn(done: number): void {
    const { window } = this;
    const now = performance.now();
    window.busyMs += now - this.busySince;
    window.done += done;
    this.busySince = now;
    if (window.busyMs < WINDOW_MS) return;
    const sample = window.done / (window.busyMs * 1000);
    const isLimited = window.limited * 2 > window.starts;
    this.window = { busyMs: 0, done: 0, starts: 0, limited: 0 };
    if (sample < this.rate && !isLimited) return;
    this.rate = Math.max(RATE.least, this.rate + WEIGHT * (Math.min(sample, 2 * this.rate) - this.rate));
  }

  /** Starts those that fit now, and refuses those that have waited long enough. */
  private work(): void {
    const now = performance.now();
    for (const priority of ['online', 'batch'] as const) {
      const queue = this[priority];
      const kept = queue.filter((waiting) => {
        if (waiting.until > now) return true;
        waiting.reject(this.timedOut(waiting.entrant));
        return false;
      });
      queue.splice(0, queue.length, ...kept);
      while (queue.length > 0) {
        const isStanding = queue[0]!.until - now < this.options.queueWaitMs / 2;
        const next = priority === 'online' && isStanding ? queue.at(-1)! : queue[0]!;
        const ticket = this.start(next.entrant);
        if (ticket === undefined) break;
        queue.splice(queue.indexOf(next), 1);
        next.resolve(ticket);
      }
    }
    if (this.online.length + this.batch.length > 0) return;
    clearInterval(this.sweep);
    this.sweep = undefined;
  }

  /** A batch that waits gives its place to a request that somebody looks at. */
  private makeRoom(priority: Priority): boolean {
    const last = priority === 'online' ? this.batch.pop() : undefined;
    last?.reject(this.refuse('batch', 'queue_full', overloaded('requests that wait go before batches')));
    return last !== undefined;
  }

  private timedOut({ deadline, priority }: Entrant): BelfryError {
    if (deadline.remainingMs <= RESERVE_MS) return this.refuse(priority, 'late', deadline.exceeded('waiting to begin'));
    const { queueWaitMs } = this.options;
    return this.refuse(priority, 'waited', overloaded(`the request waited for ${queueWaitMs} ms`, queueWaitMs));
  }

  private refuse(priority: Priority, reason: string, error: BelfryError): BelfryError {
    this.metrics.shed.inc({ priority, reason });
    return error;
  }
}

function overloaded(why: string, limit?: number): BelfryError {
  return new BelfryError('BELFRY_OVERLOADED', `the service is overloaded: ${why}; try again in a second`, {
    ...(limit === undefined ? {} : { limit }),
  });
}
