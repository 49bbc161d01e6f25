/**
 * Nearest-vector search for library users, exact or over a graph: vectors from a `.npy` file or from memory, answers as typed arrays.
 * The server works on the native handles of `addon.ts` directly; this class adds names, checks and chunking.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BelfryError, invalid } from '../errors.js';
import { METRICS, type Metric } from '../types.js';
import { type KernelName, loadAddon, type NativeIndex, type NativeIndexInfo, type NativeMatrix } from './addon.js';
import { type BuiltGraph, buildGraph } from './build-graph.js';
import { ANN_BOUNDS, type Bound } from './params.js';
import { type Calibration, type Plan, SearchPlanner } from './planner.js';

export interface VectorIndexOptions {
  /** A `.npy` matrix (f2, f4 or f8). It is mapped, so it must not be changed or truncated while the index is open. */
  readonly path?: string;
  /** Or vectors in memory, row-major; they are copied. `data.length` is a multiple of `dims`. */
  readonly vectors?: { readonly data: Float32Array; readonly dims: number };
  readonly metric: Metric;
  /** A kernel set other than the best of this CPU. */
  readonly kernel?: KernelName;
  /** Threads that one search may occupy; one per CPU by default. */
  readonly threads?: number;
  /** A graph made by `VectorIndex.buildGraph` from the same file: searches need not look at every row then. */
  readonly graph?: string;
}

export interface GraphOptions extends Pick<VectorIndexOptions, 'metric' | 'kernel' | 'threads'> {
  /** The `.npy` matrix of the items. */
  readonly path: string;
  /** The `.npy` matrix of the users: queries do not lie where items lie, and a graph that knows them finds more. */
  readonly users?: string;
  /** The graph file to write; what it takes to search it is written beside, with `.json` appended. */
  readonly out: string;
  readonly seed?: number;
  readonly onProgress?: (stage: 'graph' | 'calibrate', done: number, total: number) => void;
  readonly signal?: AbortSignal;
}

export interface SearchOptions {
  /** Hits per query, 1 to 10,000; 10 by default. */
  readonly k?: number;
  /**
   * At most one of the three; without a graph every search is a scan, and recall is 1 but for rounding.
   * `exact`: provably the true top k. `recall`: at least that share of it on average, 0.98 by default. `ef`: the effort itself.
   */
  readonly exact?: boolean;
  readonly recall?: number;
  readonly ef?: number;
  /** Bit r (byte r >> 3, bit r & 7) set: row r may be returned. Length ceil(rows / 8). */
  readonly filter?: Uint8Array;
  /** Rows that are never returned. */
  readonly exclude?: Uint32Array | readonly number[];
}

export interface SearchHits {
  readonly k: number;
  /** queries x k, best first; entries from `counts[q]` on are not hits. */
  readonly rows: Uint32Array;
  /** Larger is better: inner product, cosine, or minus the squared distance. */
  readonly scores: Float32Array;
  /** Hits of each query: k, or fewer when fewer rows may be returned. */
  readonly counts: Uint32Array;
  /** What was chosen, and why. */
  readonly plan: Plan;
}

export class VectorIndex {
  readonly info: NativeIndexInfo;
  readonly #native: NativeIndex;
  readonly #planner: SearchPlanner;

  private constructor(native: NativeIndex, calibration: Calibration | undefined) {
    this.#native = native;
    this.info = native.info;
    this.#planner = new SearchPlanner(native.info.rows, calibration);
  }

  /** Builds a graph over the items of a file and calibrates it. Errors: those of NativeGraphBuild, of NativeAddon.openMatrix. */
  static async buildGraph(options: GraphOptions): Promise<BuiltGraph> {
    if (!METRICS.includes(options.metric)) throw invalid('metric', METRICS.join(', '), options.metric);
    const addon = loadAddon();
    const items = await addon.openMatrix(options.path);
    const users = options.users === undefined ? undefined : await addon.openMatrix(options.users);
    try {
      const built = await buildGraph({ ...options, items, users, vectors: await vectorsName(options.path) });
      await writeFile(`${options.out}.json`, JSON.stringify(built, null, 2));
      return built;
    } finally {
      items.close();
      users?.close();
    }
  }

