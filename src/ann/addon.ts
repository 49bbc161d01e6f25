/**
 * The native addon: the only loader of the `.node` file, and the true types of what crosses into C++.
 * Row numbers cross, never ids. Options cross as one object, read by name (but for `walk`, which is too short for that).
 * Nothing here blocks the event loop for more than 1 ms: what may take longer returns a promise and runs on the core's own
 * thread pool.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { BelfryError, type ErrorCode } from '../errors.js';
import type { Metric } from '../types.js';
import type { GraphBuildOptions, GraphFile, NativeGraphBuild } from './addon-graph.js';
import type { NativeKeyUsage } from './addon-usage.js';
import type { KernelName, NativeImport, NativeMatrix, NativeMatrixBuilder, NpyInfo } from './addon-matrix.js';

export type * from './addon-matrix.js';
export type * from './addon-usage.js';

export interface NativeIndexInfo {
  readonly rows: number;
  readonly dims: number;
  readonly metric: Metric;
  /** The kernel set that searches run on. */
  readonly kernel: KernelName;
  readonly threads: number;
  /** Bytes held by codes, scales and norms (the vectors themselves stay mapped). */
  readonly codeBytes: number;
  /** Present when the index was opened with a graph, which modes `probe` and `walk` need. */
  readonly graph?: {
    /** Slots per row. */
    readonly degree: number;
    /** Rows that every walk looks at first. */
    readonly entries: number;
    /** Groups of near rows; the most that `probes` may ask for. */
    readonly partitions: number;
    /** Slots per row that were kept for edges found through user vectors. */
    readonly queryEdges: number;
    readonly bytes: number;
  };
}

/** A list of rows for each query: query q has rows[offsets[q]] up to rows[offsets[q + 1]], in any order. */
export interface RowLists {
  /** One more than there are queries; from 0 to rows.length, never falling. */
  readonly offsets: Uint32Array;
  /** At most 2,097,152, duplicates allowed. */
  readonly rows: Uint32Array;
}

export interface NativeSearch {
  /** count x dims, row-major, finite; at most 4,194,304 values a call, and count x k at most 16,777,216. */
  readonly queries: Float32Array;
  readonly k: number;
  /**
   * `codes`: 8-bit scan, the best max(3k, 30) (or `rescore`) rescored in f32.
   * `exact`: 8-bit scan, and every row whose code score plus its error bound reaches the k-th rescored score is rescored too.
   * `f32`: scan of the vectors themselves, the judge of the other two.
   * Rescored and f32 scores are summed in f64 in a fixed order and rounded to f32 at the end: the same bits on every
   * kernel set and number of threads, and within 1e-6 of NumPy's f32. The order is that of the f64 scores.
   * `probe`: as `codes`, but only over the `probes` partitions of the graph whose means are best for the query. Approximate;
   * much is shared between the queries of a batch, so it is made for batches of hundreds. With all partitions it gives the
   * answer of `codes`. Always k hits when k allowed rows exist: a query that comes back with fewer is followed by a scan.
   * `walk`: the graph is walked; approximate, by far the fastest for single queries. Always k hits when k allowed rows
   * exist: a walk that comes back with fewer, or that costs more than a scan, is followed by a scan. A filter that leaves
   * few rows makes it score these one by one.
   */
  readonly mode: 'codes' | 'exact' | 'f32' | 'probe' | 'walk';
  /** Rows to rescore in modes `codes`, `probe` and `walk`; at least k. */
  readonly rescore?: number;
  /** Mode `probe`: partitions that each query is compared with, from 1 to `info.graph.partitions`. */
  readonly probes?: number;
  /** Mode `walk`: rows kept while walking, from k to 16,384; larger is slower and finds more. Default 64 or k. */
  readonly ef?: number;
  /**
   * Mode `walk`: it ends when the best row not looked at is this many times as far from the query (squared distance, for
   * inner product that of the lifted vectors) as the k-th row so far; from 1 to 1000, default 1.12. See arXiv 2505.15636.
   */
  readonly stop?: number;
  /** Mode `walk`: the place of the row that `stop` compares with, from k (the default) to ef. */
  readonly stopRank?: number;
  /**
   * Rows that may be returned, shared by all queries: an evaluated filter, or a bitmap in which bit r (byte r>>3, bit
   * r&7) of row r is set, of length ceil(rows/8). A bitmap is copied on the JS thread, an evaluated filter is not.
   */
  readonly filter?: Uint8Array | NativeFilter;
  /** Rows that are never returned, in any order, duplicates allowed; at most 2,097,152. Shared by all queries. */
  readonly exclude?: Uint32Array;
  /** Rows that single queries never return, besides those of `exclude`. */
  readonly excludeEach?: RowLists;
  /**
   * Rows outside of it are never returned, as if all of them were in `exclude`; not copied, and a bit each, so many cost a
   * search no more than few. Unlike `filter` it leaves the way of the search as it is: for few rows of the index.
   */
  readonly visible?: NativeFilter;
}

