// An engine in a process of its own, pinned to one core: built once into a cache folder, then loaded and asked for trials.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { pythonOf } from '../peers/packages.mjs';
import { ENGINES } from '../trials.mjs';

const peers = join(dirname(fileURLToPath(import.meta.url)), '..', 'peers');
const hasTaskset = spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0;
const STDERR_KEPT = 2000;

/** The reason in a process's standard error: its last line that is no note of a runtime. */
function reasonIn(text) {
  const lines = text
    .trim()
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^(\s+at |Node\.js v|\s*\^)/.test(line));
  const error = lines.findLast((line) => /error|exception|not /i.test(line));
  return (error ?? lines.at(-1) ?? 'no reason given').trim().slice(0, 300);
}

function commandOf(engine, operation, task) {
  const text = JSON.stringify(task);
  if (ENGINES[engine].runtime === 'python') {
    // Glass is a module without an environment; any peer's has NumPy.
    const environment = ENGINES[engine].package ?? 'hnswlib';
    return [pythonOf(environment), join(peers, 'python', 'serve.py'), operation, text];
  }
  return [process.execPath, '--expose-gc', '--max-old-space-size=16384', join(peers, 'serve.mjs'), operation, text];
}

function pinned(command, cpu) {
  return hasTaskset && cpu !== undefined ? ['taskset', '-c', String(cpu), ...command] : command;
}

/** One build of one engine on one data set. */
export class EngineProcess {
  #child;
  #lines;
  #stderr = '';

  /** @param {object} build an entry of ENGINES[engine].builds */
  constructor(engine, build, { dataset, settings, truthPath }) {
    this.engine = engine;
    this.build = build;
    this.settings = settings;
    const key = createHash('sha256')
      .update(JSON.stringify([build.params, dataset.users]))
      .digest('hex')
      .slice(0, 12);
    this.folder = join(dataset.folder, engine, key);
    this.task = {
      adapter: ENGINES[engine].adapter,
      folder: this.folder,
      items: dataset.items,
      queries: dataset.queries,
      query_count: settings.queryCount,
      users: dataset.users,
      truth: truthPath,
      metric: dataset.metric,
      rows: dataset.rows,
      dims: dataset.dims,
      hash: dataset.hash,
      params: build.params,
      paths: settings.paths,
    };
  }

  /** Builds unless the cache has it. @returns the record of the build: build_s, threads, version. @throws Error with the reason */
  ensureBuilt() {
    const record = join(this.folder, 'build.json');
    if (existsSync(record) && !ENGINES[this.engine].rebuilt) return JSON.parse(readFileSync(record, 'utf8'));
    if (this.settings.cached && !ENGINES[this.engine].rebuilt)
      throw new Error('not in the cache, and --cached forbids to build it');
    const needed = ENGINES[this.engine].path;
    if (needed !== undefined && this.settings.paths[needed] === undefined) {
      throw new Error(`no path given; it is built by the user and named by --${needed}`);
    }
    process.stderr.write(`bench: building ${this.engine} ${JSON.stringify(this.build.params)}\n`);
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(this.folder, { recursive: true });
    const threads = this.settings.buildThreads;
    const command = commandOf(this.engine, 'build', { ...this.task, threads });
    const [program, ...args] = pinned(command, threads === 1 ? this.settings.cpu : undefined);
    const run = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe'], maxBuffer: 1 << 28 });
    if (run.status !== 0 || !existsSync(record)) {
      throw new Error(`the build ended with ${run.status ?? run.signal}: ${reasonIn(run.stderr ?? '')}`);
    }
    return JSON.parse(readFileSync(record, 'utf8'));
  }

  /** Loads the index. @returns {Promise<{ before: object, after: object, own_bytes: number | null }>} */
  async start() {
    const command = commandOf(this.engine, 'serve', { ...this.task, threads: 1 });
    const [program, ...args] = pinned(command, this.settings.cpu);
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdin.on('error', () => {}); // its end is seen on stdout
    this.#child.stderr.setEncoding('utf8').on('data', (text) => {
      this.#stderr = (this.#stderr + text).slice(-STDERR_KEPT);
    });
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    return this.#answer();
  }

  async #answer() {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) {
        const { exitCode, signalCode } = this.#child;
        throw new Error(`the process ended (${signalCode ?? exitCode ?? 'closed'}): ${reasonIn(this.#stderr)}`);
      }
      if (!value.startsWith('{')) continue; // a library that prints
      const message = JSON.parse(value);
      if (message.error !== undefined) throw new Error(message.error);
      return message;
    }
  }

  /** One trial. @returns what the process answered: queries and seconds, or qps and recall of its own count */
  async trial(params, { k = this.settings.k, seconds = this.settings.seconds } = {}) {
    this.out = join(this.folder, 'rows.i32');
    this.#child.stdin.write(`${JSON.stringify({ params, k, seconds, out: this.out })}\n`);
    return this.#answer();
  }

  /** Rows of the last trial, as many as were answered. */
  rows() {
    const bytes = readFileSync(this.out);
    return new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  }

  async stop() {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end();
    const timer = setTimeout(() => child.kill('SIGKILL'), 5_000);
    await ended;
    clearTimeout(timer);
  }
}
