/** Real servers of features and models for tests: on a free port, ready when they answer, gone with the test. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Environment, environment, scriptPath } from './python.js';

export const FEAST: Environment = { requirements: 'feast.txt', python: 'python3' };
export const MLFLOW: Environment = { requirements: 'mlflow.txt', python: 'python3' };

/** Debian's package; a machine without it reports a skip, CI a failure. */
export function hasRedis(): boolean {
  const isThere = spawnSync('redis-server', ['--version']).status === 0;
  if (!isThere && process.env.CI) throw new Error('the Redis tests need: apt-get install -y redis-server');
  return isThere;
}

export interface DataServer {
  readonly url: string;
  readonly child: ChildProcess;
  /** One line of JSON in, one out. */
  ask(command: object): Promise<Record<string, unknown>>;
  stop(): Promise<void>;
}

export async function startRedis(folder: string, port?: number, more: readonly string[] = []): Promise<DataServer> {
  const at = port ?? (await freePort());
  const child = spawn(
    'redis-server',
    ['--port', String(at), '--dir', folder, '--save', '', '--appendonly', 'no', ...more],
    {
      stdio: ['pipe', 'pipe', 'pipe'],
    },
  );
  return ready(
    child,
    `redis://127.0.0.1:${at}`,
    () => spawnSync('redis-cli', ['-p', String(at), 'ping']).stdout.length > 0,
  );
}

export async function startFeast(folder: string, users: object): Promise<DataServer> {
  const port = await freePort();
  const python = environment(FEAST);
  const child = spawn(python, [scriptPath('serve_feast.py'), folder, String(port), JSON.stringify(users)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const url = `http://127.0.0.1:${port}`;
  return ready(child, url, () => answers(`${url}/health`));
}

export async function startMlflow(folder: string): Promise<DataServer> {
  const port = await freePort();
  const child = spawn(environment(MLFLOW), [scriptPath('serve_mlflow.py'), folder, String(port)], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const url = `http://127.0.0.1:${port}`;
  return ready(child, url, () => answers(`${url}/health`), true);
}

async function ready(
  child: ChildProcess,
  url: string,
  isReady: () => boolean | Promise<boolean>,
  talks = false,
): Promise<DataServer> {
  let log = '';
  child.stderr!.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-10_000)));
  const lines = talks ? createInterface({ input: child.stdout! })[Symbol.asyncIterator]() : undefined;
  if (!talks) child.stdout!.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-10_000)));
  for (let tries = 0; !(await isReady()); tries++) {
    if (child.exitCode !== null || tries > 1200) {
      end(child);
      throw new Error(`${url} did not get ready: ${log}`);
    }
    await sleep(100);
  }
  if (lines !== undefined) await lines.next();
  return {
    url,
    child,
    async ask(command) {
      child.stdin!.write(`${JSON.stringify(command)}\n`);
      const line = await lines!.next();
      if (line.done === true) throw new Error(`it ended: ${log}`);
      return JSON.parse(line.value) as Record<string, unknown>;
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      end(child);
      await Promise.race([gone, sleep(10_000).then(() => child.kill('SIGKILL'))]);
    },
  };
}

/** Our Python scripts end, with the servers that they started, when their input does. */
function end(child: ChildProcess): void {
  if (child.spawnfile === 'redis-server') child.kill('SIGKILL');
  else child.stdin!.end();
}

async function answers(url: string): Promise<boolean> {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(1000) })).status === 200;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
