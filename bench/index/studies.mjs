// What the index bench asks of Belfry alone: batches, filters, and the cost of a query as the catalogue grows.
import { join } from 'node:path';
import { writeNpy } from '../datasets/npy.mjs';
import { Random } from '../datasets/random.mjs';
import { expandGrid, FILTERED } from '../trials.mjs';
import { median, powerLaw, qpsAt } from './pareto.mjs';
import { thresholds } from './recall.mjs';
import { roundTo } from './session.mjs';
import { exactRows } from './truth.mjs';

const BATCHES = [1, 32, 256, 1024];
/** Mode `probe`: in batches of this size, over these shares of the partitions. */
const PROBE_BATCH = 1024;
const PROBE_SHARES = [0.02, 0.05, 0.1, 0.2, 0.4];
const FILTER_K = 10;
const FILTER_RECALL = 0.95;
const FILTER_SEED = 7;

function belfryOf(session) {
  const build = session.engines.find(({ name }) => name === 'belfry')?.builds[0];
  if (build === undefined || build.absent !== undefined)
    throw new Error(`this needs the engine belfry: ${build?.absent ?? 'not named by --engines'}`);
  return build.process;
}

async function repeated(process, repeats, params, options) {
  const runs = [];
  for (let i = 0; i < repeats; i++) {
    const said = await process.trial(params, options);
    runs.push({ ...said, qps: said.queries / said.seconds });
  }
  return { qps: median(runs.map((run) => run.qps)), ...runs.at(-1), rows: process.rows() };
}

/** Queries per second and recall of scans in batches, whole or over a share of the partitions, beside a peer at 0.95. */
export async function batchStudy(session, engines) {
  const process = belfryOf(session);
  const { k, repeats, queryCount } = session.settings;
  const peer = engines['hnswlib-node']?.qps_at_recall?.[0.95] ?? null;
  const sizes = BATCHES.filter((size) => size <= queryCount);
  const plans = [
    ...['codes', 'exact'].flatMap((mode) => sizes.map((batch) => ({ mode, batch }))),
    ...PROBE_SHARES.map((share) => ({ mode: 'probe', batch: Math.min(PROBE_BATCH, sizes.at(-1)), share })),
  ];
  const rows = [];
  for (const plan of plans) {
    const got = await repeated(process, repeats, plan);
    rows.push({
      ...plan,
      recall: roundTo(session.recall(got.rows, k, 'belfry'), 4),
      qps: roundTo(got.qps, 1),
      over_hnswlib_node: peer === null ? null : roundTo(got.qps / peer, 2),
    });
  }
  return rows;
}

/** A random bitmap with that share of bits set, as 32-bit words. */
function randomFilter(rows, selectivity) {
  const random = new Random(FILTER_SEED, Math.round(selectivity * 1e9));
  const words = new Int32Array(Math.ceil(rows / 32));
  let matching = 0;
  for (let row = 0; row < rows; row++) {
    if (random.uniform() >= selectivity) continue;
    words[row >> 5] |= 1 << (row & 31);
    matching++;
  }
  return { words, matching };
}

/** Per selectivity: queries per second at a recall@10 of 0.95 by the walk with a filter, and the slowdown against none. */
export async function filterStudy(session) {
  const process = belfryOf(session);
  const { dataset, items, queries, settings } = session;
  const count = settings.queryCount;
  const { rows, dims, metric } = dataset;
  const sweep = async (kth, filter) => {
    const points = [];
    for (const chain of expandGrid(FILTERED, FILTER_K)) {
      for (const params of chain) {
        // Both sides by the promise call, so that the ratio shows the filter alone.
        const got = await repeated(
          process,
          settings.repeats,
          { ...params, batch: 1, ...(filter && { filter }) },
          { k: FILTER_K },
        );
        const recall = session.recall(got.rows, FILTER_K, 'belfry', kth);
        const fewest = fewestOf(got.rows);
        points.push({ params, recall, qps: got.qps, fewest, path: got.path });
        if (recall >= FILTER_RECALL + 0.02) break; // what follows of the chain is dearer
      }
    }
    return points;
  };
  const unfiltered = await sweep(
    thresholds({ metric, items, queries, dims, truth: session.truth, width: session.truthWidth, count, k: FILTER_K }),
  );
  const base = qpsAt(unfiltered, FILTER_RECALL);
  const results = [];
  for (const selectivity of settings.filters) {
    const { words, matching } = randomFilter(rows, selectivity);
    const filter = join(dataset.folder, `filter-${selectivity}.npy`);
    writeNpy(filter, words, words.length);
    const bitmap = new Uint8Array(words.buffer).subarray(0, Math.ceil(rows / 8));
    const truth = await exactRows({ dataset, queries, count, k: FILTER_K, filter: bitmap });
    const points = await sweep(
      thresholds({ metric, items, queries, dims, truth, width: FILTER_K, count, k: FILTER_K }),
      filter,
    );
    const qps = qpsAt(points, FILTER_RECALL);
    results.push({
      selectivity,
      matching,
      qps_at_recall: roundTo(qps, 1),
      slowdown: qps === null || base === null ? null : roundTo(base / qps, 2),
      fewest_returned: Math.min(...points.map((point) => point.fewest)),
      expected: Math.min(FILTER_K, matching),
      points: points.map(({ params, recall, qps: speed, path }) => ({
        params,
        path,
        recall: roundTo(recall, 4),
        qps: roundTo(speed, 1),
      })),
    });
  }
  return { k: FILTER_K, recall: FILTER_RECALL, unfiltered_qps: roundTo(base, 1), filters: results };
}

function fewestOf(rows) {
  let fewest = Infinity;
  for (let q = 0; q < rows.length; q += FILTER_K) {
    let found = 0;
    for (let i = q; i < q + FILTER_K; i++) if (rows[i] >= 0) found++;
    fewest = Math.min(fewest, found);
  }
  return fewest;
}

/**
 * Cost of one query against the number of items: rows, microseconds at each recall, and the exponent of the power law.
 * @param {(size: string) => Promise<{ rows: number, qps_at_recall: object, build_s: number, bytes_per_item: number }>} run
 */
export async function scaleStudy(sizes, recalls, run) {
  const curve = [];
  for (const size of sizes) curve.push({ size, ...(await run(size)) });
  const exponents = Object.fromEntries(
    recalls.map((recall) => {
      const reached = curve.filter((point) => point.qps_at_recall[recall] !== null);
      const costs = reached.map((point) => 1e6 / point.qps_at_recall[recall]);
      return [
        recall,
        reached.length < 2
          ? null
          : roundTo(
              powerLaw(
                reached.map((point) => point.rows),
                costs,
              ),
              3,
            ),
      ];
    }),
  );
  return { curve, exponents };
}