  static async open(options: VectorIndexOptions): Promise<VectorIndex> {
    if (!METRICS.includes(options.metric)) throw invalid('metric', METRICS.join(', '), options.metric);
    if ((options.path === undefined) === (options.vectors === undefined)) {
      throw invalid('path', 'either path or vectors', options.path === undefined ? 'neither' : 'both');
    }
    const threads = checked('threads', options.threads, ANN_BOUNDS.threads);
    if (options.graph !== undefined && options.path === undefined) {
      throw invalid('graph', 'a path beside it: a graph belongs to a file of vectors', options.graph);
    }
    const graph =
      options.graph === undefined
        ? undefined
        : { path: options.graph, vectors: await vectorsName(options.path!), built: await readBuilt(options.graph) };
    const addon = loadAddon();
    const matrix =
      options.vectors === undefined ? await addon.openMatrix(options.path!) : await copyIn(options.vectors);
    try {
      return new VectorIndex(
        await addon.createIndex({
          matrix,
          metric: options.metric,
          ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
          ...(threads === 0 ? {} : { threads }),
          ...(graph === undefined ? {} : { graph: { path: graph.path, vectors: graph.vectors } }),
        }),
        graph?.built.calibration,
      );
    } finally {
      matrix.close(); // the index holds the memory itself
    }
  }

  get rows(): number {
    return this.info.rows;
  }
  get dims(): number {
    return this.info.dims;
  }
  get metric(): Metric {
    return this.info.metric;
  }

