// What upserts cost: the rate of PUTs by fsync policy, and what a delta of so many items adds to a search.
// npm run -s bench:upserts -- --json [--items 1000000] [--dims 64] [--deltas 0,100,10000,100000] [--seconds 3]
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadAddon } from '../dist/ann/addon.js';
import { Generation } from '../dist/generation/generation.js';
import { GenerationStore } from '../dist/generation/store.js';
import { fillRetrieve } from '../dist/retrieval/request.js';
import { Retriever } from '../dist/retrieval/retriever.js';
import { Metrics } from '../dist/telemetry/metrics.js';
import { buildGeneration } from '../dist/upserts/build.js';
import { ItemUpserts } from '../dist/upserts/item-upserts.js';
import { writeRows } from './datasets/npy.mjs';

const { values: flags } = parseArgs({
  options: {
    items: { type: 'string', default: '100000' },
    dims: { type: 'string', default: '64' },
    deltas: { type: 'string', default: '0,100,10000,100000' },
    seconds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
});
const [items, dims, seconds] = [Number(flags.items), Number(flags.dims), Number(flags.seconds)];
const folder = mkdtempSync(join(tmpdir(), 'belfry-bench-'));
const say = (text) => flags.json || console.error(text);

let state = 1;
function vector() {
  return Array.from({ length: dims }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const at = (values, share) =>
  values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))];

async function makeGeneration() {
  const models = join(folder, 'models');
  mkdirSync(join(models, 'embeddings'), { recursive: true });
  for (const [name, rows] of [
    ['item', items],
    ['user', 2000],
  ]) {
    const path = join(models, 'embeddings', `${name}_embeddings.npy`);
    writeRows(path, rows, dims, (_, target) => target.set(vector()));
  }
  say(`building ${items} items of ${dims} dims`);
  return buildGeneration({ models, data: join(folder, 'data'), overrides: ['recall', 'canaries'] });
}

async function open(store, data, fsync) {
  return ItemUpserts.open({ data, store, metrics: new Metrics(), fsync, logBytes: 2 ** 30, onNotice: console.error });
}

/** Acknowledged PUTs a second, by `clients` that each wait for the answer. */
async function putRate(upserts, clients, first) {
  const until = performance.now() + seconds * 1000;
  const waits = [];
  let next = first;
  const client = async () => {
    while (performance.now() < until) {
      const started = performance.now();
      await upserts.put(String(next++), { embedding: vector() });
      waits.push(performance.now() - started);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { clients, per_second: Math.round(waits.length / seconds), p50_ms: at(waits, 0.5), p99_ms: at(waits, 0.99) };
}

/** Milliseconds of a search of the top 100, one at a time. */
async function searchMs(retriever) {
  const waits = [];
  for (const until = performance.now() + seconds * 1000; performance.now() < until;) {
    const request = fillRetrieve({ source: { kind: 'embedding', vector: vector() }, k: 100, timeoutMs: 1000 });
    const started = performance.now();
    await retriever.retrieve(request);
    waits.push(performance.now() - started);
  }
  return { p50_ms: at(waits, 0.5), p99_ms: at(waits, 0.99), searches: waits.length };
}

const report = { cpu: cpus()[0].model, kernel: loadAddon().kernels[0], items, dims, puts: {}, searches: [] };
try {
  const published = await makeGeneration();
  const data = join(folder, 'data');
  let first = items;
  for (const fsync of ['always', 'interval', 'off']) {
    const store = new GenerationStore(await Generation.load(published));
    const upserts = await open(store, join(folder, `log-${fsync}`), fsync);
    report.puts[fsync] = [];
    for (const clients of [1, 32]) {
      report.puts[fsync].push(await putRate(upserts, clients, first));
      first += 10_000_000;
      say(`PUT, fsync ${fsync}: ${JSON.stringify(report.puts[fsync].at(-1))}`);
    }
    await upserts.close();
    await store.close();
  }
  const store = new GenerationStore(await Generation.load(published));
  const upserts = await open(store, data, 'off');
  const retriever = new Retriever(store, new Metrics(), undefined, upserts);
  let rows = 0;
  for (const wanted of flags.deltas.split(',').map(Number)) {
    for (; rows < wanted; rows += 100) {
      // Half new, half in place of rows of the generation: tombstones.
      const ids = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? items + rows + i : (rows + i) % items));
      await Promise.all(ids.map((id) => upserts.put(String(id), { embedding: vector() })));
    }
    await searchMs(retriever); // warm, and segments merged
    const runs = [await searchMs(retriever), await searchMs(retriever), await searchMs(retriever)];
    const row = {
      delta: wanted,
      p50_ms: median(runs.map((run) => run.p50_ms)),
      p99_ms: median(runs.map((run) => run.p99_ms)),
    };
    const started = performance.now();
    for (let i = 0; i < 200; i++) {
      await upserts.put(String(items + i * 2), { embedding: vector() });
      await retriever.retrieve(
        fillRetrieve({ source: { kind: 'embedding', vector: vector() }, k: 100, timeoutMs: 1000 }),
      );
    }
    report.searches.push({ ...row, put_and_search_ms: (performance.now() - started) / 200 });
    say(JSON.stringify(report.searches.at(-1)));
  }
  await upserts.close();
  await store.close();
  if (flags.json) console.log(JSON.stringify(report, null, 2));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
