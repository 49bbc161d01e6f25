// What the servers of the HTTP bench serve: GloVe with 5,000 stored users (its queries) and text ids, the graph of the naive
// server with the ef that it needs, the truth of the users; the sample; and the bodies that are sent.
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FeatureTable } from '../../dist/features/feature-table.js';
import { ensureGeneration } from '../../dist/generation/build.js';
import { ensureGlove, dataFolder } from '../datasets/glove.mjs';
import { npyHeader, readNpy } from '../datasets/npy.mjs';
import { openDataset } from '../index/dataset.mjs';
import { recallOf, thresholds } from '../index/recall.mjs';
import { truthOf, WIDTH } from '../index/truth.mjs';
import { loadHnswlib, openGraph, smallestEf } from '../peers/hnswlib.mjs';

export const K = 10;
export const RECALL = 0.95;
export const CANDIDATES = 500;
/** Users that the truth is known of. */
const JUDGED = 2_000;
const SAMPLE_USERS = 5_000;
/** What the user tower of the sample reads, see its registry.yaml. */
const TOWER_FEATURES = [
  'history',
  'tags',
  'name_tokens',
  'section',
  'priority',
  'architecture',
  'maintainer',
  'source',
  'installed_size',
];
const sample = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'embeddings', 'sample');

const itemId = (row) => `item-${row}`;
const userId = (row) => `user-${row}`;

/** @returns models and data folder of the server, arguments of the naive server, bodies, and a judge of answers */
export async function prepareGlove() {
  const { base, queries } = ensureGlove();
  const { rows, dims } = npyHeader(base);
  const users = npyHeader(queries).rows;
  const folder = join(dataFolder, 'http-glove');
  const models = join(folder, 'models');
  const embeddings = join(models, 'embeddings');
  const [itemIds, userIds] = ['item_ids.txt', 'user_ids.txt'].map((name) => join(embeddings, name));
  if (!existsSync(join(models, '_SUCCESS'))) {
    rmSync(models, { recursive: true, force: true }); // what a run that was stopped left
    mkdirSync(embeddings, { recursive: true });
    linkSync(base, join(embeddings, 'item_embeddings.npy'));
    linkSync(queries, join(embeddings, 'user_embeddings.npy'));
    const write = (path, count, idOf) =>
      writeFileSync(path, `${Array.from({ length: count }, (_, r) => idOf(r)).join('\n')}\n`);
    write(itemIds, rows, itemId);
    write(userIds, users, userId);
    writeFileSync(join(embeddings, 'export.json'), JSON.stringify({ metric: 'cosine' }));
    writeFileSync(join(models, '_SUCCESS'), '');
  }
  const data = join(folder, 'data');
  await ensureGeneration({ models, data });
  const dataset = await openDataset({ dataset: 'glove' });
  const [items, vectors] = [readNpy(dataset.items), readNpy(dataset.queries)];
  const truth = await truthOf(dataset, items, vectors, JUDGED);
  const kth = thresholds({ ...dataset, items, queries: vectors, truth, width: WIDTH, count: JUDGED, k: K });
  const judge = (lists) => {
    const rows = Int32Array.from(lists.flatMap((list) => Array.from({ length: K }, (_, place) => list[place] ?? -1)));
    return recallOf({ ...dataset, items, queries: vectors, rows, kth, count: lists.length, k: K, engine: 'a server' });
  };
  return {
    models,
    data,
    naive: naiveServer({ folder, items, vectors, dims, judge, files: { itemIds, userIds, users: queries } }),
    bodies: (ef) => Array.from({ length: users }, (_, row) => ({ user_id: userId(row), k: K, ef, timeout_ms: 1000 })),
    judged: JUDGED,
    judge: (answers) =>
      judge(answers.map(({ items: found }) => found.map(({ id }) => Number(id.slice('item-'.length))))),
    facts: { data: 'GloVe-100', items: rows, dims, users, k: K },
  };
}

function naiveServer({ folder, items, vectors, dims, judge, files }) {
  const hnswlib = loadHnswlib();
  if (hnswlib === undefined) return undefined;
  const tuned = join(folder, 'naive.json');
  if (!existsSync(tuned)) {
    const index = openGraph(hnswlib, items, dims);
    const queries = Array.from({ length: JUDGED }, (_, row) => [...vectors.subarray(row * dims, (row + 1) * dims)]);
    writeFileSync(tuned, JSON.stringify(smallestEf(index, queries, K, RECALL, judge)));
  }
  const graph = join(dataFolder, 'peers', `hnswlib-3.0.0-M16-efC200-${items.length / dims}x${dims}.bin`);
  return { ...files, graph, dims, ...JSON.parse(readFileSync(tuned, 'utf8')) };
}

/** The sample: bodies with the features of its users, for the tower; and by id, with the DLRM over the first candidates. */
export async function prepareSample() {
  const data = join(dataFolder, 'http-sample');
  await ensureGeneration({ models: sample, data });
  const table = await FeatureTable.open(join(sample, 'features', 'users.parquet'));
  const users = Array.from({ length: Math.min(table.rows, SAMPLE_USERS) }, (_, row) => table.idOf(row));
  const features = (id) => table.featuresAt(table.rowOf(id), TOWER_FEATURES);
  return {
    models: sample,
    data,
    tower: users.map((id) => ({ features: features(id), k: K, timeout_ms: 1000 })),
    rerank: users.map((id) => ({ user_id: id, k: K, rerank: true, candidates: CANDIDATES, timeout_ms: 1000 })),
  };
}
