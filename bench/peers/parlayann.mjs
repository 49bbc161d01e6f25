// ParlayANN's `neighbors` program of algorithms/vamana, built by the user and named by --parlayann. Each trial is a run of
// it, which loads, measures five rounds and prints. It returns no rows: the recall is its own count against our truth.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { median } from '../index/pareto.mjs';
import { npyHeader, readNpy } from '../datasets/npy.mjs';

/** Its binary format: rows and dims as u32, then the values. */
function writeBin(path, [rows, dims], ...values) {
  const file = openSync(`${path}.tmp`, 'w');
  writeSync(file, new Uint8Array(Uint32Array.of(rows, dims).buffer));
  for (const part of values) {
    const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at, Math.min(1 << 26, bytes.length - at));
  }
  closeSync(file);
  renameSync(`${path}.tmp`, path);
  return path;
}

const QPS_LINE = /search: Q=\d+, k=\d+,.*? recall=([\d.e+-]+),.*QPS=([\d.e+-]+)/g;

export function open(task) {
  const program = task.paths.parlayann;
  const graph = join(task.folder, 'graph');
  const common = [
    '-data_type',
    'float',
    '-dist_func',
    task.metric === 'l2' ? 'Euclidian' : 'mips',
    '-file_type',
    'bin',
    '-verbose',
  ];
  if (task.metric === 'cosine') common.push('-normalize');
  const { R, L, alpha, passes } = task.params;
  const env = { ...process.env, PARLAY_NUM_THREADS: String(task.threads) };
  const files = {};
  let peak = 0;
  return {
    version: 'built by the user',
    build() {
      const items = writeBin(join(task.folder, 'items.fbin'), [task.rows, task.dims], readNpy(task.items));
      const args = ['-R', R, '-L', L, '-alpha', alpha, '-num_passes', passes, '-quantize_bits', 8, '-quantize_mode', 1];
      const run = spawnSync(program, [...args.map(String), ...common, '-graph_outfile', graph, '-base_path', items], {
        env,
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      });
      const built = /Graph built in ([\d.e+-]+) seconds/.exec(run.stdout);
      if (run.status !== 0 || built === null)
        throw new Error(`${program} did not build: ${run.stderr || run.stdout}`.slice(0, 500));
      return { build_s: Number(built[1]) };
    },
    load(queries) {
      const { dims: width } = npyHeader(task.truth);
      const truth = readNpy(task.truth, 0, task.query_count);
      files.items = join(task.folder, 'items.fbin');
      files.queries = writeBin(join(task.folder, 'queries.fbin'), [task.query_count, task.dims], queries);
      const distances = new Float32Array(truth.length); // present in the format, not read
      files.truth = writeBin(join(task.folder, 'truth.bin'), [task.query_count, width], truth, distances);
    },
    /** The largest resident set of a run: it holds the f32 vectors too, and cannot let go of them. */
    wholeProcess: () => peak,
    async trial({ beam }, k) {
      const args = [
        '-graph_path',
        graph,
        '-base_path',
        files.items,
        '-query_path',
        files.queries,
        '-gt_path',
        files.truth,
      ];
      const own = ['-quantize_bits', 16, '-quantize_mode', 1, '-rerank_factor', 2, '-k', k, '-Q', beam, '-R', R];
      const run = spawn(program, [...args, ...own.map(String), ...common], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      for (const stream of [run.stdout, run.stderr]) stream.setEncoding('utf8').on('data', (part) => (text += part));
      const watch = setInterval(() => (peak = Math.max(peak, residentOf(run.pid))), 100);
      const status = await new Promise((resolve, reject) => run.on('close', resolve).on('error', reject));
      clearInterval(watch);
      const lines = [...text.matchAll(QPS_LINE)];
      if (status !== 0 || lines.length === 0) throw new Error(`${program} ended with ${status}: ${text.slice(-300)}`);
      // The first round is its warm-up.
      return {
        recall: Number(lines[0][1]),
        qps: median(lines.slice(1).map((line) => Number(line[2]))),
        counted_by: 'engine',
      };
    },
  };
}

function residentOf(pid) {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0; // it has just ended
  }
}
