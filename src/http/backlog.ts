/**
 * Requests that wait in sockets. They are read in the order in which they came, so when more come than can be read, all that are read have
 * waited as long, and a server that takes what it can of the oldest answers everyone too late. As in CoDel (Nichols and
 * Jacobson, *Controlling Queue Delay*, ACM Queue 10:5, 2012): a long wait is a burst; when for some time there was nothing else, the
 * queue stands.
 */

/** Of the deadline: a wait that is long, and for how long all must be so. A closed loop of a hundred clients has shorter ones. */
const LONG_SHARE = 0.25;
const STANDS_SHARE = 0.5;
/** Of the deadline: while waits are longer than this the queue still stands. */
const OVER_SHARE = 0.12;
/** What keeps the queue short is given up only after so long, since it soon would be long again. Milliseconds. */
const HOLD_MS = 1000;

export class Backlog {
  private longSince: number | undefined;
  private toldAt = Number.NEGATIVE_INFINITY;
  private standsUntil = Number.NEGATIVE_INFINITY;

  constructor(private readonly deadlineMs: number) {}

  /** Told of the wait of the first request of each turn of the event loop, milliseconds. `now` is of a monotonic clock. */
  told(waited: number, now: number): void {
    const silence = now - this.toldAt;
    this.toldAt = now;
    if (this.stands(now) && waited >= OVER_SHARE * this.deadlineMs) this.standsUntil = now + HOLD_MS;
    if (waited < LONG_SHARE * this.deadlineMs) {
      this.longSince = undefined;
      return;
    }
    // With no request between them two long waits are two accidents.
    if (this.longSince === undefined || silence >= 2 * STANDS_SHARE * this.deadlineMs) this.longSince = now;
    if (now - this.longSince >= STANDS_SHARE * this.deadlineMs) this.standsUntil = now + HOLD_MS;
  }

  stands(now: number): boolean {
    return now < this.standsUntil;
  }
}
