/** What loading a generation takes, estimated from its manifest before the first allocation. */
import type { GraphFile } from '../ann/addon-graph.js';
import { BelfryError } from '../errors.js';
import { ROW_TABLE_BYTES } from '../features/row-tables.js';
import type { Manifest, VectorSection } from './manifest.js';
import type { MemoryState } from './memory.js';

/** Scale, error and norm of a row, and rows of padding. */
const CODE_ROW_BYTES = 16;
/** A hash table of ids: up to four places and an offset a row. */
const ID_ROW_BYTES = 20;
const INTEGER_ID_BYTES = 8;
/** A compressed column in memory, and the copy of it that is being decoded. */
const TABLE_FACTOR = 8;
/** ONNX Runtime holds weights, their packed form and an arena. */
const MODEL_FACTOR = 3;
const FIXED_BYTES = 64 * 1024 * 1024;
/** Of the rows that a reranker has encoded: as if it read 256 numbers of an item. */
const ENCODED_ROW_BYTES = 1024;

/**
 * Bytes of memory of its own that a loaded generation holds. Vectors are not among them, nor is a graph that is mapped: their pages
 * are the kernel's to take back.
 */
export function loadMemoryBytes(manifest: Manifest, graphLoad: GraphFile['load'] = 'huge'): number {
  const { items, users, graph, files, models } = manifest;
  const sizeOf = (file: string | undefined) => (file === undefined ? 0 : (files[file]?.bytes ?? 0));
  const tables = sizeOf(manifest.itemFeatures) + userTableBytes(manifest);
  const exclusions = (manifest.exclusions ?? []).reduce((sum, { entries }) => sum + 8 * entries, 0);
  return (
    FIXED_BYTES +
    items.count * (Math.ceil(items.dims / 64) * 64 + CODE_ROW_BYTES) +
    (graphLoad === 'mmap' ? 0 : sizeOf(graph?.file)) +
    idBytes(items, sizeOf(items.idsFile)) +
    (users === undefined ? 0 : idBytes(users, sizeOf(users.idsFile))) +
    tables * TABLE_FACTOR +
    models.reduce((sum, { file, bytes }) => sum + (file === undefined ? 0 : bytes * MODEL_FACTOR), 0) +
    models.filter(({ role }) => role === 'reranker').length *
      Math.min(ROW_TABLE_BYTES, items.count * ENCODED_ROW_BYTES) +
    exclusions
  );
}

/**
 * `isBeside`: another generation serves meanwhile and must not be put at risk. A first one is refused only where it could
 * never fit: what is available then is at its lowest for reasons that pass. Error: BELFRY_MEMORY_SPACE.
 */
export function assertLoadFits(id: string, bytes: number, memory: MemoryState, isBeside: boolean): void {
  const room = isBeside ? memory.availableBytes : memory.limitBytes;
  if (bytes <= room) return;
  throw new BelfryError(
    'BELFRY_MEMORY_SPACE',
    isBeside
      ? `generation ${id} takes about ${bytes} bytes of memory beside the one that serves, there are ${room} (limit ${memory.limitBytes}, of the ${memory.by}); raise the limit, or serve with --swap stop-then-load`
      : `generation ${id} takes about ${bytes} bytes of memory, the limit is ${room} (of the ${memory.by}); raise it`,
    { field: 'memory', limit: room },
  );
}

function idBytes({ idKind, count }: VectorSection, fileBytes: number): number {
  if (idKind === 'row') return 0;
  return count * ID_ROW_BYTES + (idKind === 'integer' ? count * INTEGER_ID_BYTES : fileBytes);
}

/** Of the file, or of the files of a folder of columns. */
function userTableBytes({ userFeatures, files }: Manifest): number {
  if (userFeatures === undefined) return 0;
  const own = Object.entries(files).filter(([path]) => path === userFeatures || path.startsWith(`${userFeatures}/`));
  return own.reduce((sum, [, { bytes }]) => sum + bytes, 0);
}
