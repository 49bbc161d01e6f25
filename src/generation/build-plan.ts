/** What a build will write and allocate, said and compared with what there is before its first byte. */
import { stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { loadAddon } from '../ann/addon.js';
import { fileOf, type ModelsFolder } from '../config/models-folder.js';
import { BelfryError } from '../errors.js';
import { graphFileBytes, graphMemoryBytes } from './build-graph.js';
import { memoryState } from './memory.js';
import { filesToCopy } from './sources.js';

export interface BuildPlan {
  readonly items: number;
  readonly users: number;
  readonly dims: number;
  readonly writeBytes: number;
  readonly freeBytes: number;
  readonly memoryBytes: number;
  readonly availableMemoryBytes: number;
}

/** Free space beyond the estimate that a build leaves alone. */
const DISK_FLOOR_BYTES = 64 * 1024 * 1024;
const DISK_SHARE = 1.3;
/** Node, the addon and ONNX Runtime with small models. */
const PROCESS_BYTES = 208 * 1024 * 1024;
/** A compressed column in memory, and the copy of it that is being decoded. */
const TABLE_FACTOR = 8;
const MODEL_FACTOR = 3;

/** Reads headers and sizes only. Errors: those of the `.npy` headers and of filesToCopy. */
export async function planBuild(folder: ModelsFolder, data: string): Promise<BuildPlan> {
  const header = (file: string) => loadAddon().npyInfo(join(folder.path, file));
  const items = await header(folder.itemEmbeddings);
  const users = folder.userEmbeddings === undefined ? undefined : await header(folder.userEmbeddings);
  let writeBytes = graphFileBytes(items.shape[0] ?? 0);
  for (const info of [items, users]) {
    if (info !== undefined)
      writeBytes +=
        (info.dtype === 'f2' ? 2 : 4) * info.shape.reduce((product: number, one: number) => product * one, 1);
  }
  let tableBytes = 0;
  let modelBytes = 0;
  for (const file of await filesToCopy(folder)) {
    const { size } = await stat(fileOf(folder, file));
    writeBytes += size;
    if (file === folder.items || (folder.users !== undefined && file.startsWith(folder.users))) tableBytes += size;
    else modelBytes += size;
  }
  const { bavail, bsize } = await statfs(data);
  const dims = items.shape[1] ?? 0;
  // One after the other: a step of the import (source and converted rows), the graph, the check of the models.
  const stages = [
    4096 * dims * 12 + 8 * 1024 * 1024,
    graphMemoryBytes(items.shape[0] ?? 0, users?.shape[0] ?? 0, dims),
    tableBytes * TABLE_FACTOR + modelBytes * MODEL_FACTOR,
  ];
  return {
    items: items.shape[0] ?? 0,
    users: users?.shape[0] ?? 0,
    dims,
    writeBytes,
    freeBytes: bavail * bsize,
    memoryBytes: PROCESS_BYTES + Math.max(...stages),
    availableMemoryBytes: memoryState().availableBytes,
  };
}

/** Errors: BELFRY_DISK_SPACE, BELFRY_MEMORY_SPACE. */
export function assertFits(plan: BuildPlan, data: string): void {
  const needed = Math.ceil(plan.writeBytes * DISK_SHARE) + DISK_FLOOR_BYTES;
  if (plan.freeBytes < needed) {
    throw new BelfryError(
      'BELFRY_DISK_SPACE',
      `${data}: the build needs ${needed} bytes free (${DISK_SHARE} times its size and a floor of ${DISK_FLOOR_BYTES}), there are ${plan.freeBytes}; free some, or name another disk with --data DIR`,
      { field: 'data', limit: needed },
    );
  }
  if (plan.availableMemoryBytes < plan.memoryBytes) {
    throw new BelfryError(
      'BELFRY_MEMORY_SPACE',
      `the build needs ${plan.memoryBytes} bytes of memory, there are ${plan.availableMemoryBytes} (of the machine, or under the limit of the control group); raise the limit, or build on another machine`,
      { field: 'memory', limit: plan.memoryBytes },
    );
  }
}