  /** One query, or several: row-major in one array, or an array of queries. */
  async search(query: Float32Array | readonly Float32Array[], options: SearchOptions = {}): Promise<SearchHits> {
    const k = checked('k', options.k, ANN_BOUNDS.k);
    const queries = flatten(query, this.dims);
    const exclude = options.exclude instanceof Uint32Array ? options.exclude : toRows(options.exclude, this.rows);
    const { recall, exact } = options;
    if (recall !== undefined) checkNumber('recall', recall, ANN_BOUNDS.recall);
    const ef = options.ef === undefined ? undefined : checked('ef', options.ef, ANN_BOUNDS.ef);
    const plan = this.#planner.plan({ k, recall, exact, ef, batch: queries.length / this.dims });
    const call = {
      k,
      ...plan.effort,
      ...(options.filter === undefined ? {} : { filter: options.filter }),
      ...(exclude === undefined ? {} : { exclude }),
    };
    const count = queries.length / this.dims;
    const step = Math.max(
      1,
      Math.min(
        Math.floor(ANN_BOUNDS.queryValuesPerCall.default / this.dims),
        Math.floor(ANN_BOUNDS.hitsPerCall.default / k),
      ),
    );
    checkQueries(queries.subarray(0, step * this.dims), 0, this.info);
    if (count <= step) return { k, plan, ...pick(await this.#native.search({ queries, ...call })) };

    // One part at a time: memory stays bounded, and checking the next one is short work between two searches.
    const hits = {
      k,
      plan,
      rows: new Uint32Array(count * k),
      scores: new Float32Array(count * k),
      counts: new Uint32Array(count),
    };
    for (let first = 0; first < count; first += step) {
      const part = queries.subarray(first * this.dims, (first + step) * this.dims);
      if (first > 0) checkQueries(part, first, this.info);
      const found = await this.#native.search({ queries: part, ...call });
      hits.rows.set(found.rows, first * k);
      hits.scores.set(found.scores, first * k);
      hits.counts.set(found.counts, first);
    }
    return hits;
  }

  /** Frees the index once running searches have ended; later calls reject with BELFRY_CLOSED. Safe to call twice. */
  close(): void {
    this.#native.close();
  }
}

function pick(hits: { rows: Uint32Array; scores: Float32Array; counts: Uint32Array }): Omit<SearchHits, 'k' | 'plan'> {
  return { rows: hits.rows, scores: hits.scores, counts: hits.counts };
}

function checked(field: string, value: number | undefined, bound: Bound): number {
  if (value === undefined) return bound.default;
  if (!Number.isInteger(value) || value < bound.min || value > bound.max) {
    throw invalid(field, `an integer from ${bound.min} to ${bound.max}`, value, { limit: bound.max });
  }
  return value;
}

function checkNumber(field: string, value: number, bound: Bound): void {
  if (!(value >= bound.min && value <= bound.max))
    throw invalid(field, `a number from ${bound.min} to ${bound.max}`, value, { limit: bound.max });
}

/** What a graph remembers of the file it was built from. */
async function vectorsName(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

async function readBuilt(graph: string): Promise<BuiltGraph> {
  const path = `${graph}.json`;
  const unusable = (code: 'BELFRY_FILE_UNREADABLE' | 'BELFRY_FILE_CORRUPT', why: string, cause?: unknown) =>
    new BelfryError(code, `${path}: the calibration of the graph ${why}; build the graph again`, {
      field: 'graph',
      cause,
    });
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw unusable('BELFRY_FILE_UNREADABLE', `cannot be read (${(error as Error).message})`, error);
  }
  let built: Partial<BuiltGraph> | null;
  try {
    built = JSON.parse(text) as Partial<BuiltGraph> | null;
  } catch (error) {
    throw unusable('BELFRY_FILE_CORRUPT', `is no JSON (${(error as Error).message})`, error);
  }
  const { costs, points, probes, filters }: Partial<Calibration> = built?.calibration ?? {};
  if (costs === undefined || ![points, probes, filters].every(Array.isArray))
    throw unusable('BELFRY_FILE_CORRUPT', 'is not what a build writes');
  return built as BuiltGraph;
}

function dimsMismatch(dims: number, received: number | string): BelfryError {
  return new BelfryError(
    'BELFRY_DIMS_MISMATCH',
    `query: expected ${dims} dims (those of the index), received ${received}`,
    {
      field: 'query',
      limit: dims,
    },
  );
}

function flatten(query: Float32Array | readonly Float32Array[], dims: number): Float32Array {
  if (query instanceof Float32Array) {
    if (query.length === 0 || query.length % dims !== 0) throw dimsMismatch(dims, query.length);
    return query;
  }
  if (!Array.isArray(query)) throw invalid('query', 'a Float32Array or an array of them', typeof query);
  const flat = new Float32Array(query.length * dims);
  query.forEach((one: unknown, index) => {
    if (!(one instanceof Float32Array)) throw invalid(`query.${index}`, 'a Float32Array', typeof one);
    if (one.length !== dims) throw dimsMismatch(dims, `${one.length} in query ${index}`);
    flat.set(one, index * dims);
  });
  return flat;
}

/** NaN and infinite values rank nothing; a zero vector ranks nothing either, except by distance. */
function checkQueries(queries: Float32Array, first: number, { dims, metric }: NativeIndexInfo): void {
  for (let start = 0; start < queries.length; start += dims) {
    let zero = true;
    for (let i = start; i < start + dims; i++) {
      const value = queries[i] as number;
      if (!Number.isFinite(value)) {
        const where = `query ${first + start / dims}, dim ${i - start}`;
        throw new BelfryError(
          'BELFRY_INVALID_QUERY_VECTOR',
          `query: expected finite numbers, received ${value} in ${where}`,
          {
            field: 'query',
          },
        );
      }
      if (value !== 0) zero = false;
    }
    if (zero && metric !== 'l2') {
      throw new BelfryError(
        'BELFRY_INVALID_QUERY_VECTOR',
        `query: expected a vector other than zero (${metric} scores every item 0 then), received zeros in query ${first + start / dims}`,
        { field: 'query' },
      );
    }
  }
}

function toRows(exclude: readonly number[] | undefined, rows: number): Uint32Array | undefined {
  if (exclude === undefined) return undefined;
  for (const row of exclude) {
    if (!Number.isInteger(row) || row < 0 || row >= rows) throw invalid('exclude', `row numbers below ${rows}`, row);
  }
  return Uint32Array.from(exclude);
}

/** Copies in pieces of 1 MiB with a turn of the event loop between them. */
async function copyIn({ data, dims }: { readonly data: Float32Array; readonly dims: number }): Promise<NativeMatrix> {
  if (!(data instanceof Float32Array)) throw invalid('vectors.data', 'a Float32Array', typeof data);
  const { min, max } = ANN_BOUNDS.dims;
  if (!Number.isInteger(dims) || dims < min || dims > max)
    throw invalid('vectors.dims', `an integer from ${min} to ${max}`, dims);
  if (data.length % dims !== 0) throw invalid('vectors.data', `a multiple of ${dims} values (dims)`, data.length);
  const builder = await loadAddon().createMatrix({ rows: data.length / dims, dims });
  const step = ANN_BOUNDS.queryValuesPerCall.default;
  for (let start = 0; start < data.length; start += step) {
    builder.append(data.subarray(start, start + step));
    await nextTurn();
  }
  return builder.finish();
}
