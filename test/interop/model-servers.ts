/** Real model servers for tests: started on a free port, ready when they answer, ended with their standard input. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readModelsFolder } from '../../src/config/models-folder.js';
import type { TensorData } from '../../src/types.js';
import { SAMPLE } from '../support/folders.js';
import { type Environment, environment, hasPython, runPython, scriptPath } from './python.js';

/** Debian's own Python sees Debian's PyTorch; the wheels on PyPI hold gigabytes of CUDA. */
const DEBIAN_PYTHON = '/usr/bin/python3';
export const TRITON: Environment = { requirements: 'triton.txt', python: DEBIAN_PYTHON, seesSystem: true };
const DCN_MODEL = join(SAMPLE, 'exported/torchscript/dcn_v2.pt');
export const KSERVE: Environment = { requirements: 'kserve.txt', python: 'python3' };

/** False where there is no PyTorch: then the tests are skipped, except in CI. */
export function hasTorch(): boolean {
  const isThere = existsSync(DEBIAN_PYTHON) && spawnSync(DEBIAN_PYTHON, ['-c', 'import torch, venv']).status === 0;
  if (!isThere && process.env.CI) throw new Error('the Triton tests need: apt-get install python3-torch python3-venv');
  return isThere && hasPython;
}

/** Inputs of the sample's DCN-v2 in the order of its forward(), as its registry row binds them: [name, dtype, width]. */
export const DCN_INPUTS: readonly [name: string, dtype: string, width: number][] = (() => {
  const row = readModelsFolder(SAMPLE).models.find(({ name }) => name === 'dcn-v2');
  const inputs = row!.inputs as Record<string, { dtype: string; width?: number; pack?: { width?: number }[] }>;
  return Object.entries(inputs).map(([name, { dtype, width = 1, pack }]) => [
    name,
    dtype,
    pack === undefined ? width : pack.reduce((sum, part) => sum + (part.width ?? 1), 0),
  ]);
})();

export interface ModelServerProcess {
  readonly url: string;
  /** Gone in the middle of whatever it does. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** The sample's DCN-v2 on Triton, as `dcn-v2`. */
export function startTriton(port?: number): Promise<ModelServerProcess> {
  return start(TRITON, 'serve_triton.py', [DCN_MODEL, 'dcn-v2'], [JSON.stringify(DCN_INPUTS)], port);
}

/** The sample's DLRM on KServe's server, as `dlrm`. */
export function startKserve(): Promise<ModelServerProcess> {
  return start(KSERVE, 'serve_kserve.py', [join(SAMPLE, 'exported/onnx/dlrm.onnx'), 'dlrm'], []);
}

/** The first candidates of a user in retrieval order and their scores by the sample's DCN-v2, from NumPy and PyTorch. */
export async function torchScores(
  user: string,
  count: number,
  folder: string,
): Promise<{ readonly ids: string[]; readonly scores: number[] }> {
  const inputs = join(folder, `${user}.npz`);
  const { item_ids } = JSON.parse(await runPython('rerank.py', [SAMPLE, user, String(count), 'DCN-v2', inputs]));
  const names = JSON.stringify(DCN_INPUTS.map(([name]) => name));
  const scores = JSON.parse(await runPython('torch_scores.py', [DCN_MODEL, inputs, names], TRITON)) as number[];
  return { ids: item_ids as string[], scores };
}

/** Scores by PyTorch of inputs that are given. */
export async function torchScoresOf(inputs: Readonly<Record<string, TensorData>>, folder: string): Promise<number[]> {
  const file = join(folder, 'inputs.json');
  const plain = Object.entries(inputs).map(([name, { dims, data, dtype }]) => [
    name,
    { dtype, dims, data: Array.from(data as Float32Array, Number) },
  ]);
  writeFileSync(file, JSON.stringify(Object.fromEntries(plain)));
  const names = JSON.stringify(DCN_INPUTS.map(([name]) => name));
  return JSON.parse(await runPython('torch_scores.py', [DCN_MODEL, file, names], TRITON)) as number[];
}

async function start(
  within: Environment,
  script: string,
  before: readonly string[],
  after: readonly string[],
  wanted?: number,
): Promise<ModelServerProcess> {
  const port = wanted ?? (await freePort());
  const child = spawn(environment(within), [scriptPath(script), ...before, String(port), ...after], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ORT_DISABLE_TELEMETRY: '1' },
  });
  let log = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-10_000)));
  const url = `http://127.0.0.1:${port}`;
  const name = before[1]!;
  for (let tries = 0; ; tries++) {
    if (child.exitCode !== null || tries > 600) {
      child.kill('SIGKILL');
      throw new Error(`${script} did not get ready: ${log}`);
    }
    if (await answers(`${url}/v2/models/${name}/ready`)) break;
    await sleep(100);
  }
  return {
    url,
    kill: () => end(child, () => killTree(child)),
    stop: () => end(child, () => child.stdin!.end()),
  };
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(1000) })).status === 200;
  } catch {
    return false;
  }
}

async function end(child: ChildProcess, how: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  how();
  await Promise.race([gone, sleep(15_000).then(() => killTree(child))]);
}

/** Triton is a child of its Python process, and would outlive it. */
function killTree(child: ChildProcess): void {
  const children = spawnSync('ps', ['-o', 'pid=', '--ppid', String(child.pid)])
    .stdout.toString()
    .split(/\s+/);
  for (const pid of children.filter((one) => one !== '')) execFileSync('kill', ['-9', pid]);
  child.kill('SIGKILL');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
