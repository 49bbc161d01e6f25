// Replays the Dockerfile without a container engine: each stage is a folder, COPY copies (through .dockerignore), RUN
// runs, and the last stage's command must start, pass the HEALTHCHECK, answer, and stop. Fails when the Dockerfile has
// drifted from the project. What needs an engine (base images, apt, users) is recorded, not done.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from './steps.mjs';

const work = mkdtempSync(join(tmpdir(), 'belfry-docker-'));
const say = (text) => process.stderr.write(`docker replay: ${text}\n`);

function instructions() {
  const text = readFileSync(join(root, 'Dockerfile'), 'utf8').replace(/^#.*$/gm, '').replace(/\\\n/g, ' ');
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)
    .map((line) => {
      const [, name, rest] = /^(\S+)\s+(.*)$/.exec(line);
      return { name: name.toUpperCase(), rest };
    });
}

const ignored = readFileSync(join(root, '.dockerignore'), 'utf8')
  .split('\n')
  .map((line) => line.trim())
  .filter((line) => line && !line.startsWith('#'));

function isIgnored(path) {
  return ignored.some((pattern) => {
    const expression = new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replace(/\*/g, '[^/]*')}(/|$)`);
    return expression.test(path);
  });
}

/** Commands that only make sense in an image: they succeed and are listed. */
function makeShims(folder) {
  mkdirSync(folder);
  for (const name of ['apt-get', 'install', 'chown']) {
    writeFileSync(join(folder, name), `#!/bin/sh\necho "${name} $*" >> "${join(folder, 'calls')}"\n`);
    chmodSync(join(folder, name), 0o755);
  }
  writeFileSync(join(folder, 'calls'), '');
}

class Stage {
  constructor(name, shims) {
    this.name = name;
    this.root = join(work, name);
    this.env = {};
    this.directory = '/';
    this.shims = shims;
    mkdirSync(this.root, { recursive: true });
  }

  /** A path of the image as a path of this machine: nothing may touch the real root. */
  at(path) {
    return join(this.root, path.startsWith('/') ? path : join(this.directory, path));
  }

  rewrite(command) {
    return command.replace(/(^|[\s="'])\/(?=[A-Za-z])/g, `$1${this.root}/`);
  }

  environment(extra = {}) {
    const own = Object.fromEntries(
      Object.entries(this.env).map(([key, value]) => [key, value.startsWith('/') ? this.at(value) : value]),
    );
    const { CI: _ci, ...outer } = process.env;
    return { ...outer, ...own, ...extra, PATH: `${this.shims}:${process.env.PATH}` };
  }
}

function copy(stage, stages, rest) {
  const words = rest.split(/\s+/);
  const from = words[0].startsWith('--from=') ? stages.get(words.shift().slice(7)) : undefined;
  const target = words.pop();
  for (const source of words) {
    const origin = from === undefined ? join(root, source) : from.at(source);
    if (!existsSync(origin))
      throw new Error(
        `COPY ${source}: there is no such file${from === undefined ? ' in the project' : ` in stage ${from.name}`}`,
      );
    if (from === undefined && isIgnored(source)) throw new Error(`COPY ${source}: .dockerignore leaves it out`);
    const into = target.endsWith('/') || words.length > 1 ? join(stage.at(target), basename(source)) : stage.at(target);
    const destination = statSync(origin).isDirectory() ? stage.at(target) : into;
    mkdirSync(dirname(destination), { recursive: true });
    cpSync(origin, destination, {
      recursive: true,
      filter: (path) => from !== undefined || !isIgnored(relative(root, path)),
    });
  }
}

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address();
  await new Promise((resolve) => {
    server.close(resolve);
  });
  return port;
}

function sizeOf(path) {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) return 0;
  return found.isDirectory() ? readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name)), 0) : found.size;
}

function replay() {
  const shims = join(work, 'shims');
  makeShims(shims);
  const stages = new Map();
  let stage;
  const last = {};
  for (const { name, rest } of instructions()) {
    if (name === 'FROM') {
      const [, alias] = /\bAS\s+(\S+)/i.exec(rest) ?? [];
      stage = new Stage(alias ?? 'final', shims);
      stages.set(stage.name, stage);
      say(`stage ${stage.name} (${rest.split(' ')[0]})`);
    } else if (name === 'WORKDIR') {
      stage.directory = rest;
      mkdirSync(stage.at(rest), { recursive: true });
    } else if (name === 'COPY') copy(stage, stages, rest);
    else if (name === 'ENV') for (const [, key, value] of rest.matchAll(/(\S+?)=(\S+)/g)) stage.env[key] = value;
    else if (name === 'RUN') {
      say(`RUN ${rest.replace(/\s+/g, ' ')}`);
      execFileSync('sh', ['-ec', stage.rewrite(rest)], {
        cwd: stage.at(''),
        env: stage.environment(),
        stdio: ['ignore', 'inherit', 'inherit'],
      });
    } else last[name] = rest;
  }
  return { stage, last, calls: readFileSync(join(shims, 'calls'), 'utf8') };
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}

async function main() {
  const { stage, last, calls } = replay();
  check(last.USER !== undefined && last.USER !== 'root', 'USER: the image must not run as root');
  check(/apt-get install .*g\+\+.*cmake/.test(calls), 'the build stage does not install g++ and cmake');
  for (const development of ['vitest', 'typescript', 'eslint', 'cmake-js']) {
    check(
      !existsSync(stage.at(`node_modules/${development}`)),
      `the image holds ${development}, which serving does not need`,
    );
  }
  say(`image content ${(sizeOf(stage.root) / 1e6).toFixed(0)} MB (without the base image)`);

  const port = await freePort();
  const models = stage.at(stage.env.BELFRY_MODELS);
  cpSync(stage.at('embeddings/sample'), models, { recursive: true });
  // Only this machine may reach it, whatever the image listens on.
  const env = stage.environment({ PORT: String(port), BELFRY_HOST: '127.0.0.1' });
  const command = [...JSON.parse(last.ENTRYPOINT), ...JSON.parse(last.CMD)];
  const server = spawn(command[0], command.slice(1), {
    cwd: stage.at(''),
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ended = new Promise((resolve) => {
    server.once('exit', (code) => resolve(code));
  });
  try {
    const health = JSON.parse(/CMD\s+(\[.*\])/.exec(last.HEALTHCHECK)[1]);
    const deadline = Date.now() + 60_000;
    for (;;) {
      try {
        execFileSync(health[0], health.slice(1), { env, stdio: 'ignore' });
        break;
      } catch {
        check(Date.now() < deadline && server.exitCode === null, 'the HEALTHCHECK did not pass within 60 s');
        await sleep(200);
      }
    }
    const response = await fetch(`http://127.0.0.1:${port}/retrieve`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ user_id: 'gimp', k: 10, rerank: true, timeout_ms: 1000 }),
    });
    const answer = await response.json();
    check(
      response.status === 200 && answer.returned === 10,
      `/retrieve answered ${response.status}: ${JSON.stringify(answer)}`,
    );
  } finally {
    server.kill('SIGTERM');
  }
  const code = await ended;
  check(code === 0, `the server ended with ${code} after SIGTERM`);
  say('every step works: built, started, healthy, answered, stopped');
}

try {
  await main();
} catch (error) {
  say(`FAILED: ${error.message}`);
  process.exitCode = 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}
