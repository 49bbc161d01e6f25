/** Our closed loop against wrk, on one server whose latency is known: the same throughput and the same percentiles. */
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { measuresOf } from '../../src/bench/load/measures.js';
import { planLoad } from '../../src/bench/load/options.js';
import { percentileMs } from '../../src/bench/load/recording.js';
import { runLoad } from '../../src/bench/load/run-load.js';
import { median } from '../../src/bench/statistics.js';
import { send, serve } from '../support/load-target.js';

const SECONDS = 4;
const CLIENTS = 24;
const MS: Record<string, number> = { us: 0.001, ms: 1, s: 1000 };

interface Judged {
  readonly rate: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

async function byWrk(url: string): Promise<Judged> {
  const words = ['-t1', `-c${CLIENTS}`, `-d${SECONDS}s`, '--latency', url];
  const { stdout } = await promisify(execFile)('wrk', words);
  const at = (percentile: number): number => {
    const [, value, unit] = new RegExp(`^\\s+${percentile}%\\s+([\\d.]+)(us|ms|s)`, 'm').exec(stdout)!;
    return Number(value) * MS[unit!]!;
  };
  return { rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)![1]), p50: at(50), p90: at(90), p99: at(99) };
}

async function byUs(target: Awaited<ReturnType<typeof serve>>['target']): Promise<Judged> {
  const plan = planLoad({ keep: 0, closed: CLIENTS, seconds: SECONDS, warmupSeconds: 0.5 });
  const mix = {
    requests: [{ path: '/', method: 'GET' as const, headers: [], body: null }],
    order: Uint32Array.of(0),
    truth: [],
    description: '',
  };
  const { recording, windowMs } = await runLoad(target, mix, plan);
  const { throughput, window } = measuresOf(recording.windows, windowMs);
  const at = (percentile: number) => percentileMs(window.latency, percentile) as number;
  return { rate: throughput, p50: at(50), p90: at(90), p99: at(99) };
}

describe.skipIf(spawnSync('wrk', ['-v']).error !== undefined)('bench load beside wrk', () => {
  it('sees the same throughput and percentiles in a closed loop', async () => {
    let count = 0;
    // 60 ms, one in five 180 ms, one in fifty 450 ms: p50 60, p90 180, p99 450.
    const { url, target } = await serve((_request, response) => {
      const i = count++;
      setTimeout(() => send(response), i % 50 === 0 ? 450 : i % 5 === 1 ? 180 : 60);
    });
    // In turns: where the machine is busy with other things, wrk's own runs differ, and we may differ as they do.
    const theirs: Judged[] = [];
    const ours: Judged[] = [];
    for (let turn = 0; turn < 3; turn++) {
      theirs.push(await byWrk(url));
      ours.push(await byUs(target));
    }
    for (const key of ['rate', 'p50', 'p90', 'p99'] as const) {
      const wrk = theirs.map((one) => one[key]);
      const we = median(ours.map((one) => one[key]));
      const told = `${key}: wrk ${wrk.join(', ')}, we ${we}`;
      expect(we, told).toBeGreaterThan(Math.min(...wrk) * 0.95);
      expect(we, told).toBeLessThan(Math.max(...wrk) * 1.05);
    }
  });
});
