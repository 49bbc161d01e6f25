/** The upserts of a data folder, as the settings say. */
import { dataFolder } from '../config/load.js';
import type { Settings } from '../config/schema.js';
import type { GenerationStore } from '../generation/store.js';
import type { Metrics } from '../telemetry/metrics.js';
import { ItemUpserts } from '../upserts/item-upserts.js';

export function openUpserts(
  settings: Settings,
  store: GenerationStore,
  metrics: Metrics,
  onNotice: (message: string) => void,
): Promise<ItemUpserts> {
  return ItemUpserts.open({
    data: dataFolder(settings),
    store,
    metrics,
    fsync: settings.upsert_fsync,
    logBytes: settings.upsert_log_bytes,
    onNotice,
  });
}
