/** Long work on the JS thread in slices of less than a millisecond, between which the event loop turns. */
import { setImmediate } from 'node:timers/promises';

const SLICE_MS = 0.7;

export class Slices {
  private end = performance.now() + SLICE_MS;

  /** `check` runs before each slice but the first, and throws when nobody waits for the work any more. */
  constructor(private readonly check: () => void = () => undefined) {}

  get isOver(): boolean {
    return performance.now() > this.end;
  }

  async next(): Promise<void> {
    await setImmediate();
    this.check();
    this.end = performance.now() + SLICE_MS;
  }
}