/** A metadata column of all items in native memory, laid out for filters. */
export interface NativeColumn {
  readonly rows: number;
  readonly bytes: number;
  /** Running evaluations keep the memory alive. Safe to call twice. */
  close(): void;
}

/** A column that is filled piece by piece, so that no single copy holds up the event loop. */
export interface NativeColumnBuilder {
  /**
   * The next values, at most 2,097,152 a call. Float64Array for numbers (NaN is null) and the entries of lists of
   * numbers; Uint8Array for booleans (0, 1, or 2 for null); Int32Array of dictionary codes for strings (-1 is null)
   * and the entries of lists of strings.
   */
  append(values: Float64Array | Uint8Array | Int32Array): void;
  /** Lists only: the next of rows + 1 offsets; row r holds the entries offsets[r] up to offsets[r + 1]. */
  appendOffsets(offsets: Uint32Array): void;
  /** After the last value: lays the column out on the pool. The builder is closed then. */
  finish(): Promise<NativeColumn>;
}

/** A filter as plain data; what it means stands in features/filter-program.ts. */
export interface NativeFilterProgram {
  /** Four numbers a step: operation, column, first, count. At most 4,096 steps. */
  readonly steps: Uint32Array;
  readonly codes: Uint32Array;
  readonly numbers: Float64Array;
}

/** Which rows pass a filter. Immutable; any number of searches may use it at once. */
export interface NativeFilter {
  /** Rows that pass, exactly. */
  readonly count: number;
  /** Rows of the table, and of the index that may use it. */
  readonly rows: number;
  /** Bit r (byte r>>3, bit r&7) set: row r passes. */
  toBytes(): Uint8Array;
  /** 1 for each of these rows that passes, else 0; at most 16,384 rows. */
  allows(rows: Uint32Array): Uint8Array;
  /** Running searches keep the bitmap alive. Safe to call twice; without it the garbage collector frees it. */
  close(): void;
}

export interface NativeHits {
  /** count x k; the first counts[q] entries of each query are hits, best first; ties in score by smaller row. */
  readonly rows: Uint32Array;
  /** Scores in the metric's larger-is-better form, f32. */
  readonly scores: Float32Array;
  readonly counts: Uint32Array;
  readonly path: 'scan' | 'probe' | 'list' | 'walk' | 'filtered walk' | 'filtered probe';
  /**
   * Modes `probe` and `walk`: rows scored (`probe`: passed over) and expanded by all queries together, and queries that a
   * scan had to answer in the end.
   */
  readonly scored: number;
  readonly expanded: number;
  readonly fallbacks: number;
  /** Wall time on the pool, milliseconds: waiting for a thread, and running. */
  readonly queueMs: number;
  readonly runMs: number;
}

export interface NativeIndex {
  readonly info: NativeIndexInfo;
  search(options: NativeSearch): Promise<NativeHits>;
  /**
   * One query in mode `walk`, k and ef up to 1,024, no filter, on the calling thread: tens of microseconds. What is undefined is
   * as in `search`. Undefined when the walk did not do and a scan must answer, or when ef and the excluded rows together are
   * more than 1,024: work for `search`.
   */
  walk(
    query: Float32Array,
    k: number,
    ef?: number,
    stop?: number,
    stopRank?: number,
    rescore?: number,
    exclude?: Uint32Array,
    visible?: NativeFilter,
  ): NativeHits | undefined;
  /** Scores of given rows for one query, f32, in the order of `rows`. At most 16,384 rows and 2,097,152 values. */
  scoreRows(query: Float32Array, rows: Uint32Array): Float32Array;
  /** Rows that no path of edges from an entry leads to, ascending: no walk can return them. Empty without a graph. */
  unreachable(): Promise<Uint32Array>;
  /** Running searches finish and keep the memory alive; later calls reject with BELFRY_CLOSED. Safe to call twice. */
  close(): void;
}

