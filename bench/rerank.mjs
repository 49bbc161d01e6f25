// Rows a second of the scorer lane alone: the DLRM of the sample on the candidates of real users, without HTTP, tower or
// search. Says where the time goes: gather (features to tensors, JS thread), queue, run (worker thread).
//   npm run -s bench:rerank -- [--json] [--candidates 500] [--concurrency 16] [--workers 1,2] [--seconds 3] [--repeats 3]
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ensureGeneration } from '../dist/generation/build.js';
import { Generation } from '../dist/generation/generation.js';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    models: { type: 'string', default: join(ROOT, 'embeddings', 'sample') },
    reranker: { type: 'string' },
    candidates: { type: 'string', default: '500' },
    concurrency: { type: 'string', default: '16' },
    workers: { type: 'string', default: '1,2' },
    seconds: { type: 'string', default: '3' },
    repeats: { type: 'string', default: '3' },
  },
});
const [candidates, concurrency, seconds, repeats] = ['candidates', 'concurrency', 'seconds', 'repeats'].map((name) =>
  Number(flags[name]),
);
const USERS = 256;

const say = (text) => flags.json || console.error(text);
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const percentile = (values, share) => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
};

/** What retrieval would hand over for users spread over the export. */
async function requestsOf(generation) {
  const { userIds, users, userTable, items, itemIds } = generation;
  const requests = [];
  for (let at = 0; at < Math.min(USERS, userIds.size); at++) {
    const row = Math.floor(((at + 0.5) * userIds.size) / Math.min(USERS, userIds.size));
    const userEmbedding = users.readRows(Uint32Array.of(row));
    const { rows, scores } = await generation.searcher.search({
      query: userEmbedding,
      k: candidates,
      exact: false,
      exclude: new Uint32Array(0),
    });
    const id = userIds.idOf(row);
    requests.push({
      request: { userId: id, user: { ...userTable.featuresOf(id), id }, userEmbedding },
      list: { rows, scores, ids: Array.from(rows, (item) => itemIds.idOf(item)) },
      items,
    });
  }
  return requests;
}

async function measure(reranker, requests) {
  const [latency, gather, queue, run] = [[], [], [], []];
  let rows = 0;
  let next = 0;
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const started = performance.now();
  const end = started + seconds * 1000;
  const client = async () => {
    while (performance.now() < end) {
      const { request, list, items } = requests[next++ % requests.length];
      const sent = performance.now();
      // Reading the vectors is part of the lane: retrieval does it for each request.
      const embeddings = reranker.needs.itemEmbedding ? items.readRows(list.rows) : undefined;
      const scored = await reranker.score(request, { ...list, ...(embeddings === undefined ? {} : { embeddings }) });
      latency.push(performance.now() - sent);
      gather.push(scored.gatherMs);
      queue.push(scored.queueMs);
      run.push(scored.runMs);
      rows += list.rows.length;
    }
  };
  await Promise.all(Array.from({ length: concurrency }, client));
  const took = (performance.now() - started) / 1000;
  delay.disable();
  return {
    rowsPerSecond: rows / took,
    requestsPerSecond: latency.length / took,
    p50: percentile(latency, 0.5),
    p99: percentile(latency, 0.99),
    gatherMs: median(gather),
    queueMs: median(queue),
    runMs: median(run),
    eventLoopP99: delay.percentile(99) / 1e6,
  };
}

const data = mkdtempSync(join(tmpdir(), 'belfry-bench-'));
try {
  const { published } = await ensureGeneration({ models: flags.models, data });
  const layouts = flags.workers.split(',').map(Number);
  const results = new Map(layouts.map((workers) => [workers, []]));
  // Interleaved, so that what the machine does meanwhile falls on all of them.
  for (let repeat = 0; repeat < repeats; repeat++) {
    for (const workers of layouts) {
      const generation = await Generation.load(published, { modelWorkers: workers });
      const reranker =
        generation.rerankers.find(({ name }) => flags.reranker === undefined || name === flags.reranker) ??
        generation.rerankers[0];
      const requests = await requestsOf(generation);
      for (const { request, list, items } of requests.slice(0, 32))
        await reranker.score(request, { ...list, embeddings: items.readRows(list.rows) });
      const result = await measure(reranker, requests);
      results.get(workers).push(result);
      say(
        `workers ${workers}: ${Math.round(result.rowsPerSecond)} rows/s, ${result.requestsPerSecond.toFixed(0)} requests/s, ` +
          `p50 ${result.p50.toFixed(1)} p99 ${result.p99.toFixed(1)} ms; gather ${result.gatherMs.toFixed(2)} queue ${result.queueMs.toFixed(1)} ` +
          `run ${result.runMs.toFixed(2)} ms; event loop p99 ${result.eventLoopP99.toFixed(1)} ms`,
      );
      await generation.close();
    }
  }
  const summary = layouts.map((workers) => {
    const of = results.get(workers);
    return Object.fromEntries([
      ['workers', workers],
      ...Object.keys(of[0]).map((key) => [key, median(of.map((one) => one[key]))]),
    ]);
  });
  if (flags.json)
    console.log(
      JSON.stringify(
        {
          bench: 'rerank',
          candidates,
          concurrency,
          seconds,
          repeats,
          cpu: cpus()[0]?.model,
          cores: cpus().length,
          summary,
        },
        null,
        2,
      ),
    );
} finally {
  rmSync(data, { recursive: true, force: true });
}
