// Hours in minutes: searches, re-ranking, fresh towers, batches, upserts, swaps and rebuilds, and whether memory, threads and
// open files stay flat: `npm run -s bench:soak -- --minutes 20 --json`. What is measured and how stands in bench/README.md.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { measuresOf } from '../dist/bench/load/measures.js';
import { runLoad } from '../dist/bench/load/run-load.js';
import { Target } from '../dist/bench/load/target.js';
import { machineFacts } from '../dist/bench/report/facts.js';
import { buildGeneration } from '../dist/generation/build.js';
import { npyHeader } from './datasets/npy.mjs';
import { prepareSample } from './http/prepare.mjs';
import { Server } from './http/processes.mjs';

const { values: flags } = parseArgs({
  options: {
    minutes: { type: 'string', default: '20' },
    rate: { type: 'string', default: '100' },
    'swap-seconds': { type: 'string', default: '10' },
    'rebuild-seconds': { type: 'string', default: '180' },
    upserts: { type: 'string', default: '5' },
    out: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const [minutes, rate, swapSeconds, rebuildSeconds, upsertRate] = [
  'minutes',
  'rate',
  'swap-seconds',
  'rebuild-seconds',
  'upserts',
].map((name) => Number(flags[name]));
const TARGETS = { mbPerMinute: 1, threads: 2, files: 4, failed: 0 };
/** Heap, pools and caches grow to their size in the first part. */
const WARM_SHARE = 0.3;
const SAMPLE_MS = 2000;
const UPSERTED = 200;
const MB = 1e6;
const say = (text) => process.stderr.write(`bench: ${text}\n`);

const served = await prepareSample();
const data = mkdtempSync(join(tmpdir(), 'belfry-soak-'));
for (let i = 0; i < 2; i++) await buildGeneration({ models: served.models, data });
const server = await Server.belfry({ models: served.models, data });
const target = Target.at(server.address, 10_000);
const admin = Target.at(server.admin ?? server.address, 60_000);
const state = { stopped: false, swaps: 0, rebuilds: 0, upserts: 0, shed: 0, refused: [] };
const samples = [];
const { dims } = npyHeader(join(served.models, 'embeddings', 'item_embeddings.npy'));
let upserted = 0;
try {
  const started = performance.now();
  const watch = setInterval(async () => {
    const at = (performance.now() - started) / 60_000;
    samples.push({ at, ...processOf(server.pid), ...(await heapOf()) });
    if (samples.length % 30 === 0)
      say(`${at.toFixed(1)} min: ${JSON.stringify({ ...samples.at(-1), ...state, refused: state.refused.length })}`);
  }, SAMPLE_MS);
  const beside = [every(swapSeconds, swap), every(rebuildSeconds, rebuild), every(1 / upsertRate, upsert)];
  const result = await runLoad(target, mix(), {
    loop: { kind: 'open', segments: [{ rate, seconds: minutes * 60 }], arrivals: 'poisson', pace: 'timer' },
    warmupSeconds: 2,
    workers: 1,
    connections: 256,
    timeoutMs: 10_000,
    deadlineMs: 1000,
    keep: 0,
    seed: 11,
  });
  state.stopped = true;
  clearInterval(watch);
  await Promise.all(beside);
  print(result);
} finally {
  state.stopped = true;
  await Promise.all([target.close(), admin.close()]);
  await server.stop();
  rmSync(data, { recursive: true, force: true });
}

/** A quarter each: users as stored, users with the DLRM, features through the tower, batches of four. */
function mix() {
  const users = served.rerank.map(({ user_id }) => ({ user_id, k: 10, timeout_ms: 1000 }));
  const bodies = users.flatMap((user, i) => [
    ['/retrieve', user],
    ['/retrieve', { ...user, rerank: true, candidates: 200 }],
    ['/retrieve', { ...served.tower[i], timeout_ms: 1000 }],
    ['/retrieve/batch', { requests: [0, 1, 2, 3].map((step) => users[(i + step) % users.length]) }],
  ]);
  const requests = bodies.map(([path, body]) => ({
    path,
    method: 'POST',
    headers: ['content-type', 'application/json'],
    body: JSON.stringify(body),
  }));
  return {
    requests,
    order: Uint32Array.from(requests.keys()),
    truth: [],
    description: 'users, re-ranked, fresh, batches',
  };
}

async function every(seconds, act) {
  while (!state.stopped) {
    const began = performance.now();
    await act();
    while (!state.stopped && performance.now() - began < seconds * 1000)
      await sleep(Math.max(1, Math.min(250, began + seconds * 1000 - performance.now())));
  }
}

/** To the other one of the two newest that are whole. */
async function swap() {
  const { serving, generations } = JSON.parse((await admin.get('/admin/generations')).body.toString());
  const other = generations.find(({ id, problem }) => id !== serving && problem === undefined);
  if (other === undefined) return;
  const { status, body } = await admin.post(`/admin/generations/${other.id}/activate`, {});
  if (status < 300) state.swaps++;
  else refused(body.toString());
}

async function rebuild() {
  if (state.upserts === 0) return; // not in the first moment
  const { status, body } = await admin.post('/admin/rebuild', { force: true });
  if (status < 300) state.rebuilds++;
  else refused(body.toString());
}

async function upsert() {
  const id = `soak-${upserted++ % UPSERTED}`;
  const vector = Array.from({ length: dims }, (_, d) => Math.sin(upserted * 0.37 + d));
  const { status, body } = await target.ask({
    path: `/items/${id}`,
    method: 'PUT',
    headers: ['content-type', 'application/json'],
    body: JSON.stringify({ embedding: vector }),
  });
  if (status < 300) state.upserts++;
  else refused(`${id} ${body}`);
}

/** A server that is busy, or builds already, says so; anything else is a failure. */
function refused(body) {
  if (/BELFRY_(OVERLOADED|BUILD_RUNNING)/.test(body)) state.shed++;
  else state.refused.push(body);
}

function processOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1]);
  return {
    resident_mb: (of('VmRSS') * 1024) / MB,
    anonymous_mb: (of('RssAnon') * 1024) / MB,
    threads: of('Threads'),
    ...filesOf(pid),
  };
}

