// LanceDB by its Node binding: a table on disk with one IVF-HNSW-SQ index of a single partition. Its calls are promises.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readNpy } from '../datasets/npy.mjs';
import { peerVersion, requirePeer } from './packages.mjs';

const METRICS = { cosine: 'cosine', ip: 'dot', l2: 'l2' };
const BLOCK = 10_000;

export function open(task) {
  const lancedb = requirePeer('@lancedb/lancedb');
  const path = join(task.folder, 'lance');
  let table;
  let points;
  return {
    version: peerVersion('@lancedb/lancedb'),
    async build() {
      rmSync(path, { recursive: true, force: true });
      const items = readNpy(task.items);
      const connection = await lancedb.connect(path);
      const rowsFrom = (first) =>
        Array.from({ length: Math.min(BLOCK, task.rows - first) }, (_, i) => ({
          row: first + i,
          vector: Array.from(items.subarray((first + i) * task.dims, (first + i + 1) * task.dims)),
        }));
      const made = await connection.createTable('items', rowsFrom(0));
      for (let first = BLOCK; first < task.rows; first += BLOCK) await made.add(rowsFrom(first));
      await made.optimize();
      const start = performance.now();
      await made.createIndex('vector', {
        config: lancedb.Index.hnswSq({
          distanceType: METRICS[task.metric],
          numPartitions: 1,
          m: task.params.m,
          efConstruction: task.params.efConstruction,
        }),
        waitTimeoutSeconds: 3600,
      });
      return { build_s: (performance.now() - start) / 1000 };
    },
    prepare(queries) {
      points = Array.from({ length: task.query_count }, (_, q) => queries.slice(q * task.dims, (q + 1) * task.dims));
    },
    async load() {
      table = await (await lancedb.connect(path)).openTable('items');
      await table.vectorSearch(points[0]).distanceType(METRICS[task.metric]).limit(10).toArray();
    },
    search({ ef, refine }, k) {
      return {
        async oneLater(q) {
          const found = await table
            .vectorSearch(points[q])
            .distanceType(METRICS[task.metric])
            .limit(k)
            .nprobes(1)
            .ef(ef)
            .refineFactor(refine)
            .select(['row'])
            .toArray();
          return found.map((one) => one.row);
        },
      };
    },
  };
}
