// usearch by its JavaScript binding. Cosine is its own metric; `ef` (expansion_search) is fixed when an index is opened, so
// each value opens the file again, outside the measured time.
import { join } from 'node:path';
import { readNpy } from '../datasets/npy.mjs';
import { peerVersion, requirePeer } from './packages.mjs';

const METRICS = { cosine: 'cos', ip: 'ip', l2: 'l2sq' };
const BLOCK = 4096;

export function open(task) {
  const { Index } = requirePeer('usearch');
  const path = join(task.folder, 'index.usearch');
  const make = (ef) =>
    new Index({
      dimensions: task.dims,
      metric: METRICS[task.metric],
      quantization: task.params.quantization,
      connectivity: task.params.connectivity,
      expansion_add: task.params.expansionAdd,
      expansion_search: ef,
      multi: false,
    });
  let current = { ef: 0, index: undefined };
  let points;
  const openAt = (ef) => {
    if (current.ef === ef) return current.index;
    const index = make(ef);
    index.load(path);
    current = { ef, index };
    return index;
  };
  return {
    version: peerVersion('usearch'),
    build() {
      const items = readNpy(task.items);
      const index = make(64);
      const start = performance.now();
      for (let first = 0; first < task.rows; first += BLOCK) {
        const count = Math.min(BLOCK, task.rows - first);
        const keys = BigUint64Array.from({ length: count }, (_, i) => BigInt(first + i));
        index.add(keys, items.subarray(first * task.dims, (first + count) * task.dims), task.threads);
      }
      const built = { build_s: (performance.now() - start) / 1000 };
      index.save(path);
      return built;
    },
    prepare(queries) {
      points = Array.from({ length: task.query_count }, (_, q) => queries.slice(q * task.dims, (q + 1) * task.dims));
    },
    load: () => openAt(64),
    search({ ef }, k) {
      const index = openAt(ef);
      return { one: (q) => index.search(points[q], k, 1).keys };
    },
  };
}
