/** The settings that a generation is loaded with: the same for a server and for a query in process. */
import { readModelServers } from '../config/model-servers.js';
import type { Settings } from '../config/schema.js';
import type { LoadOptions } from '../generation/generation.js';

export function loadOptions(settings: Settings): LoadOptions {
  return {
    threads: settings.threads,
    kernel: settings.kernel,
    modelWorkers: settings.model_workers,
    rerankModule: settings.rerank_module,
    modelServers: readModelServers(settings),
  };
}
