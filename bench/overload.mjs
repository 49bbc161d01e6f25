// Goodput above capacity, and slow clients: `npm run -s bench:overload -- --json`. What is measured and how stands in bench/README.md.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { measuresOf, windowsBetween } from '../dist/bench/load/measures.js';
import { mergeWindows, percentileMs } from '../dist/bench/load/recording.js';
import { runLoad } from '../dist/bench/load/run-load.js';
import { Target } from '../dist/bench/load/target.js';
import { machineFacts } from '../dist/bench/report/facts.js';
import { prepareGlove, prepareSample } from './http/prepare.mjs';
import { Server } from './http/processes.mjs';
import { OPENING_MS, SlowSockets } from './overload/slow-sockets.mjs';

const { values: flags } = parseArgs({
  options: {
    loads: { type: 'string', default: 'rerank,exact' },
    times: { type: 'string', default: '2,5,10' },
    seconds: { type: 'string', default: '8' },
    clients: { type: 'string', default: '16' },
    sockets: { type: 'string', default: '1000' },
    deadline: { type: 'string', default: '100' },
    workers: { type: 'string' },
    out: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const [seconds, clients, sockets, deadlineMs] = ['seconds', 'clients', 'sockets', 'deadline'].map((name) =>
  Number(flags[name]),
);
const times = flags.times.split(',').map(Number);
const TARGETS = { goodShare: 0.9, refusedMs: 10, memoryShare: 1.5, slowRatio: 1.1 };
const REQUEST_TIMEOUT_MS = 2000;
const SLOW_ROUNDS = 5;
const SLOW_RATE = 500;
const ALONE_MS = 3500;
/** As long as a breaker may stay open after the last failure. */
const REST_MS = 6000;
/** Asked for by the load of plain users, as bench:http finds it. */
const USER_RECALL = 0.8;
const say = (text) => process.stderr.write(`bench: ${text}\n`);

/** What is asked: a costly search over GloVe, or the DLRM of the sample over its candidates. */
const LOADS = {
  rerank: {
    prepare: prepareSample,
    bodies: ({ rerank }) => rerank.map((body) => ({ ...body, timeout_ms: deadlineMs })),
  },
  exact: {
    prepare: prepareGlove,
    bodies: ({ bodies }) =>
      bodies(undefined).map(({ user_id, k }) => ({ user_id, k, exact: true, timeout_ms: deadlineMs })),
  },
  user: {
    prepare: prepareGlove,
    bodies: ({ bodies }) => bodies(USER_RECALL).map((body) => ({ ...body, timeout_ms: deadlineMs })),
  },
};

const report = {
  machine: machineFacts(),
  deadline_ms: deadlineMs,
  seconds,
  workers: Number(flags.workers ?? 1),
  loads: [],
  checks: [],
};
for (const name of flags.loads.split(',').filter((one) => one !== '')) report.loads.push(await overload(name));
if (sockets > 0) report.slow_sockets = await slowSockets();
report.passed = report.checks.every(({ reached }) => reached);
if (flags.out !== undefined) {
  mkdirSync(flags.out, { recursive: true });
  writeFileSync(join(flags.out, 'overload.json'), JSON.stringify(report, null, 1));
}
process.stdout.write(`${JSON.stringify(report, null, flags.json ? 0 : 2)}\n`);
process.exitCode = report.passed ? 0 : 1;

async function overload(name) {
  const { prepare, bodies } = LOADS[name];
  const served = await prepare();
  const asked = bodies(served);
  const mix = mixOf(asked);
  const whole = mixOf(asked.map((body) => ({ ...body, strict: true })));
  const server = await Server.belfry(served, flags.workers);
  const target = Target.at(server.address, 5000);
  try {
    const peak = await run(target, whole, { kind: 'closed', clients, seconds });
    say(`${name}: peak ${peak.goodput} whole answers/s in the deadline`);
    const memory = server.residentMb();
    const steps = [];
    for (const factor of times) {
      const rate = Math.round(peak.goodput * factor);
      const open = { kind: 'open', segments: [{ rate, seconds }], arrivals: 'poisson', pace: 'timer' };
      const bare = await bareHttp(mix, open);
      const step = { times: factor, rate, ...(await run(target, mix, open)), resident_mb: server.residentMb(), bare };
      say(`${name}: ${factor}x: ${JSON.stringify(step)}`);
      steps.push(step);
      check(`${name} ${factor}x: goodput, share of peak`, step.goodput / peak.goodput, 'at least', TARGETS.goodShare);
      check(`${name} ${factor}x: p99 of accepted, ms`, step.p99_ms, 'at most', deadlineMs);
      if (step.refused_p99_ms !== null)
        check(`${name} ${factor}x: p99 of refusals, ms`, step.refused_p99_ms, 'at most', TARGETS.refusedMs);
      check(`${name} ${factor}x: memory, share of before`, step.resident_mb / memory, 'at most', TARGETS.memoryShare);
    }
    await sleep(REST_MS);
    const after = await run(target, mix, { kind: 'closed', clients: 1, seconds: 2 });
    check(`${name}: degraded answers after it`, after.degraded / after.ok, 'at most', 0.01);
    return { load: name, clients, peak, resident_mb: memory, steps, after };
  } finally {
    await target.close();
    await server.stop();
  }
}

/** The same load on node:http that does nothing: what it cannot do is beyond this machine and this generator. */
async function bareHttp(mix, open) {
  const server = await Server.start('bare', [fileURLToPath(new URL('./overload/bare-server.mjs', import.meta.url))]);
  const target = Target.at(server.address, 5000);
  try {
    const before = server.cpuSeconds();
    const started = performance.now();
    const { goodput, p50_ms, p99_ms, generator } = await run(target, mix, open);
    const cores = ((server.cpuSeconds() - before) * 1000) / (performance.now() - started);
    return { goodput, p50_ms, p99_ms, cores, generator };
  } finally {
    await target.close();
    await server.stop();
  }
}

async function run(target, mix, loop) {
  const result = await runLoad(target, mix, {
    loop,
    warmupSeconds: 1.5,
    workers: 1,
    connections: loop.kind === 'closed' ? loop.clients : 2000,
    timeoutMs: 5000,
    deadlineMs,
    keep: 0,
    seed: 7,
  });
  const { recording, windowMs } = result;
  const all = measuresOf(recording.windows, windowMs);
  const { window } = all;
  return {
    offered: Math.round(all.offered / all.seconds),
    goodput: Math.round(all.goodput),
    ok: all.ok,
    p50_ms: all.latency.get(50),
    p99_ms: all.latency.get(99),
    refused: recording.refused.totalCount,
    refused_p99_ms: percentileMs(recording.refused, 99),
    errors: window.errors,
    whole: Math.round((all.ok - all.degraded) / all.seconds),
    degraded: all.degraded,
    reasons: window.degraded,
    generator: { lag_p99_ms: percentileMs(recording.lag, 99), waited: recording.waited, cores: result.generatorCpu },
  };
}

/** One steady load; in turns it is alone, and has slow clients beside it from their first connection to their last. */
async function slowSockets() {
  const served = await prepareSample();
  const mix = mixOf(served.rerank.map(({ user_id, k }) => ({ user_id, k })));
  const server = await Server.belfry(served, flags.workers, { BELFRY_REQUEST_TIMEOUT_MS: String(REQUEST_TIMEOUT_MS) });
  const target = Target.at(server.address, 5000);
  const slow = SlowSockets.start();
  const turns = [];
  const lives = [];
  const during = async ({ elapsedMs }) => {
    await sleep(Math.max(0, -elapsedMs()));
    for (let round = 0; round < SLOW_ROUNDS; round++) {
      const turn = { alone: elapsedMs() };
      await sleep(ALONE_MS);
      turn.opening = elapsedMs();
      const closed = slow.allClosed();
      await slow.open(server.address, sockets);
      turn.open = elapsedMs();
      lives.push(await closed);
      turn.closed = elapsedMs();
      turns.push(turn);
    }
    return [];
  };
  const roundMs = ALONE_MS + OPENING_MS + REQUEST_TIMEOUT_MS + 1000;
  try {
    const { recording, windowMs } = await runLoad(
      target,
      mix,
      {
        loop: {
          kind: 'open',
          segments: [{ rate: SLOW_RATE, seconds: Math.ceil((SLOW_ROUNDS * roundMs) / 1000) }],
          arrivals: 'uniform',
          pace: 'timer', // one that spins takes the core that the slow clients need
        },
        warmupSeconds: 3,
        workers: 1,
        connections: 64,
        timeoutMs: 5000,
        deadlineMs,
        keep: 0,
        seed: 7,
      },
      { during },
    );
    const p99 = (from, to) =>
      percentileMs(
        mergeWindows(
          turns.flatMap((turn) => windowsBetween(recording.windows, windowMs, turn[from], turn[to] - windowMs)),
        ).latency,
        99,
      );
    const alone = p99('alone', 'opening');
    const beside = p99('opening', 'closed');
    const longest = Math.max(...lives.map(({ longest_ms }) => longest_ms));
    check('slow sockets: p99 of others, ratio', beside / alone, 'at most', TARGETS.slowRatio);
    check('slow sockets: longest life, ms', longest, 'at most', REQUEST_TIMEOUT_MS + 1000);
    return {
      sockets,
      rounds: turns.length,
      closed: lives.reduce((sum, { closed }) => sum + closed, 0),
      request_timeout_ms: REQUEST_TIMEOUT_MS,
      longest_ms: longest,
      p99_ms: { alone, beside, while_opening: p99('opening', 'open'), open_and_closing: p99('open', 'closed') },
      each_round_p99_ms: turns.map((turn) =>
        [
          ['alone', 'opening'],
          ['opening', 'closed'],
        ].map(([from, to]) =>
          percentileMs(
            mergeWindows(windowsBetween(recording.windows, windowMs, turn[from], turn[to] - windowMs)).latency,
            99,
          ),
        ),
      ),
    };
  } finally {
    slow.stop();
    await target.close();
    await server.stop();
  }
}

function mixOf(bodies) {
  const requests = bodies.map((body) => ({
    path: '/retrieve',
    method: 'POST',
    headers: ['content-type', 'application/json'],
    body: JSON.stringify(body),
  }));
  return { requests, order: Uint32Array.from(requests.keys()), truth: [], description: `${requests.length} bodies` };
}

function check(name, value, bound, limit) {
  const reached = bound === 'at least' ? value >= limit : value <= limit;
  report.checks.push({ name, value: Number(value.toFixed(3)), target: `${bound} ${limit}`, reached });
}
