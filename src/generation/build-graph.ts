/** The graph section of a generation. Small catalogues are scanned and get none. */
import { dirname, join } from 'node:path';
import { loadAddon } from '../ann/addon.js';
import { buildGraph, TRAINING_USERS } from '../ann/build-graph.js';
import { ANN_BOUNDS } from '../ann/params.js';
import type { Metric } from '../types.js';
import { fileCall, makeFolder } from './files.js';
import type { GraphSection, VectorSection } from './manifest.js';

export interface GraphOfGeneration {
  /** The folder of the generation. */
  readonly into: string;
  readonly items: VectorSection;
  readonly users: VectorSection | undefined;
  readonly metric: Metric;
  /** SHA-256 of the file of item vectors. */
  readonly vectors: string;
  readonly threads?: number | undefined;
  readonly onProgress?: ((stage: string, done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

const GRAPH_FILE = 'index/items.graph';
/** Fewer items are scanned in about the time that a walk takes. */
const ITEMS_MIN = 4096;
/** Slots per item, the default of NativeGraphBuild. */
const DEGREE = 64;

/** Bytes of the graph file of so many items: slots, order, and little else. For the plan of a build. */
export function graphFileBytes(items: number): number {
  return items < ITEMS_MIN ? 0 : items * (DEGREE + 1) * 4;
}

/** Upper bound of what building the graph allocates. */
export function graphMemoryBytes(items: number, users: number, dims: number): number {
  if (items < ITEMS_MIN || dims < 1 || dims > ANN_BOUNDS.dims.max) return 0; // what cannot be built is refused later
  return loadAddon().graphMemory({ rows: items, dims, users: Math.min(users, TRAINING_USERS) });
}

export async function graphOfGeneration(options: GraphOfGeneration): Promise<GraphSection | undefined> {
  const { into, items, users, metric, vectors, threads, onProgress, signal } = options;
  if (items.count < ITEMS_MIN) return undefined;
  const out = join(into, GRAPH_FILE);
  await makeFolder(dirname(out), 'graph');
  const addon = loadAddon();
  const itemMatrix = await addon.openMatrix(join(into, items.file));
  const userMatrix = users === undefined ? undefined : await addon.openMatrix(join(into, users.file));
  try {
    const built = await fileCall('graph', 'write', out, () =>
      buildGraph({
        items: itemMatrix,
        users: userMatrix,
        metric,
        out,
        vectors,
        skippedItems: items.skippedRows,
        skippedUsers: users?.skippedRows ?? [],
        threads,
        onProgress,
        signal,
      }),
    );
    return { file: GRAPH_FILE, ...built };
  } finally {
    itemMatrix.close();
    userMatrix?.close();
  }
}
