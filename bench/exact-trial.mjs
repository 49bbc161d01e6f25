// One trial of the exact bench in a process of its own: reads its task from the command line, prints one JSON line.
import { readFileSync } from 'node:fs';
import { loadAddon } from '../dist/ann/addon.js';
import { readNpy } from './datasets/npy.mjs';
import { loadHnswlib, openGraph, smallestEf } from './peers/hnswlib.mjs';

/** { system, mode, batch, k, rows, queries, seconds, recall, threads, paths } */
const task = JSON.parse(process.argv[2]);
const dims = task.dims;
const base = readNpy(task.paths.base).subarray(0, task.rows * dims);
const queries = readNpy(task.paths.queries).subarray(0, task.queries * dims);
const truth = JSON.parse(readFileSync(task.paths.truth, 'utf8')); // the k-th true score of each query

// The harness scores what was returned itself, so ties are fair and a system cannot flatter its own scores.
function recallOf(lists, first = 0) {
  let found = 0;
  lists.forEach((rows, i) => {
    if (new Set(rows).size !== rows.length) throw new Error(`${task.system} returned a row twice`);
    const query = queries.subarray((first + i) * dims, (first + i + 1) * dims);
    for (const row of rows) {
      let dot = 0;
      for (let d = 0; d < dims; d++) dot += query[d] * base[row * dims + d];
      if (dot >= truth[first + i] - 1e-6) found++;
    }
  });
  return found / (lists.length * task.k);
}

/** Runs batches in turn, whole rounds over the queries, until the time is used up. */
async function measure(search) {
  const count = Math.max(task.batch, Math.floor(task.queries / task.batch) * task.batch);
  const lists = [];
  await search(0, Math.min(task.batch, count)); // warm
  const limit = process.hrtime.bigint() + BigInt(Math.round(task.seconds * 1e9));
  const start = process.hrtime.bigint();
  let done = 0;
  let end = start;
  while (end < limit || done === 0) {
    for (let first = 0; first < count && (end < limit || done === 0); first += task.batch) {
      const got = await search(first, task.batch);
      if (done < count) lists.push(...got());
      done += task.batch;
      end = process.hrtime.bigint();
    }
  }
  return { qps: done / (Number(end - start) / 1e9), recall: recallOf(lists), queries: done };
}

async function belfry() {
  const addon = loadAddon();
  const builder = await addon.createMatrix({ rows: task.rows, dims });
  for (let at = 0; at < base.length; at += 1 << 20) builder.append(base.subarray(at, at + (1 << 20)));
  const matrix = builder.finish();
  const start = performance.now();
  const index = await addon.createIndex({
    matrix,
    metric: 'cosine',
    threads: task.threads,
    ...(task.kernel === undefined ? {} : { kernel: task.kernel }),
  });
  const buildMs = performance.now() - start;
  const found = await measure(async (first, count) => {
    const part = queries.subarray(first * dims, (first + count) * dims);
    const hits = await index.search({ queries: part, k: task.k, mode: task.mode });
    return () =>
      Array.from({ length: count }, (_, q) => [...hits.rows.subarray(q * task.k, q * task.k + hits.counts[q])]);
  });
  return { ...found, kernel: index.info.kernel, codeBytes: index.info.codeBytes, buildMs };
}

async function hnswlib() {
  const library = loadHnswlib();
  if (library === undefined) return { absent: 'hnswlib-node is not built; run: npm run setup:peers' };
  const index = openGraph(library, base, dims);
  const points = Array.from({ length: task.queries }, (_, q) => [...queries.subarray(q * dims, (q + 1) * dims)]);
  const chosen = smallestEf(index, points, task.k, task.recall, (lists) => recallOf(lists));
  if (chosen === undefined) return { absent: `no ef of the sweep reaches recall ${task.recall}` };
  index.setEf(chosen.ef);
  // hnswlib-node has no batch call: a batch is a loop.
  const found = await measure(async (first, count) => {
    const lists = points.slice(first, first + count).map((point) => index.searchKnn(point, task.k).neighbors);
    return () => lists;
  });
  return { ...found, ef: chosen.ef };
}

process.stdout.write(`${JSON.stringify(await (task.system === 'belfry' ? belfry() : hnswlib()))}\n`);
