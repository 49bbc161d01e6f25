/** Graphs, as they cross into C++; part of addon.ts. */
import type { Metric } from '../types.js';
import type { KernelName, NativeMatrix } from './addon-matrix.js';

/** A graph file, and what it must belong to. */
export interface GraphFile {
  readonly path: string;
  /** Names the vectors that the graph was built from (their file's SHA-256); another graph is BELFRY_INDEX_MISMATCH. */
  readonly vectors: string;
  /** `huge` (default): read into memory with huge pages. `mmap`: mapped, shared with other processes. */
  readonly load?: 'huge' | 'mmap';
}

export interface GraphBuildOptions {
  readonly matrix: NativeMatrix;
  readonly metric: Metric;
  /** Where the graph file is written, whole or not at all. */
  readonly out: string;
  /** As in GraphFile. */
  readonly vectors: string;
  readonly kernel?: KernelName;
  readonly threads?: number;
  /** Slots per row: a multiple of 8 from 8 to 128, default 64. */
  readonly degree?: number;
  /** Nearest neighbours searched per row, 8 to 256, default 64. */
  readonly candidates?: number;
  readonly seed?: number;
  /** Text kept in the file. */
  readonly notes?: string;
  /** User vectors, and at most 100,000 rows of them: items that answer the same user are linked. */
  readonly users?: NativeMatrix;
  readonly userRows?: Uint32Array;
}

/** A graph build: the same vectors, options and seed give the same graph on any number of threads and any kernel set. */
export interface NativeGraphBuild {
  /** Upper bound of what the build allocates, known before it starts. */
  readonly memoryBytes: number;
  /** Builds and writes; once. Errors: BELFRY_BAD_VECTOR, BELFRY_DISK_SPACE, BELFRY_CLOSED after `cancel`. */
  run(): Promise<{
    readonly degree: number;
    readonly entries: number;
    readonly queryEdges: number;
    readonly runMs: number;
  }>;
  /** Elapsed * (total - done) / done estimates the time left. */
  progress(): {
    readonly phase: 'order' | 'neighbours' | 'prune' | 'users' | 'connect';
    readonly done: number;
    readonly total: number;
  };
  cancel(): void;
}
