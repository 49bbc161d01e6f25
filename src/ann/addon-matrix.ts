/** Matrices of embeddings, as they cross into C++; part of addon.ts. */
/** Kernel sets, best first. Integer dot products are bit-equal on all of them. */
export type KernelName = 'amx' | 'avx512vnni' | 'avxvnni' | 'avx2' | 'portable';

export type NpyDtype = 'f2' | 'f4' | 'f8' | 'i1' | 'i2' | 'i4' | 'i8' | 'u1' | 'u2' | 'u4' | 'u8';

export interface NpyInfo {
  readonly path: string;
  /** Format version, 1 to 3. */
  readonly version: number;
  readonly dtype: NpyDtype;
  readonly bigEndian: boolean;
  readonly fortranOrder: boolean;
  readonly shape: readonly number[];
  readonly dataOffset: number;
  readonly fileBytes: number;
}

/** What a pass over all rows saw. Row lists hold the first 16. */
export interface VectorProfile {
  readonly rows: number;
  readonly dims: number;
  readonly nonFiniteRows: Uint32Array;
  readonly nonFiniteCount: number;
  readonly zeroRows: Uint32Array;
  readonly zeroCount: number;
  /** f8 values that overflow f4, or (when the target is f2) values beyond 65504. */
  readonly overflowCount: number;
  /** Euclidean norms of the finite rows: min, mean, max; 0 when there are none. */
  readonly normMin: number;
  readonly normMean: number;
  readonly normMax: number;
}

/**
 * Copies a foreign `.npy` (any supported dtype, byte order and memory order) to a little-endian C-order `.npy`
 * (f2 stays f2, all else becomes f4) by reads on one descriptor, never by mapping: a file truncated under our hands is
 * an error (BELFRY_FILE_CHANGED), not a SIGBUS.
 */
export interface NativeImport {
  readonly info: NpyInfo;
  readonly rows: number;
  readonly dims: number;
  /** Reads, checks, converts and writes up to `rows` more rows. Resolves to the rows done so far. */
  step(rows: number): Promise<number>;
  /** After the last step: fsyncs and closes the output, checks that the source has not changed. */
  finish(): Promise<VectorProfile>;
  /** Stops and closes both files; the caller removes the output. Safe at any time. */
  abort(): void;
}

/**
 * A memory-mapped 2-D `.npy` of f2, f4 or f8, any byte and memory order; or an f32 copy of a caller's values. Map only
 * files that nobody truncates (a generation's own); foreign ones go through `openImport`.
 */
export interface NativeMatrix {
  /** `path` is empty and `fileBytes` 0 for values in memory. */
  readonly info: NpyInfo;
  readonly rows: number;
  readonly dims: number;
  /**
   * Copies rows out as f32, row-major. On the JS thread, so at most 16,384 rows and 2,097,152 values (8 MiB) a call; the
   * values come from a mapped file, and pages that are not in memory yet are read from disk. `into`, of rows x dims values,
   * is filled and returned.
   */
  readRows(rows: Uint32Array, into?: Float32Array): Float32Array;
  close(): void;
}

/** An f32 matrix in memory that is filled piece by piece, so that no single copy holds up the event loop. */
export interface NativeMatrixBuilder {
  /** The next values, row-major; at most 2,097,152 a call. */
  append(values: Float32Array): void;
  /** After the last value. The builder is closed then. */
  finish(): NativeMatrix;
}
