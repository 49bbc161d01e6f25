/** The one table of defaults and bounds of vector search; nothing else writes these numbers down. */
export interface Bound {
  readonly default: number;
  readonly min: number;
  readonly max: number;
  /** What the number is, and why it ends where it does. */
  readonly why: string;
}

export const ANN_BOUNDS = {
  k: { default: 10, min: 1, max: 10_000, why: 'hits per query; candidate generation asks for hundreds to thousands' },
  httpK: {
    default: 1_000,
    min: 1,
    max: 10_000,
    why: 'largest k of one HTTP request, so that one caller cannot fill the answer buffers',
  },
  rescore: {
    default: 30,
    min: 1,
    max: 100_000,
    why: 'rows scored again from their vectors after an 8-bit scan: max(3k, 30) unless given, never below k',
  },
  ef: {
    default: 64,
    min: 1,
    max: 16_384,
    why: 'rows kept while walking the graph: the effort of an approximate search; beyond it a scan is cheaper',
  },
  stop: {
    default: 1.12,
    min: 1,
    max: 1_000,
    why: 'ratio of squared distances at which a walk ends; 1.12 was best on GloVe at recall 0.95',
  },
  recall: {
    default: 0.98,
    min: 0.5,
    max: 1,
    why: 'share of the true top k that an answer holds on average when the caller does not say; 1 is a scan',
  },
  dims: { default: 64, min: 1, max: 4_096, why: 'values per vector; the 8-bit sums stay far below 2^31' },
  threads: { default: 0, min: 0, max: 1_024, why: 'threads that one search may occupy; 0 is one per CPU' },
  queryValuesPerCall: {
    default: 262_144,
    min: 1,
    max: 4_194_304,
    why: 'floats copied into one native call on the JS thread; larger batches are cut into several',
  },
  hitsPerCall: {
    default: 4_194_304,
    min: 1,
    max: 16_777_216,
    why: 'queries x k of one native call, which bounds its memory',
  },
} as const satisfies Record<string, Bound>;

/** Rows scored again after the 8-bit scan when the caller does not say: recall@10 is 1.0 on GloVe with 30 for k = 10. */
export function defaultRescore(k: number): number {
  return Math.max(3 * k, ANN_BOUNDS.rescore.default);
}
