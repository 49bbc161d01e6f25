// hnswlib-node 3.0.0, M = 16, efConstruction = 200 (its usual settings), cosine as inner product of unit vectors. The
// graph is built once and cached; `ef` is the smallest of a sweep that reaches the recall asked for.
import { existsSync, renameSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { dataFolder } from '../datasets/glove.mjs';

const folder = join(dataFolder, 'peers');
const EF_SWEEP = [20, 30, 40, 50, 60, 80, 100, 120, 150, 200, 300, 400, 600, 800];

/** Undefined when it is not built: `npm run setup:peers` does that. */
export function loadHnswlib() {
  try {
    return createRequire(join(folder, 'package.json'))('hnswlib-node');
  } catch {
    return undefined;
  }
}

export function openGraph(hnswlib, base, dims) {
  const rows = base.length / dims;
  const path = join(folder, `hnswlib-3.0.0-M16-efC200-${rows}x${dims}.bin`);
  const index = new hnswlib.HierarchicalNSW('ip', dims);
  if (existsSync(path)) {
    index.readIndexSync(path);
    return index;
  }
  process.stderr.write(`bench: building hnswlib's graph of ${rows} rows (minutes; cached afterwards)\n`);
  index.initIndex(rows, 16, 200, 100);
  for (let row = 0; row < rows; row++) index.addPoint([...base.subarray(row * dims, (row + 1) * dims)], row);
  index.writeIndexSync(`${path}.tmp`);
  renameSync(`${path}.tmp`, path);
  return index;
}

/** @param {(rows: number[][]) => number} recallOf of the first queries */
export function smallestEf(index, queries, k, wanted, recallOf) {
  for (const ef of EF_SWEEP) {
    index.setEf(ef);
    const recall = recallOf(queries.map((query) => index.searchKnn(query, k).neighbors));
    if (recall >= wanted) return { ef, recall };
  }
  return undefined;
}
