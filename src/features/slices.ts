/** Long work on the JS thread in slices of less than a millisecond, between which the event loop turns. */
import { setImmediate, setTimeout } from 'node:timers/promises';

const SLICE_MS = 0.7;
/** Counted from the beginning of the turn, in whole milliseconds: the thread works for a quarter of the time. */
const REST_MS = 2;

export class Slices {
  private end = performance.now() + SLICE_MS;

  /** `check` runs before each slice but the first, and throws when nobody waits for the work any more. */
  constructor(private readonly check: () => void = () => undefined) {}

  /**
   * For work that nobody waits for while others are answered. A thread that works without a pause uses up its turn, and is then made to
   * wait for other threads with an answer in its hands.
   */
  static withRests(): Slices {
    return new RestingSlices();
  }

  get isOver(): boolean {
    return performance.now() > this.end;
  }

  async next(): Promise<void> {
    await this.turn();
    this.check();
    this.end = performance.now() + SLICE_MS;
  }

  protected turn(): Promise<void> {
    return setImmediate();
  }
}

class RestingSlices extends Slices {
  protected override turn(): Promise<void> {
    return setTimeout(REST_MS);
  }
}
