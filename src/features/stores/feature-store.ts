/** What a feature store is to retrieval: features of users by id, many at once, within a deadline. */
import type { FeatureValue, Id } from '../../types.js';

export interface StoredFeature {
  /** Of the type that the settings declare. Null: the store knows the user, and he has none. */
  readonly value: FeatureValue;
  /** When it was written, milliseconds since 1970; absent where the store does not say. */
  readonly writtenMs?: number;
  /** The store itself says that it is too old. */
  readonly isStale?: boolean;
}

/** By name. What the store does not have, or has in a form that is not the declared one, is absent. */
export type StoredUser = Readonly<Record<string, StoredFeature>>;

export interface FeatureStore {
  /**
   * One answer per id, in their order; undefined for a user that the store does not know. Rejects when the store is
   * down, refuses, or answers what cannot be read; its caller gives up when `signal` aborts.
   */
  lookup(ids: readonly Id[], signal: AbortSignal): Promise<readonly (StoredUser | undefined)[]>;
  close(): Promise<void>;
}

/** Hears of a value that was left out because it is not of its declared type. */
export type OnInvalid = (feature: string, reason: string) => void;
