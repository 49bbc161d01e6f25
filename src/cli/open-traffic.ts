/** Who gets which reranker in a server, and where its shadows are logged: `shadow/` of the data folder. */
import { join } from 'node:path';
import type { Settings } from '../config/schema.js';
import { trafficSettings } from '../config/traffic.js';
import type { BelfryError } from '../errors.js';
import type { GenerationStore } from '../generation/store.js';
import type { Traffic } from '../retrieval/retriever.js';
import { ShadowLane } from '../retrieval/shadow.js';
import { ShadowLog } from '../retrieval/shadow-log.js';
import { TrafficPolicy } from '../retrieval/traffic.js';
import type { Metrics } from '../telemetry/metrics.js';

export interface ServerTraffic extends Traffic {
  readonly shadows: ShadowLane;
}

export function openTraffic(
  settings: { readonly traffic?: Settings['traffic'] },
  data: string,
  store: GenerationStore,
  metrics: Metrics,
  onProblem: (what: string, error: BelfryError) => void,
): ServerTraffic {
  const traffic = trafficSettings(settings.traffic);
  const log = !traffic.shadow_log
    ? undefined
    : new ShadowLog({
        folder: join(data, 'shadow'),
        fileBytes: traffic.shadow_log_file_bytes,
        totalBytes: traffic.shadow_log_total_bytes,
        metrics: metrics.traffic,
        onProblem: (error) => onProblem('shadow log', error),
      });
  return {
    policy: new TrafficPolicy(traffic),
    shadows: new ShadowLane({ store, metrics: metrics.traffic, settings: traffic, log, onProblem }),
  };
}
