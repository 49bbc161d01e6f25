/** What a program that embeds Belfry may use. Re-exports only. */
export { VectorIndex } from './ann/vector-index.js';
export { type BenchReport, parseReport } from './bench/report/schema.js';
export { loadSettings } from './config/load.js';
export { BelfryError, ERROR_TABLE, type ErrorCode } from './errors.js';
export type { BuildOptions } from './generation/build.js';
export { Generation, type LoadOptions } from './generation/generation.js';
export { GenerationStore } from './generation/store.js';
export { type RetrieveAllOptions, type RetrieveAllSummary, retrieveAll } from './jobs/retrieve-all.js';
export type { RerankCandidates, Reranker, RerankRequest, RerankScores } from './rerank/reranker.js';
export { fillRetrieve, type RetrieveRequest, type RetrieveResponse } from './retrieval/request.js';
export { Retriever } from './retrieval/retriever.js';
export { Metrics } from './telemetry/metrics.js';
export type { Features, Id, Metric } from './types.js';
export { buildGeneration, ensureGeneration } from './upserts/build.js';
