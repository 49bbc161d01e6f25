/** Whether a feature store answers, for `belfry doctor`. One that does not is a warning: Belfry serves without it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FeatureStoreSettings } from '../config/feature-stores.js';
import { FeastStore } from '../features/stores/feast-store.js';
import { RedisStore } from '../features/stores/redis-store.js';
import type { Id } from '../types.js';

const ANSWER_MS = 2_000;
const RETRY_MS = 50;

/** Asks for one user: `id`, of the export where there is one. */
export async function featureStoreState(
  settings: FeatureStoreSettings,
  id: Id,
): Promise<string | readonly ['warning', string]> {
  const invalid: string[] = [];
  const onInvalid = (feature: string, reason: string) => invalid.push(`${feature}: ${reason}`);
  const store =
    settings.kind === 'feast' ? new FeastStore(settings, onInvalid) : await RedisStore.open(settings, onInvalid);
  const signal = AbortSignal.timeout(ANSWER_MS);
  try {
    for (;;) {
      try {
        const [user] = await store.lookup([id], signal);
        const found =
          user === undefined ? 'does not know' : `has ${Object.keys(user).join(', ') || 'nothing valid'} of`;
        const detail = `${settings.url} ${found} user ${JSON.stringify(id)}`;
        return invalid.length === 0 ? detail : ['warning', `${detail}; ${invalid.join('; ')}`];
      } catch (error) {
        if (signal.aborted || settings.kind === 'feast') throw error;
        await sleep(RETRY_MS); // Redis connects in the background
      }
    }
  } catch (error) {
    return ['warning', `${settings.url}: ${(error as Error).message}; requests get defaults until it answers`];
  } finally {
    await store.close();
  }
}
