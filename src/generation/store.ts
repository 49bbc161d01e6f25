/** The generation that serves, leased by requests: a swap replaces one reference, the old one closes at its last lease. */
import { BelfryError } from '../errors.js';
import type { Generation } from './generation.js';

class Held {
  private leases = 0;
  private retired = false;
  private freed: (() => void) | undefined;

  constructor(readonly generation: Generation) {}

  async lease<T>(request: (generation: Generation) => Promise<T>): Promise<T> {
    this.leases++;
    try {
      return await request(this.generation);
    } finally {
      this.leases--;
      if (this.retired && this.leases === 0) this.freed?.();
    }
  }

  /** Resolves when the last lease is given back and the generation is closed. */
  async retire(): Promise<void> {
    this.retired = true;
    if (this.leases > 0) {
      await new Promise<void>((resolve) => {
        this.freed = resolve;
      });
    }
    await this.generation.close();
  }
}

export class GenerationStore {
  private current: Held | undefined;
  private readonly retiring = new Set<Promise<void>>();

  constructor(generation?: Generation) {
    if (generation !== undefined) this.swap(generation);
  }

  /** Undefined before the first swap and after close. */
  peek(): Generation | undefined {
    return this.current?.generation;
  }

  /** Runs one request on one generation, whatever is swapped meanwhile. Error: BELFRY_NOT_READY. */
  async use<T>(request: (generation: Generation) => Promise<T>): Promise<T> {
    if (this.current === undefined)
      throw new BelfryError('BELFRY_NOT_READY', 'no generation is serving; try again in a few seconds');
    return this.current.lease(request);
  }

  /** Generations in memory: the one that serves, and those that requests still hold. */
  get held(): number {
    return this.retiring.size + (this.current === undefined ? 0 : 1);
  }

  swap(next: Generation): void {
    this.retire();
    this.current = new Held(next);
  }

  /** Resolves when one of the replaced generations is closed; at once when there is none. */
  async nextFreed(): Promise<void> {
    if (this.retiring.size > 0) await Promise.race([...this.retiring].map((done) => done.catch(() => undefined)));
  }

  /** Serves nothing from now on; resolves when the last request is done and every generation is freed. */
  async clear(): Promise<void> {
    this.retire();
    await Promise.allSettled(this.retiring);
  }

  /** Stops serving; resolves when the last request is done and every generation is closed. */
  async close(): Promise<void> {
    this.retire();
    await Promise.all(this.retiring);
  }

  private retire(): void {
    const old = this.current;
    this.current = undefined;
    if (old === undefined) return;
    const done = old.retire();
    this.retiring.add(done);
    // Only close() hears of a failed close; unhandled, it would stop the process that has the next generation.
    const forget = () => this.retiring.delete(done);
    done.then(forget, forget);
  }
}
