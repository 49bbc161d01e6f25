// hnswlib-node 3.0.0. Cosine is the inner product of unit vectors. It builds on one thread and has no call for many queries.
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { readNpy } from '../datasets/npy.mjs';
import { npmFolder, peerVersion, requirePeer } from './packages.mjs';

export function open(task) {
  const hnswlib = requirePeer('hnswlib-node');
  const path = join(task.folder, 'index.bin');
  const index = new hnswlib.HierarchicalNSW(task.metric === 'l2' ? 'l2' : 'ip', task.dims);
  let points;
  return {
    version: peerVersion('hnswlib-node'),
    build() {
      const items = readNpy(task.items);
      index.initIndex(task.rows, task.params.M, task.params.efConstruction, 100);
      const start = performance.now();
      addRows(index, items, task.dims);
      const built = { build_s: (performance.now() - start) / 1000, threads: 1 };
      index.writeIndexSync(path);
      return built;
    },
    prepare(queries) {
      points = Array.from({ length: task.query_count }, (_, q) => [
        ...queries.subarray(q * task.dims, (q + 1) * task.dims),
      ]);
    },
    load: () => index.readIndexSync(path),
    search({ ef }, k) {
      index.setEf(ef);
      return { one: (q) => index.searchKnn(points[q], k).neighbors };
    },
  };
}

function addRows(index, items, dims) {
  const rows = items.length / dims;
  for (let row = 0; row < rows; row++) index.addPoint([...items.subarray(row * dims, (row + 1) * dims)], row);
}

// What follows is the exact bench's: one graph by its own name, and the smallest `ef` that reaches a recall.
/** Where the search for the ef of a recall looks; for Belfry too, where the two are compared. */
export const EF_SWEEP = [
  10, 12, 14, 16, 18, 20, 22, 25, 28, 30, 35, 40, 50, 60, 80, 100, 110, 120, 130, 140, 150, 200, 300, 400, 600, 800,
];

/** Undefined when it is not built: `npm run setup:peers` does that. */
export function loadHnswlib() {
  try {
    return requirePeer('hnswlib-node');
  } catch {
    return undefined;
  }
}

export function openGraph(hnswlib, base, dims) {
  const rows = base.length / dims;
  const path = join(npmFolder, `hnswlib-3.0.0-M16-efC200-${rows}x${dims}.bin`);
  const index = new hnswlib.HierarchicalNSW('ip', dims);
  if (existsSync(path)) {
    index.readIndexSync(path);
    return index;
  }
  process.stderr.write(`bench: building hnswlib's graph of ${rows} rows (minutes; cached afterwards)\n`);
  index.initIndex(rows, 16, 200, 100);
  addRows(index, base, dims);
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
