/**
 * When requests are due. In an open loop the moment of a request is fixed before the run and does not wait for answers,
 * so that a server that stalls is charged for all requests of the stall.
 */
import { seeded } from '../random.js';

/** A stretch of one rate. */
export interface Segment {
  /** Requests a second, above 0. */
  readonly rate: number;
  readonly seconds: number;
}

/** `uniform`: evenly spaced. `poisson`: independent users, so bursts and gaps, seeded. */
export type Arrivals = 'uniform' | 'poisson';

/**
 * The share of one worker in a schedule. Worker i of n takes every n-th request of a uniform schedule, or an independent
 * Poisson stream of an n-th of the rate, which together are one of the whole rate.
 */
export class Schedule {
  #segment = 0;
  /** Milliseconds from the start of the run at which the segment begins. */
  #begins = 0;
  #count = 0;
  #offset: number;
  readonly #random: () => number;

  constructor(
    private readonly segments: readonly Segment[],
    private readonly arrivals: Arrivals,
    private readonly worker: { readonly index: number; readonly count: number },
    seed: number,
  ) {
    this.#random = seeded(seed + 7919 * worker.index);
    this.#offset = this.#gap(0);
  }

  /** Milliseconds from the start of the run of the next request; Infinity after the last. */
  next(): number {
    for (;;) {
      const segment = this.segments[this.#segment];
      if (segment === undefined) return Number.POSITIVE_INFINITY;
      if (this.#offset < segment.seconds * 1000) {
        const due = this.#begins + this.#offset;
        this.#count++;
        this.#offset = this.#gap(this.#offset);
        return due;
      }
      this.#begins += segment.seconds * 1000;
      this.#segment++;
      this.#count = 0;
      this.#offset = this.#gap(0);
    }
  }

  /** Offset in the segment of the request after one at `offset`. */
  #gap(offset: number): number {
    const segment = this.segments[this.#segment];
    if (segment === undefined) return 0;
    const { index, count } = this.worker;
    // From the count and not by adding up gaps: an hour of additions would drift.
    if (this.arrivals === 'uniform') return ((this.#count * count + index) * 1000) / segment.rate;
    return offset - (Math.log(1 - this.#random()) * 1000 * count) / segment.rate;
  }
}

export function totalSeconds(segments: readonly Segment[]): number {
  return segments.reduce((sum, { seconds }) => sum + seconds, 0);
}
