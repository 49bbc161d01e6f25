/**
 * A feature store that cannot hurt: in front of it a small cache, behind that a breaker, a bounded queue and a timeout. A
 * lookup always answers; when the store is lost it says so, with the last known features where there are some.
 */
import type { FeatureStoreSettings } from '../../config/feature-stores.js';
import { BelfryError } from '../../errors.js';
import type { Metrics } from '../../telemetry/metrics.js';
import type { Id } from '../../types.js';
import type { FeatureStore, StoredUser } from './feature-store.js';
import { type CallGuard, LookupQueue, LookupTimeout, QueueFull } from './lookup-queue.js';
import { UserCache } from './user-cache.js';

export interface Lookup {
  /** Undefined: the store does not know the user, or is lost and nothing is known from before. */
  readonly user: StoredUser | undefined;
  /** The store did not answer; `user` is from an earlier answer. */
  readonly isLost: boolean;
  /** How long ago the store answered this. */
  readonly heldMs: number;
}

/** Ends of a lookup, as the metric counts them. */
type Result = 'found' | 'unknown' | 'cached' | 'timeout' | 'failed' | 'open' | 'full';

export class GuardedStore {
  private readonly cache: UserCache;
  private readonly queue: LookupQueue;

  constructor(
    readonly settings: FeatureStoreSettings,
    private readonly store: FeatureStore,
    private readonly metrics: Metrics,
    guard: CallGuard,
  ) {
    this.cache = new UserCache(settings.cache_bytes);
    this.queue = new LookupQueue(store, {
      batchMax: settings.batch_max,
      lanes: settings.connections,
      queueMax: settings.queue_max,
      timeoutMs: settings.timeout_ms,
      guard,
      onAnswer: (seconds) => metrics.featureStoreSeconds.observe({ store: settings.name }, seconds),
    });
  }

  /** Never rejects. `budgetMs`: what the request has for it. */
  async get(id: Id, budgetMs: number): Promise<Lookup> {
    const known = this.cache.get(id);
    const heldMs = known === undefined ? 0 : performance.now() - known.at;
    if (known !== undefined && heldMs <= this.settings.cache_ms) {
      this.count('cached');
      return { user: known.user, isLost: false, heldMs };
    }
    try {
      const asking = this.queue.get(id).then((user) => {
        this.cache.set(id, user, performance.now()); // also when this request has given up by then
        return user;
      });
      const user = await within(asking, budgetMs);
      this.count(user === undefined ? 'unknown' : 'found');
      return { user, isLost: false, heldMs: 0 };
    } catch (error) {
      this.count(resultOf(error));
      return { user: known?.user, isLost: true, heldMs };
    }
  }

  async close(): Promise<void> {
    await this.store.close();
  }

  private count(result: Result): void {
    this.metrics.featureLookups.inc({ store: this.settings.name, result });
  }
}

function resultOf(error: unknown): Result {
  if (error instanceof QueueFull) return 'full';
  if (error instanceof LookupTimeout) return 'timeout';
  return error instanceof BelfryError && error.code === 'BELFRY_CIRCUIT_OPEN' ? 'open' : 'failed';
}

/** The lookup goes on for others, and for the cache, when one request has no more time for it. */
async function within<T>(work: Promise<T>, budgetMs: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new LookupTimeout('the request has no more time')), Math.max(0, budgetMs));
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    work.catch(() => undefined);
  }
}
