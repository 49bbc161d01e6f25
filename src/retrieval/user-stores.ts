/** The feature stores of the settings, each behind a breaker. */
import { readFeatureStores, type WrittenStores } from '../config/feature-stores.js';
import { FeastStore } from '../features/stores/feast-store.js';
import type { FeatureStore, OnInvalid } from '../features/stores/feature-store.js';
import { GuardedStore } from '../features/stores/guarded-store.js';
import { RedisStore } from '../features/stores/redis-store.js';
import { UserFeatures } from '../features/stores/user-features.js';
import { Breaker } from '../resilience/breaker.js';
import type { Metrics } from '../telemetry/metrics.js';

/** Hears when a store is left alone because it fails, and when a value is not what the settings say. */
export type OnStoreProblem = (store: string, reason: string) => void;

/**
 * Waits for no connection: a store that is down is no reason not to serve.
 * Errors: BELFRY_CONFIG_INVALID, BELFRY_FEATURE_STORE_CLIENT.
 */
export async function openUserStores(
  written: WrittenStores,
  metrics: Metrics,
  onProblem: OnStoreProblem = () => undefined,
): Promise<UserFeatures> {
  const guarded: GuardedStore[] = [];
  for (const settings of readFeatureStores(written)) {
    const { name, breaker_failures: failuresInARow, breaker_open_ms: openMs } = settings;
    const said = new Set<string>();
    const onInvalid: OnInvalid = (feature, reason) => {
      metrics.featureValuesInvalid.inc({ store: name, feature });
      if (said.has(feature)) return; // once is enough for a log; the metric counts
      said.add(feature);
      onProblem(name, `${feature}: ${reason}`);
    };
    const store: FeatureStore =
      settings.kind === 'feast' ? new FeastStore(settings, onInvalid) : await RedisStore.open(settings, onInvalid);
    metrics.featureStoreOpen.set({ store: name }, 0);
    const breaker = new Breaker({
      name: `feature store ${name}`,
      failuresInARow,
      openMs,
      onChange: (state, cause) => {
        metrics.featureStoreOpen.set({ store: name }, state === 'closed' ? 0 : 1);
        if (state !== 'half-open')
          onProblem(name, state === 'closed' ? 'it answers again' : (cause?.message ?? 'it fails'));
      },
    });
    guarded.push(new GuardedStore(settings, store, metrics, breaker));
  }
  return new UserFeatures(guarded, metrics);
}
