// Belfry through its own boundary (src/ann/addon.ts), as the service uses it.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadAddon } from '../../dist/ann/addon.js';
import { FILTER_OPS } from '../../dist/features/filter-program.js';
import { readNpy } from '../datasets/npy.mjs';

const version = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
/** Training users whose answers link items. */
const USERS_MAX = 100_000;

export async function open(task) {
  const addon = loadAddon();
  const path = join(task.folder, 'graph.belfry');
  const vectors = task.hash;
  let index;
  let queries;
  let pathTaken;
  return {
    version,
    async build() {
      const matrix = await addon.openMatrix(task.items);
      const users = task.users === null ? undefined : await addon.openMatrix(task.users);
      const build = addon.prepareGraph({
        matrix,
        metric: task.metric,
        out: path,
        vectors,
        threads: task.threads,
        ...task.params,
        ...(users && {
          users,
          userRows: Uint32Array.from({ length: Math.min(USERS_MAX, users.rows) }, (_, row) => row),
        }),
      });
      const start = performance.now();
      const built = await build.run();
      return {
        build_s: (performance.now() - start) / 1000,
        memory_bytes: build.memoryBytes,
        graph: { degree: built.degree, entries: built.entries, query_edges: built.queryEdges },
      };
    },
    async load(given) {
      queries = given;
      const matrix = await addon.openMatrix(task.items);
      index = await addon.createIndex({
        matrix,
        metric: task.metric,
        threads: task.threads,
        ...(existsSync(path) ? { graph: { path, vectors } } : {}),
      });
    },
    ownBytes: () => index.info.codeBytes + (index.info.graph?.bytes ?? 0),
    report: () => ({ kernel: index.info.kernel, ...(pathTaken && { path: pathTaken }) }),
    async search({ batch, filter, mode = 'walk', share, ...rest }, k) {
      const { dims } = task;
      const probes = share && Math.max(1, Math.round(share * index.info.graph.partitions));
      const options = {
        k,
        mode,
        ...rest,
        ...(probes && { probes }),
        ...(filter && { filter: await evaluate(addon, filter, task.rows) }),
      };
      const slice = (first, count) => queries.subarray(first * dims, (first + count) * dims);
      // A walk of up to 1,024 rows runs on the calling thread, as it does in the service; the rare one that needs a scan
      // is undefined there and goes to the pool.
      if (batch === undefined && mode === 'walk' && !filter && (options.ef ?? 64) <= 1024) {
        const found = (hits) => {
          pathTaken = hits.path;
          return hits.rows.subarray(0, hits.counts[0]);
        };
        return {
          one(q) {
            const hits = index.walk(slice(q, 1), k, options.ef, options.stop, options.stopRank, options.rescore);
            return hits && found(hits);
          },
          oneLater: async (q) => found(await index.search({ ...options, queries: slice(q, 1) })),
        };
      }
      const size = batch ?? 1;
      return {
        batch: size,
        async many(first, count) {
          const hits = await index.search({ ...options, queries: slice(first, count) });
          pathTaken = hits.path;
          return (q) => hits.rows.subarray(q * k, q * k + hits.counts[q]);
        },
      };
    },
  };
}

/** The filter of a bitmap in an `.npy` of 32-bit words, evaluated once, as the service does with one that comes again. */
async function evaluate(addon, path, rows) {
  const words = readNpy(path);
  const passes = Uint8Array.from({ length: rows }, (_, row) => (words[row >> 5] >> (row & 31)) & 1);
  const builder = await addon.createColumn({ kind: 'boolean', rows });
  for (let at = 0; at < rows; at += 1 << 20) builder.append(passes.subarray(at, at + (1 << 20)));
  const column = await builder.finish();
  const program = {
    steps: Uint32Array.of(FILTER_OPS.isTrue, 0, 0, 0),
    codes: new Uint32Array(0),
    numbers: new Float64Array(0),
  };
  return addon.evaluateFilter({ rows, columns: [column], program });
}
