/**
 * Joins lookups that wait together into one question to the store. Nothing waits for company: a lookup leaves at once while
 * a lane is free, and gathers only behind questions that are under way anyway. The same user is asked for once.
 */
import type { Id } from '../../types.js';
import type { FeatureStore, StoredUser } from './feature-store.js';

export interface LookupQueueOptions {
  readonly batchMax: number;
  /** Questions at once. */
  readonly lanes: number;
  readonly queueMax: number;
  /** After so long the question counts as lost. */
  readonly timeoutMs: number;
  /** What stands between the queue and the store: a circuit breaker. */
  readonly guard: CallGuard;
  /** After each question that was put to the store. */
  readonly onAnswer: (seconds: number) => void;
}

/** Runs a call, or refuses to; Breaker of rerank/breaker.ts is one. */
export interface CallGuard {
  run<T>(work: () => Promise<T>): Promise<T>;
}

export class QueueFull extends Error {}
export class LookupTimeout extends Error {}

interface Waiting {
  readonly id: Id;
  readonly answer: Promise<StoredUser | undefined>;
  readonly resolve: (user: StoredUser | undefined) => void;
  readonly reject: (error: Error) => void;
}

export class LookupQueue {
  private readonly waiting = new Map<Id, Waiting>();
  private readonly asked = new Map<Id, Waiting>();
  private running = 0;

  constructor(
    private readonly store: FeatureStore,
    private readonly options: LookupQueueOptions,
  ) {}

  /** Rejects with QueueFull, LookupTimeout, or what the store failed with. */
  get(id: Id): Promise<StoredUser | undefined> {
    const known = this.waiting.get(id) ?? this.asked.get(id);
    if (known !== undefined) return known.answer;
    if (this.waiting.size >= this.options.queueMax) return Promise.reject(new QueueFull('too many lookups wait'));
    const { promise, ...settle } = deferred<StoredUser | undefined>();
    promise.catch(() => undefined); // whoever waited may have given up
    this.waiting.set(id, { id, answer: promise, ...settle });
    this.dispatch();
    return promise;
  }

  private dispatch(): void {
    while (this.running < this.options.lanes && this.waiting.size > 0) {
      const batch = [...this.waiting.values()].slice(0, this.options.batchMax);
      for (const one of batch) {
        this.waiting.delete(one.id);
        this.asked.set(one.id, one);
      }
      this.running++;
      void this.ask(batch);
    }
  }

  private async ask(batch: readonly Waiting[]): Promise<void> {
    let failure: Error | undefined;
    try {
      const ids = batch.map(({ id }) => id);
      const users = await this.options.guard.run(() => this.withinTimeout(ids));
      batch.forEach(({ resolve }, at) => resolve(users[at]));
    } catch (error) {
      failure = error as Error;
    }
    for (const one of batch) {
      if (failure !== undefined) one.reject(failure);
      this.asked.delete(one.id);
    }
    this.running--;
    this.dispatch();
  }

  private async withinTimeout(ids: readonly Id[]): Promise<readonly (StoredUser | undefined)[]> {
    const started = performance.now();
    const stop = new AbortController();
    const { promise: late, reject } = deferred<never>();
    const timer = setTimeout(() => {
      reject(new LookupTimeout(`no answer in ${this.options.timeoutMs} ms`));
      stop.abort();
    }, this.options.timeoutMs);
    const answer = this.store.lookup(ids, stop.signal);
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, late]);
    } finally {
      clearTimeout(timer);
      this.options.onAnswer((performance.now() - started) / 1000);
    }
  }
}

function deferred<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((onValue, onError) => {
    resolve = onValue;
    reject = onError;
  });
  return { promise, resolve, reject };
}
