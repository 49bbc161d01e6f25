// The exact best rows of each query, by Belfry's `exact` mode, checked on some queries by a plain f64 loop here, and cached
// beside the data set.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadAddon } from '../../dist/ann/addon.js';
import { readNpy, writeNpy } from '../datasets/npy.mjs';
import { score } from './recall.mjs';

/** Rows kept per query. */
export const WIDTH = 100;
const CHECKED = 3;
const BLOCK = 256;

export function truthPathOf(dataset, count) {
  return join(dataset.folder, `truth-${dataset.metric}-${count}.npy`);
}

/** @returns {Promise<Int32Array>} count x WIDTH rows, best first, -1 where there are fewer */
export async function truthOf(dataset, items, queries, count) {
  const path = truthPathOf(dataset, count);
  if (existsSync(path)) return readNpy(path);
  process.stderr.write(`bench: computing the truth of ${count} queries\n`);
  const rows = await exactRows({ dataset, queries, count, k: WIDTH });
  for (let i = 0; i < CHECKED; i++) checkQuery(dataset, items, queries, Math.floor((i * count) / CHECKED), rows);
  writeNpy(path, rows, WIDTH);
  return rows;
}

/** Exact rows by Belfry, with a filter if one is given. */
export async function exactRows({ dataset, queries, count, k, filter }) {
  const addon = loadAddon();
  const matrix = await addon.openMatrix(dataset.items);
  const index = await addon.createIndex({ matrix, metric: dataset.metric });
  const rows = new Int32Array(count * k).fill(-1);
  for (let first = 0; first < count; first += BLOCK) {
    const part = queries.subarray(first * dataset.dims, Math.min(count, first + BLOCK) * dataset.dims);
    const hits = await index.search({ queries: part, k, mode: 'exact', ...(filter === undefined ? {} : { filter }) });
    hits.counts.forEach((found, q) => rows.set(hits.rows.subarray(q * k, q * k + found), (first + q) * k));
  }
  index.close();
  matrix.close();
  return rows;
}

function checkQuery({ metric, dims, rows: itemCount }, items, queries, q, rows) {
  const scores = Float64Array.from({ length: itemCount }, (_, row) => score(metric, items, row, queries, q, dims));
  const own = rows.subarray(q * WIDTH, (q + 1) * WIDTH);
  const worst = own.reduce((least, row) => (row < 0 ? least : Math.min(least, scores[row])), Infinity);
  const kept = own.reduce((sum, row) => sum + (row >= 0 ? 1 : 0), 0);
  scores.sort();
  const expected = scores[itemCount - kept];
  if (kept !== Math.min(WIDTH, itemCount) || Math.abs(expected - worst) > 1e-6 * Math.max(1, Math.abs(expected))) {
    throw new Error(`the truth of query ${q} is wrong: its worst score is ${worst}, a plain loop says ${expected}`);
  }
}
