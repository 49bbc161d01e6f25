// /retrieve over HTTP beside a naive server, and with a tower and a reranker: `npm run -s bench:http -- --json`. What is
// measured and how stands in bench/README.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { loadAddon } from '../dist/ann/addon.js';
import { CANDIDATES, prepareGlove, prepareSample, RECALL } from './http/prepare.mjs';
import { Load, Server } from './http/processes.mjs';
import { EF_SWEEP } from './peers/hnswlib.mjs';

const SCENARIOS = ['user', 'single', 'tower', 'rerank'];
const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    only: { type: 'string', default: SCENARIOS.join(',') },
    workers: { type: 'string' },
    quick: { type: 'boolean', default: false },
    out: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const rounds = Number(flags.rounds ?? (flags.quick ? 1 : 5));
const seconds = Number(flags.seconds ?? (flags.quick ? 2 : 5));
const only = flags.only.split(',');
const unknown = only.find((name) => !SCENARIOS.includes(name));
if (unknown !== undefined || !(rounds >= 1) || !(seconds > 0)) {
  process.stderr.write(`bench: expected --rounds from 1, --seconds above 0, --only of ${SCENARIOS.join(',')}\n`);
  process.exit(2);
}
const WARM_SECONDS = 1;
const TARGETS = {
  user: { ratio: ['at least', 7] },
  single: { p50_ratio: ['at most', 0.4] },
  tower: { requests_per_second: ['at least', 5_000] },
  rerank: { p99_ms: ['at most', 50], requests_per_second: ['at least', 150], rows_per_second: ['at least', 75_000] },
};
const LOOP_DELAY_MS = 10;
/** Summed over rounds, not a median. */
const WHOLE = ['failed', 'degraded'];
const say = (text) => process.stderr.write(`bench: ${text}\n`);
const wants = (...names) => names.some((name) => only.includes(name));

const servers = [];
const load = new Load();
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void stop().then(() => process.exit(1)));
async function stop() {
  await Promise.all([load.stop(), ...servers.map((server) => server.stop())]);
}

try {
  const glove = wants('user', 'single') ? await prepareGlove() : undefined;
  const sample = wants('tower', 'rerank') ? await prepareSample() : undefined;
  const start = async (starting) => {
    const server = await starting;
    servers.push(server);
    return server;
  };
  const ours = glove && (await start(Server.belfry(glove, flags.workers)));
  const naive = glove?.naive && (await start(Server.naive(glove.naive)));
  const modelled = sample && (await start(Server.belfry(sample, flags.workers)));

  const tuned = ours && (await smallestEf(ours, glove));
  const bodies = tuned?.bodies;
  const recall = ours && { belfry: tuned.recall, ...(naive && { naive: await recallOf(naive, glove, bodies) }) };
  const trials = [
    { scenario: 'user', server: ours, bodies, concurrency: 64 },
    { scenario: 'user', server: naive, bodies, concurrency: 64 },
    { scenario: 'single', server: ours, bodies, concurrency: 1 },
    { scenario: 'single', server: naive, bodies, concurrency: 1 },
    { scenario: 'tower', server: modelled, bodies: sample?.tower, concurrency: 64 },
    { scenario: 'rerank', server: modelled, bodies: sample?.rerank, concurrency: 16 },
  ].filter(({ scenario, server }) => only.includes(scenario) && server !== undefined);
  for (const trial of trials) trial.rounds = [];
  for (let turn = 0; turn < rounds; turn++) {
    for (const trial of trials) trial.rounds.push(await measure(trial));
    say(`round ${turn + 1} of ${rounds}`);
  }

  const report = reportOf(trials, {
    recall,
    facts: glove?.facts,
    tuned: glove && { naive_ef: glove.naive?.ef, belfry_ef: tuned.ef },
  });
  if (flags.out !== undefined) {
    mkdirSync(flags.out, { recursive: true });
    writeFileSync(join(flags.out, 'http.json'), JSON.stringify({ ...report, trials: trials.map(raw) }, null, 1));
  }
  process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : `${JSON.stringify(report, null, 2)}\n`);
  process.exitCode = report.passed ? 0 : 1;
} finally {
  await stop();
}

/** What the judged users get when they are asked for one by one, whatever a server says of itself. */
async function recallOf({ address }, { judged, judge }, bodies) {
  const { answers } = await load.run({ address, bodies: bodies.slice(0, judged), concurrency: 4, keep: true });
  return round(judge(answers), 4);
}

