/**
 * Features of a user from all stores at once, for one request: checked, of the right age, and with a stand-in for what is
 * missing. Losing a store, or every store, is an answer like another: it says what stands in.
 */
import type { FeatureSpec } from '../../config/feature-stores.js';
import type { Metrics } from '../../telemetry/metrics.js';
import type { Features, FeatureValue, Id } from '../../types.js';
import type { StoredFeature } from './feature-store.js';
import type { GuardedStore, Lookup } from './guarded-store.js';

export interface LookedUp {
  /** From the stores; they go before those of the table. Null: the store knows that the user has none. */
  readonly values: Features;
  /** For what no store gave: they stand in where the table has nothing either. */
  readonly defaults: Features;
  readonly degraded: readonly ('features_default' | 'features_stale')[];
}

export interface LookupRequest {
  /** Features that somebody will read. */
  readonly wanted: ReadonlySet<string>;
  readonly budgetMs: number;
  /** Whether the models can take a value; one that they cannot is as good as none. */
  readonly fits: (name: string, value: FeatureValue) => boolean;
}

const NOTHING: LookedUp = { values: {}, defaults: {}, degraded: [] };

export class UserFeatures {
  /** Features that a store holds. */
  readonly names: ReadonlySet<string>;

  constructor(
    private readonly stores: readonly GuardedStore[] = [],
    private readonly metrics?: Metrics,
    /** Milliseconds since 1970. */
    private readonly now: () => number = () => Date.now(),
  ) {
    this.names = new Set(stores.flatMap(({ settings }) => Object.keys(settings.features)));
  }

  /** Never rejects. */
  async of(id: Id, request: LookupRequest): Promise<LookedUp> {
    const asked = this.stores.filter(({ settings }) =>
      Object.keys(settings.features).some((name) => request.wanted.has(name)),
    );
    if (asked.length === 0) return NOTHING;
    const lookups = await Promise.all(asked.map((store) => store.get(id, request.budgetMs)));
    const merged = new Merge();
    for (const [at, store] of asked.entries()) this.take(store, lookups[at]!, request, merged);
    return { values: merged.values, defaults: merged.defaults, degraded: [...merged.degraded] };
  }

  async close(): Promise<void> {
    await Promise.all(this.stores.map((store) => store.close()));
  }

  private take({ settings }: GuardedStore, lookup: Lookup, { wanted, fits }: LookupRequest, merged: Merge): void {
    let oldest: number | undefined;
    for (const [name, spec] of Object.entries(settings.features)) {
      if (!wanted.has(name)) continue;
      const found = lookup.user?.[name];
      const ageMs = found === undefined ? undefined : this.ageOf(found, lookup);
      if (ageMs !== undefined) oldest = Math.max(oldest ?? 0, ageMs);
      const isStale =
        found !== undefined && (found.isStale === true || (ageMs ?? 0) > (settings.max_age_s ?? Infinity) * 1000);
      if (isStale || (lookup.isLost && found !== undefined)) merged.degraded.add('features_stale');
      if (lookup.isLost) merged.degraded.add('features_default');
      const isUsed = found !== undefined && !(isStale && settings.stale === 'default');
      if (isUsed && (found.value === null || fits(name, found.value))) merged.use(name, spec, found.value);
      else {
        if (isUsed) this.metrics?.featureValuesInvalid.inc({ store: settings.name, feature: name });
        this.metrics?.featuresDefaulted.inc({ store: settings.name, feature: name });
        merged.standIn(name, spec);
      }
    }
    if (oldest !== undefined) this.metrics?.featureAgeSeconds.observe({ store: settings.name }, oldest / 1000);
  }

  /** Where the store does not say when a value was written, the age of its answer is what is known. */
  private ageOf({ writtenMs }: StoredFeature, { heldMs }: Lookup): number | undefined {
    if (writtenMs !== undefined) return Math.max(0, this.now() - writtenMs);
    return heldMs > 0 ? heldMs : undefined;
  }
}

class Merge {
  readonly values: Record<string, FeatureValue> = {};
  readonly defaults: Record<string, FeatureValue> = {};
  readonly degraded = new Set<'features_default' | 'features_stale'>();

  use(name: string, spec: FeatureSpec, value: FeatureValue): void {
    this.values[name] = value ?? spec.default ?? null;
  }

  standIn(name: string, spec: FeatureSpec): void {
    this.degraded.add('features_default');
    if (spec.default !== undefined) this.defaults[name] = spec.default;
  }
}
