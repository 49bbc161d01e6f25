/** The settings that a generation is loaded with: the same for a server and for a query in process. */
import { availableParallelism } from 'node:os';
import { readModelServers } from '../config/model-servers.js';
import type { Settings } from '../config/schema.js';
import type { LoadOptions } from '../generation/generation.js';
import type { OnRerankerState } from '../rerank/guarded-reranker.js';

/** More than this scores more than one JS thread can gather for. */
const SCORER_WORKERS_MAX = 4;

/** The CPUs that a process has, where several processes share the machine. */
function scorerWorkers({ workers }: Pick<Settings, 'workers'>): number {
  return Math.max(1, Math.min(SCORER_WORKERS_MAX, Math.floor(availableParallelism() / workers)));
}

export function loadOptions(settings: Settings): LoadOptions {
  return {
    threads: settings.threads,
    kernel: settings.kernel,
    modelWorkers: settings.model_workers,
    scorerWorkers: settings.model_workers ?? scorerWorkers(settings),
    rerankModule: settings.rerank_module,
    modelServers: readModelServers(settings),
  };
}

/** Of a server or one of its workers, which have one graph in memory. Over 336,000 items both ways are as fast (decision 0010). */
export function serverLoadOptions(settings: Settings, onRerankerState?: OnRerankerState): LoadOptions {
  return { ...loadOptions(settings), onRerankerState, graphLoad: settings.workers > 1 ? 'mmap' : 'huge' };
}
