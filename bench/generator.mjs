// How fast is the generator of `belfry bench load`? Against a server that does nothing, each pinned to a core of its own where
// there is `taskset`; wrk, where it is installed, beside it. `node bench/generator.mjs --seconds 5 --json`
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { availableParallelism } from 'node:os';

const { values: flags } = parseArgs({
  options: { seconds: { type: 'string', default: '5' }, json: { type: 'boolean', default: false } },
});
const MAIN = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const NOOP = fileURLToPath(new URL('./generator/noop-server.mjs', import.meta.url));
const canPin = availableParallelism() > 1 && spawnSync('taskset', ['-V']).status === 0;
const pinned = (cpu, words) => (canPin ? ['taskset', '-c', String(cpu), ...words] : words);

const [program, ...words] = pinned(0, [process.execPath, NOOP]);
const server = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] });
const url = await new Promise((resolve) => server.stdout.once('data', (chunk) => resolve(String(chunk).trim())));

function load(...options) {
  const base = [process.execPath, MAIN, 'bench', 'load', '--url', url, '--users', 'a,b,c', '--duration', flags.seconds];
  const [run, ...rest] = pinned(1, [...base, '--workers', '1', '--json', ...options]);
  const ended = spawnSync(run, rest, { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (ended.status !== 0) throw new Error(ended.stderr);
  const report = JSON.parse(ended.stdout);
  const own = Object.fromEntries(report.tables.find(({ id }) => id === 'generator').rows);
  const value = (name) => report.summary.find((metric) => metric.name === name).value;
  return {
    requests_per_second: Math.round(value('throughput')),
    p50_ms: value('latency_p50'),
    p99_ms: value('latency_p99'),
    late_p99_ms: own['late by, p99 ms'],
    busy_share: own['loop busy, share of the time'],
    cores: own['CPU, cores'],
    failed: value('failed'),
  };
}

function wrk() {
  const [run, ...rest] = pinned(1, ['wrk', '-t1', '-c64', `-d${flags.seconds}s`, '--latency', `${url}/retrieve`]);
  const ended = spawnSync(run, rest, { encoding: 'utf8' });
  if (ended.status !== 0) return undefined;
  return { requests_per_second: Math.round(Number(/Requests\/sec:\s+([\d.]+)/.exec(ended.stdout)[1])) };
}

try {
  const rows = {
    'closed loop, 64 clients': load('--closed', '64'),
    'open loop at 30,000/s': load('--rate', '30000'),
    'open loop at 5,000/s': load('--rate', '5000'),
    'open loop at 5,000/s, timer': load('--rate', '5000', '--pace', 'timer'),
    'wrk, 64 connections': wrk() ?? { absent: 'wrk is not installed' },
  };
  if (flags.json) process.stdout.write(`${JSON.stringify({ pinned: canPin, rows }, undefined, 1)}\n`);
  else console.table(rows);
} finally {
  server.kill();
}
