// Swaps under load, over real HTTP: `npm run -s bench:swap -- --json`. What is measured and how stands in bench/README.md.
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { dataFolder } from './datasets/glove.mjs';
import { makeGenerations } from './swap/generations.mjs';
import { judge } from './swap/judge.mjs';

const { values: flags } = parseArgs({
  options: {
    swaps: { type: 'string', default: '100' },
    concurrency: { type: 'string', default: '32' },
    rows: { type: 'string', default: '100000' },
    dims: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
});
const [swaps, concurrency, rows, dims, rounds] = ['swaps', 'concurrency', 'rows', 'dims', 'rounds'].map((name) =>
  Number(flags[name]),
);
const TARGET = { p99Ratio: 1.2, memoryRatio: 1.1, memorySeconds: 5 };
const WARM_MS = 3_000;
const WARM_SWAPS = 6;
const SWAP_TIMEOUT_MS = 60_000;
const MB = 1e6;

const made = await makeGenerations({ folder: join(dataFolder, `swap-${rows}-d${dims}`), rows, dims });
const ids = Object.keys(made.sides);
const say = (text) => process.stderr.write(`bench: ${text}\n`);

/** As a publish does: another process wrote CURRENT, by way of a rename. */
function point(id) {
  writeFileSync(join(made.data, 'CURRENT.tmp'), `${id}\n`);
  renameSync(join(made.data, 'CURRENT.tmp'), join(made.data, 'CURRENT'));
}

function memoryOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const of = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)[1]) * 1024;
  return { resident: of('VmRSS'), anonymous: of('RssAnon'), peak: of('VmHWM') };
}

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
point(ids[0]);
const server = spawn(
  process.execPath,
  [main, 'serve', '--json', '--models', made.models[0], '--data', made.data, '--port', '0', '--log-level', 'warn'],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
  },
);
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    server.kill();
    process.exit(1);
  });
const load = fork(fileURLToPath(new URL('swap/load-process.mjs', import.meta.url)));
try {
  const [line] = await once(createInterface({ input: server.stdout }), 'line');
  const { address } = JSON.parse(line);
  const serving = async () => (await (await fetch(`${address}/readyz`)).json()).generation;
  const worstLag = async () => {
    const text = await (await fetch(`${address}/metrics`)).text(); // the gauge starts anew when it is read
    return Number(/^nodejs_eventloop_lag_max_seconds (\S+)/m.exec(text)[1]) * 1000;
  };
  const swapTo = async (id) => {
    const started = performance.now();
    point(id);
    while ((await serving()) !== id) {
      if (performance.now() - started > SWAP_TIMEOUT_MS)
        throw new Error(`generation ${id} does not serve after ${SWAP_TIMEOUT_MS} ms`);
      await sleep(20);
    }
    return performance.now() - started;
  };

  load.send({ start: { address, connections: concurrency, users: 20_000 } });
  await sleep(WARM_MS);
  // Code that is not compiled yet, and a heap that has not seen a swap, are no part of the comparison.
  for (let swap = 1; swap <= WARM_SWAPS; swap++) await swapTo(ids[swap % 2]);
  await sleep(WARM_MS);
  const before = memoryOf(server.pid);

  const swapMs = [];
  const lags = { quiet: [], swaps: [] };
  for (let round = 0; round < rounds; round++) {
    const begun = performance.now();
    const phase = async (name) => {
      await worstLag();
      load.send({ phase: name });
    };
    await phase('swaps');
    const count = Math.ceil(swaps / rounds);
    for (let swap = 0; swap < count && swapMs.length < swaps; swap++)
      swapMs.push(await swapTo(ids[(swapMs.length + 1) % 2]));
    load.send({ phase: 'between' });
    lags.swaps.push(await worstLag());
    const lasted = performance.now() - begun;
    await sleep(1000);
    await phase('quiet');
    await sleep(lasted);
    load.send({ phase: 'between' });
    lags.quiet.push(await worstLag());
    say(`round ${round + 1} of ${rounds}: ${count} swaps in ${(lasted / 1000).toFixed(1)} s`);
  }
  const peak = memoryOf(server.pid).peak;
  await swapTo(ids[0]);
  let after = memoryOf(server.pid);
  let backMs = 0;
  for (const started = performance.now(); after.resident > before.resident * TARGET.memoryRatio && backMs < 30_000;) {
    await sleep(100);
    after = memoryOf(server.pid);
    backMs = performance.now() - started;
  }

  load.send({ stop: true });
  const [result] = await once(load, 'message');
  const judged = judge(result.kept, made.sides, { dims, limit: Math.max(100, Math.floor(3e7 / rows)) });
  const quiet = summary(result.latencies.quiet);
  const during = summary(result.latencies.swaps);
  const strays = result.generations.filter(
    ([id, { sides }]) => sides.length !== 1 || sides[0] !== made.sides[id]?.side,
  );
  const report = {
    rows,
    dims,
    concurrency,
    swaps: swapMs.length,
    swap_ms: summary(swapMs),
    answers: quiet.count + during.count,
    failed: result.failed,
    mixed: result.mixedCount + strays.length + judged.wrong,
    judged: judged.judged,
    recall_of_judged: round(judged.recall, 4),
    latency_ms: { quiet, swaps: during },
    p99_ratio: round(during.p99 / quiet.p99, 3),
    loop_delay_max_ms: { quiet: round(Math.max(...lags.quiet)), swaps: round(Math.max(...lags.swaps)) },
    memory_mb: {
      before: round(before.resident / MB),
      peak: round(peak / MB),
      after: round(after.resident / MB),
      anonymous: [round(before.anonymous / MB), round(after.anonymous / MB)],
      back_after_s: round(backMs / 1000),
    },
  };
  report.passed =
    report.failed === 0 &&
    report.mixed === 0 &&
    report.p99_ratio <= TARGET.p99Ratio &&
    after.resident <= before.resident * TARGET.memoryRatio &&
    backMs <= TARGET.memorySeconds * 1000;
  for (const failure of result.failures) say(`failed: ${failure}`);
  for (const answer of result.mixed) say(`mixed: ${JSON.stringify(answer)}`);
  process.stdout.write(`${JSON.stringify(report, null, flags.json ? 0 : 2)}\n`);
  process.exitCode = report.passed ? 0 : 1;
} finally {
  load.kill();
  server.kill();
}

function summary(values) {
  const sorted = Float64Array.from(values).sort();
  const at = (share) => round(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]);
  return { count: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1) };
}

function round(value, digits = 2) {
  return Number(value.toFixed(digits));
}