/** Candidate i of a choice is in groups[offsets[i]] up to groups[offsets[i + 1]]; limits[g] of group g may be chosen. */
export interface NativeCaps {
  readonly offsets: Uint32Array;
  readonly groups: Uint32Array;
  readonly limits: Uint32Array;
}

/** What native/index/mmr.hpp chooses from: at most 16,384 candidates, candidate i is row rows[i] of sources[of[i]]. */
export interface DiverseChoice {
  readonly sources: readonly NativeMatrix[];
  readonly of: Uint32Array;
  readonly rows: Uint32Array;
  /** Finite; larger is better. */
  readonly relevance: Float32Array;
  /** 0 to 1: how much being unlike what is chosen counts, against relevance. */
  readonly diversity: number;
  /** How many to choose. */
  readonly k: number;
  /** The first ones are in the list already. */
  readonly chosen: number;
  readonly caps?: NativeCaps;
  readonly deadlineMs: number;
}

export interface NativeAddon {
  /** Kernel sets that this CPU (and operating system, for AMX) can run, best first; never empty. */
  readonly kernels: readonly KernelName[];
  readonly cpu: { readonly vendor: string; readonly model: string; readonly features: readonly string[] };
  /** Header and size check of any supported `.npy`. */
  npyInfo(path: string): Promise<NpyInfo>;
  /** A 1-D integer `.npy` of ids. */
  readIds(path: string): Promise<BigInt64Array>;
  openImport(options: { readonly path: string; readonly out: string }): Promise<NativeImport>;
  openMatrix(path: string): Promise<NativeMatrix>;
  createMatrix(options: { readonly rows: number; readonly dims: number }): Promise<NativeMatrixBuilder>;
  /** As NativeGraphBuild.memoryBytes, of the default options, before there are vectors. */
  graphMemory(options: { readonly rows: number; readonly dims: number; readonly users: number }): number;
  /** Checks the options; nothing runs yet. */
  prepareGraph(options: GraphBuildOptions): NativeGraphBuild;
  /** Packs the codes and reads the graph, if one is given; `kernel` defaults to the best, `threads` to the number of CPUs (one pool per process). */
  createIndex(options: {
    readonly matrix: NativeMatrix;
    readonly metric: Metric;
    readonly kernel?: KernelName;
    readonly threads?: number;
    readonly graph?: GraphFile;
    /** Made on one thread of its own at low priority, so that searches of other indexes keep theirs. */
    readonly background?: boolean;
  }): Promise<NativeIndex>;
  /** `entries` (lists): how many there are in all rows. `words` (strings): the length of the dictionary. */
  createColumn(options: {
    readonly kind: 'number' | 'boolean' | 'string' | 'string_list' | 'number_list';
    readonly rows: number;
    readonly entries?: number;
    readonly words?: number;
  }): Promise<NativeColumnBuilder>;
  /**
   * Evaluates a filter on the pool, in blocks of 65,536 rows on at most `threads` threads (one per CPU by default).
   * Errors: BELFRY_DEADLINE_EXCEEDED soon after `deadlineMs` from now; BELFRY_INVALID_ARGUMENT for a program that is not
   * well-formed.
   */
  evaluateFilter(options: {
    readonly rows: number;
    readonly columns: readonly NativeColumn[];
    readonly program: NativeFilterProgram;
    readonly deadlineMs?: number;
    readonly threads?: number;
  }): Promise<NativeFilter>;
  /** A filter from a bitmap as in NativeSearch.filter, copied on the JS thread: 125 KB for a million rows. */
  createFilter(options: { readonly rows: number; readonly bytes: Uint8Array }): NativeFilter;
  /**
   * Maximal marginal relevance, on the pool: positions of the candidates in the order in which they are chosen.
   * Error: BELFRY_DEADLINE_EXCEEDED.
   */
  chooseDiverse(choice: DiverseChoice): Promise<Uint32Array>;
  /**
   * Row i of `rows`, of `width` words, to out[at + i * stride], a word to each `step`-th place (1 or 2); a negative row leaves its places as
   * they are. Error: BELFRY_INVALID_ARGUMENT for rows that are not in the table, or have no room.
   */
  copyRows(
    table: Int32Array,
    width: number,
    rows: Int32Array,
    out: Int32Array,
    stride: number,
    at: number,
    step: number,
  ): void;
  /**
   * The first `count` hits as a JSON array of {id, score, retrieval_score, retrieval_rank}. Ids of rows 0 to size-1: UTF-8 of which id r ends
   * before byte ends[r], or integers, or the row numbers. `order` and `reranked` are as long as the hits. Undefined where
   * a hit is beyond the ids, or has no finite score. Error: BELFRY_INVALID_ARGUMENT.
   */
  itemsJson(
    ids: Uint8Array | Float64Array | undefined,
    ends: Uint32Array | undefined,
    size: number,
    rows: Uint32Array,
    scores: Float32Array,
    order: Uint32Array | undefined,
    reranked: Float32Array | undefined,
    count: number,
  ): string | undefined;
  /**
   * Whether the open file of this descriptor now holds its lock (flock), alone or, when `shared`, with others who share it;
   * false when another open file forbids it. Given up when the descriptor is closed, however the process ends.
   */
  lockFile(descriptor: number, shared?: boolean): boolean;
  /**
   * What keys have used: a file of 6 MB that any number of processes count in, or without `path` the memory of this one.
   * Errors: BELFRY_FILE_UNREADABLE, BELFRY_FILE_VERSION, BELFRY_DISK_SPACE.
   */
  openKeyUsage(options: { readonly path?: string | undefined }): NativeKeyUsage;
  /**
   * Milliseconds since bytes last came in on this TCP connection, read or not, by the kernel's ticks (4 ms are common); -1 where the
   * system does not say (not Linux, not TCP). Costs about a microsecond.
   */
  socketAge(descriptor: number): number;
  /** Another descriptor of the same file or socket, the caller's to close; -1 when the process may open no more. */
  duplicateDescriptor(descriptor: number): number;
  /**
   * For servers: large blocks that are freed go back to the system at once, in all of the process. Swaps otherwise leave
   * up to 64 MB in each of glibc's arenas. False where the allocator is another.
   */
  limitKeptMemory(): boolean;
  /** For servers: search threads, of this process and from now on, go behind the thread that reads requests (Linux; elsewhere nothing). */
  yieldToRequests(): void;
}

