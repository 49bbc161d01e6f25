// The processes of the HTTP bench: servers with their CPU time, and the generator's thread.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
/** Ticks of /proc/<pid>/stat; 100 a second on every Linux that Node supports. */
const TICKS = 100;

export class Server {
  #child;

  /** @param {string[]} words arguments of node; the first line on stdout is JSON with `address` */
  static async start(name, words, environment = {}) {
    const server = new Server();
    server.name = name;
    server.#child = spawn(process.execPath, words, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    });
    const gone = once(server.#child, 'exit').then(([code]) => {
      throw new Error(`${name} ended with ${code} before it served`);
    });
    const [line] = await Promise.race([once(createInterface({ input: server.#child.stdout }), 'line'), gone]);
    gone.catch(() => undefined);
    Object.assign(server, JSON.parse(line), { pid: server.#child.pid });
    return server;
  }

  static belfry({ models, data }, workers, environment) {
    const many = workers === undefined ? [] : ['--workers', String(workers)];
    const words = ['serve', '--json', '--models', models, '--data', data, '--port', '0', '--log-level', 'warn'];
    return Server.start('belfry', [file('../../dist/cli/main.js'), ...words, ...many], environment);
  }

  static naive(task) {
    return Server.start('naive', [file('../peers/naive-server.mjs'), JSON.stringify(task)]);
  }

  /** CPU seconds of the process and its children so far; undefined where there is no /proc. */
  cpuSeconds() {
    return existsSync('/proc/self/stat')
      ? treeOf(this.#child.pid).reduce((sum, pid) => sum + cpuOf(pid), 0)
      : undefined;
  }

  /** Resident memory of the process and its children, MB; what they map together counts for each. */
  residentMb() {
    return Math.round(treeOf(this.#child.pid).reduce((sum, pid) => sum + residentOf(pid), 0) / 1e6);
  }

  /** p99 of the event loop's delay since the last call, milliseconds. */
  async loopDelayMs() {
    const text = await (await fetch(`${this.address}/metrics`)).text();
    const value = /^belfry_event_loop_delay_seconds\{quantile="0.99"\} (\S+)/m.exec(text)?.[1];
    return value === undefined ? undefined : Number(value) * 1000;
  }

  async stop() {
    if (this.#child.exitCode !== null) return;
    this.#child.kill();
    await once(this.#child, 'exit');
  }
}

function treeOf(pid) {
  const threads = readdirSync(`/proc/${pid}/task`);
  const children = threads.flatMap((tid) => {
    const text = readFileSync(`/proc/${pid}/task/${tid}/children`, 'utf8').trim();
    return text === '' ? [] : text.split(' ').map(Number);
  });
  return [pid, ...children.flatMap(treeOf)];
}

function cpuOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

function residentOf(pid) {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;
}

export class Load {
  #worker = new Worker(file('generator.mjs'));

  /** @see generator.mjs */
  async run(task) {
    const before = process.cpuUsage();
    const started = performance.now();
    this.#worker.postMessage({ seconds: 0, warmSeconds: 0, keep: false, ...task });
    const [{ result, error }] = await once(this.#worker, 'message');
    if (error !== undefined) throw new Error(`${task.address}: ${error}`);
    const { user, system } = process.cpuUsage(before);
    return { ...result, cores: (user + system) / 1000 / (performance.now() - started) };
  }

  stop() {
    return this.#worker.terminate();
  }
}
