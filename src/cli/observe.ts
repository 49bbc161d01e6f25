/** What watches a server while it serves: samples of recall, batches, caches, traces. */
import type { Settings } from '../config/schema.js';
import { RecallSampler } from '../retrieval/recall-sampler.js';
import type { Retriever } from '../retrieval/retriever.js';
import type { Metrics } from '../telemetry/metrics.js';

type ObserveSettings = Pick<Settings, 'recall_sample_share' | 'recall_sample_gap_ms'>;

/** Returns what ends it, before the generations are closed. */
export function observeServer(
  settings: ObserveSettings,
  retriever: Retriever,
  { searches }: Metrics,
): () => Promise<void> {
  const { store } = retriever;
  const stopBatches = searches.watchBatches();
  searches.watchFilterCache(() => store.peek()?.filters.cacheFacts);
  const sampler = new RecallSampler(
    { share: settings.recall_sample_share, gapMs: settings.recall_sample_gap_ms },
    store,
    searches,
  );
  retriever.sampler = sampler;
  return async () => {
    stopBatches();
    await sampler.close();
  };
}