/** As the naive server's ef: the smallest of a sweep that reaches the recall. */
async function smallestEf(server, glove) {
  for (const ef of EF_SWEEP) {
    const bodies = glove.bodies(ef);
    const recall = await recallOf(server, glove, bodies);
    if (recall >= RECALL || ef === EF_SWEEP.at(-1)) return { ef, bodies, recall };
  }
}

async function measure({ scenario, server, bodies, concurrency }) {
  if (server.name === 'belfry') await server.loopDelayMs(); // begins anew
  const cpu = server.cpuSeconds();
  const started = performance.now();
  const ran = await load.run({ address: server.address, bodies, concurrency, seconds, warmSeconds: WARM_SECONDS });
  const took = (performance.now() - started) / 1000;
  const sorted = ran.latencies.sort();
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const count = sorted.length;
  return {
    requests_per_second: count / seconds,
    p50_ms: at(0.5),
    p99_ms: at(0.99),
    max_ms: at(1),
    failed: ran.failed,
    codes: ran.codes,
    degraded: ran.degraded,
    server_cores: cpu === undefined ? undefined : (server.cpuSeconds() - cpu) / took,
    generator_cores: ran.cores,
    ...(server.name === 'belfry' ? { loop_delay_p99_ms: await server.loopDelayMs() } : {}),
    ...(scenario === 'rerank' ? { rows_per_second: ((count - ran.degraded) * CANDIDATES) / seconds } : {}),
  };
}

function reportOf(trials, { recall, facts, tuned }) {
  const { cpu, kernels } = loadAddon();
  const results = trials.map(({ scenario, server, concurrency, rounds: each }) => {
    const names = Object.keys(each[0]);
    const of = (name) => {
      const values = each.map((one) => one[name]);
      if (name === 'codes') return summed(values);
      return WHOLE.includes(name) ? values.reduce((sum, value) => sum + value, 0) : round(median(values));
    };
    return { scenario, server: server.name, concurrency, ...Object.fromEntries(names.map((name) => [name, of(name)])) };
  });
  for (const mine of results.filter(({ server }) => server === 'belfry')) {
    const at = (name) =>
      trials.find(({ scenario, server }) => scenario === mine.scenario && server.name === name)?.rounds;
    if (at('naive') !== undefined) {
      const ratio = (name) => round(median(at('belfry').map((one, turn) => one[name] / at('naive')[turn][name])));
      Object.assign(mine, { ratio: ratio('requests_per_second'), p50_ratio: ratio('p50_ms') });
    }
  }
  const checks = results.filter(({ server }) => server === 'belfry').flatMap(checksOf);
  if (recall !== undefined) checks.push(check('recall@10', recall.belfry, ['at least', RECALL]));
  return {
    machine: {
      cpu: cpu.model,
      cpus: cpus().length,
      kernels,
      features: cpu.features,
      os: `${process.platform} ${release()}`,
      node: process.version,
    },
    ...facts,
    rounds,
    seconds,
    workers: Number(flags.workers ?? 1),
    recall,
    tuned,
    results,
    checks,
    passed: checks.every(({ reached }) => reached),
  };
}

function checksOf(result) {
  const whole = { failed: ['at most', 0], degraded: ['at most', 0] };
  const wanted = { ...TARGETS[result.scenario], loop_delay_p99_ms: ['at most', LOOP_DELAY_MS], ...whole };
  return Object.entries(wanted).map(([name, target]) => check(`${result.scenario}: ${name}`, result[name], target));
}

function check(name, value, [bound, limit]) {
  const reached = value !== undefined && (bound === 'at least' ? value >= limit : value <= limit);
  return { name, value: value ?? null, target: `${bound} ${limit}`, reached };
}

function raw({ scenario, server, rounds: each }) {
  return { scenario, server: server.name, rounds: each };
}

function summed(counts) {
  const all = {};
  for (const one of counts) for (const [name, count] of Object.entries(one)) all[name] = (all[name] ?? 0) + count;
  return all;
}

function median(values) {
  const sorted = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  return sorted.length === 0 ? undefined : (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

function round(value, digits = 3) {
  return value === undefined ? undefined : Number(value.toFixed(digits));
}
