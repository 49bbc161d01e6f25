// zvec by its Node binding: a collection on disk with one HNSW index.
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readNpy } from '../datasets/npy.mjs';
import { peerVersion, requirePeer } from './packages.mjs';

const METRICS = { cosine: 'COSINE', ip: 'IP', l2: 'L2' };
const BLOCK = 1000;

export function open(task) {
  const zvec = requirePeer('@zvec/zvec');
  zvec.ZVecInitialize({ queryThreads: 1, optimizeThreads: task.threads, logLevel: zvec.ZVecLogLevel.ERROR });
  const path = join(task.folder, 'collection');
  let collection;
  let points;
  return {
    version: peerVersion('@zvec/zvec'),
    async build() {
      rmSync(path, { recursive: true, force: true });
      const items = readNpy(task.items);
      const schema = new zvec.ZVecCollectionSchema({
        name: 'items',
        vectors: {
          name: 'v',
          dataType: zvec.ZVecDataType.VECTOR_FP32,
          dimension: task.dims,
          indexParams: {
            indexType: zvec.ZVecIndexType.HNSW,
            metricType: zvec.ZVecMetricType[METRICS[task.metric]],
            m: task.params.m,
            efConstruction: task.params.efConstruction,
            quantizeType: zvec.ZVecQuantizeType[task.params.quantize],
          },
        },
      });
      const made = zvec.ZVecCreateAndOpen(path, schema);
      const start = performance.now();
      for (let first = 0; first < task.rows; first += BLOCK) {
        const count = Math.min(BLOCK, task.rows - first);
        made.insertSync(
          Array.from({ length: count }, (_, i) => ({
            id: String(first + i),
            vectors: { v: items.subarray((first + i) * task.dims, (first + i + 1) * task.dims) },
          })),
        );
      }
      made.optimizeSync({ concurrency: task.threads });
      const built = { build_s: (performance.now() - start) / 1000 };
      made.closeSync();
      return built;
    },
    prepare(queries) {
      points = Array.from({ length: task.query_count }, (_, q) => queries.slice(q * task.dims, (q + 1) * task.dims));
    },
    load() {
      collection = zvec.ZVecOpen(path, { readOnly: true });
    },
    search({ ef, refine }, k) {
      const params = { indexType: zvec.ZVecIndexType.HNSW, ef, ...(refine ? { isUsingRefiner: true } : {}) };
      return {
        one(q) {
          const found = collection.querySync({ fieldName: 'v', topk: k, vector: points[q], outputFields: [], params });
          return found.map((one) => one.id);
        },
      };
    },
  };
}