/** What V8 holds; right after a collection it is least, so the least of a minute is what is really in use. */
async function heapOf() {
  const { body } = await target.get('/metrics');
  const of = (name) => Number(new RegExp(`^${name} (\\S+)`, 'm').exec(body.toString())[1]) / MB;
  return { heap_mb: of('nodejs_heap_size_used_bytes'), external_mb: of('nodejs_external_memory_bytes') };
}

/** Sockets come and go with the clients of the load; the rest must not. */
function filesOf(pid) {
  const folder = `/proc/${pid}/fd`;
  let [files, sockets] = [0, 0];
  for (const name of readdirSync(folder)) {
    try {
      if (readlinkSync(join(folder, name)).startsWith('socket:')) sockets++;
      else files++;
    } catch (error) {
      if (error.code !== 'ENOENT') throw error; // closed meanwhile
    }
  }
  return { files, sockets };
}

function print({ recording, windowMs, seconds }) {
  const all = measuresOf(recording.windows, windowMs);
  const warm = samples.filter(({ at }) => at >= minutes * WARM_SHARE);
  const rise = (name) => {
    const quarter = Math.max(1, warm.length >> 2);
    return (
      median(warm.slice(-quarter).map((one) => one[name])) - median(warm.slice(0, quarter).map((one) => one[name]))
    );
  };
  const memory = {
    resident_mb: trend(warm, 'resident_mb', median),
    anonymous_mb: trend(warm, 'anonymous_mb', median),
    heap_mb: trend(warm, 'heap_mb', (values) => Math.min(...values)),
    external_mb: trend(warm, 'external_mb', (values) => Math.min(...values)),
  };
  const checks = [
    check('resident memory, MB a minute after warm-up', memory.resident_mb.per_minute, TARGETS.mbPerMinute),
    check('anonymous memory, MB a minute after warm-up', memory.anonymous_mb.per_minute, TARGETS.mbPerMinute),
    check('heap in use, MB a minute after warm-up', memory.heap_mb.per_minute, TARGETS.mbPerMinute),
    check('threads, last quarter less first', rise('threads'), TARGETS.threads),
    check('open files, last quarter less first', rise('files'), TARGETS.files),
    check('failed requests, not counting those that were shed', failures(all.window.errors), TARGETS.failed),
    check('refused upserts, swaps and rebuilds', state.refused.length, TARGETS.failed),
  ];
  const report = {
    machine: machineFacts(),
    minutes: Number((seconds / 60).toFixed(2)),
    rate,
    answers: all.ok,
    p50_ms: all.latency.get(50),
    p99_ms: all.latency.get(99),
    errors: all.window.errors,
    degraded: all.window.degraded,
    generations: Object.keys(recording.generations).length,
    ...state,
    refused: state.refused.slice(0, 10),
    memory,
    first: warm[0],
    last: warm.at(-1),
    checks,
    passed: checks.every(({ reached }) => reached),
  };
  delete report.stopped;
  if (flags.out !== undefined) {
    mkdirSync(flags.out, { recursive: true });
    writeFileSync(join(flags.out, 'soak.json'), JSON.stringify({ ...report, samples }, null, 1));
  }
  say(report.passed ? 'flat' : 'not flat');
  process.stdout.write(`${JSON.stringify(report, null, flags.json ? 0 : 2)}\n`);
  process.exitCode = report.passed ? 0 : 1;
}

function failures(errors) {
  const shed = ['BELFRY_OVERLOADED', 'BELFRY_DEADLINE_EXCEEDED'];
  return Object.entries(errors).reduce((sum, [code, count]) => sum + (shed.includes(code) ? 0 : count), 0);
}

/**
 * Of the values of each minute (`of` makes one of its samples), since memory saw-tooths with each swap: the median of the slopes between all
 * pairs of minutes, with its 95 % interval by the ranks (Sen, 1968).
 */
function trend(points, name, of) {
  const byMinute = new Map();
  for (const one of points) {
    const minute = Math.floor(one.at);
    byMinute.set(minute, [...(byMinute.get(minute) ?? []), one]);
  }
  const values = [...byMinute].map(([at, some]) => ({ at, value: of(some.map((one) => one[name])) }));
  const slopes = [];
  for (const [i, one] of values.entries())
    for (const other of values.slice(i + 1)) slopes.push((other.value - one.value) / (other.at - one.at));
  slopes.sort((a, b) => a - b);
  const n = values.length;
  const half = (1.96 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18)) / 2;
  const rank = (place) => Number((slopes[Math.max(0, Math.min(slopes.length - 1, place))] ?? 0).toFixed(3));
  const middle = slopes.length / 2;
  return {
    per_minute: rank(Math.floor(middle)),
    interval: [rank(Math.floor(middle - half)), rank(Math.ceil(middle + half))],
    first: Number(values[0]?.value.toFixed(1)),
    last: Number(values.at(-1)?.value.toFixed(1)),
  };
}

function median(values) {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? 0;
}

function check(name, value, limit) {
  return { name, value: Number(value.toFixed(3)), target: `at most ${limit}`, reached: value <= limit };
}