/** What the `.node` file exports: the above, and the way to make its errors BelfryErrors. */
interface RawAddon extends NativeAddon {
  setErrorFactory(make: (code: ErrorCode, message: string, field?: string) => BelfryError): void;
}

const ADDON_PATH = fileURLToPath(new URL('../../build/Release/belfry.node', import.meta.url));
const BUILD_SCRIPT = fileURLToPath(new URL('../../scripts/build-native.mjs', import.meta.url));

let loaded: NativeAddon | undefined;

/** The addon of this thread, loaded at the first call. Throws BELFRY_ADDON_LOAD with the cure. */
export function loadAddon(): NativeAddon {
  loaded ??= load(ADDON_PATH);
  return loaded;
}

/** Loads one file; exported for the test of what happens when it cannot be loaded. */
export function load(path: string): NativeAddon {
  let raw: RawAddon;
  try {
    raw = createRequire(import.meta.url)(path) as RawAddon;
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
    throw new BelfryError(
      'BELFRY_ADDON_LOAD',
      `the native addon for ${process.platform}-${process.arch} cannot be loaded from ${path}: ${reason}; ` +
        `build it with: node ${BUILD_SCRIPT}`,
      { cause: error },
    );
  }
  raw.setErrorFactory((code, message, field) => new BelfryError(code, message, field === undefined ? {} : { field }));
  return raw;
}
