// What setup and ensure share: running a step, the stamp of what was built from which sources, and the lock.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const stampFile = join(root, '.setup-stamp.json');
const lockDir = join(root, '.setup-lock');

/** What each step is made from, and the file that it must have left behind. */
const SOURCES = {
  install: { inputs: ['package-lock.json'], output: 'node_modules/.package-lock.json' },
  native: { inputs: ['CMakeLists.txt', 'native', 'scripts/build-native.mjs'], output: 'build/Release/belfry.node' },
  typescript: { inputs: ['tsconfig.json', 'src', 'package-lock.json'], output: 'dist/cli/main.js' },
};

/** Runs a command; shows what it does in one line, its output only when it fails. */
export function run(command, args, title, env = {}) {
  process.stderr.write(`belfry: ${title} ...`);
  const started = performance.now();
  const result = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (result.status === 0) {
    process.stderr.write(` ${((performance.now() - started) / 1000).toFixed(1)} s\n`);
    return;
  }
  process.stderr.write(` failed\n${result.stdout ?? ''}${result.stderr ?? ''}`);
  process.stderr.write(
    `belfry: could not ${title}: ${result.error?.message ?? `exit code ${result.status}`} (${command} ${args.join(' ')})\n`,
  );
  rmSync(lockDir, { recursive: true, force: true });
  process.exit(1);
}

function hashPath(hash, path) {
  const full = join(root, path);
  if (!existsSync(full)) return;
  const entries = readdirSafe(full);
  if (entries === undefined) {
    hash.update(path).update(readFileSync(full));
    return;
  }
  for (const name of entries) hashPath(hash, join(path, name));
}

function readdirSafe(path) {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (error.code === 'ENOTDIR') return undefined;
    throw error;
  }
}

function fingerprint(step) {
  const hash = createHash('sha256').update(`${process.platform} ${process.arch}`);
  for (const input of SOURCES[step].inputs) hashPath(hash, input);
  return hash.digest('hex');
}

function readStamps() {
  try {
    return JSON.parse(readFileSync(stampFile, 'utf8'));
  } catch {
    return {}; // absent or half-written: every step is stale, which is always safe
  }
}

export function staleSteps() {
  const stamps = readStamps();
  return Object.keys(SOURCES).filter(
    (step) => stamps[step] !== fingerprint(step) || !existsSync(join(root, SOURCES[step].output)),
  );
}

export function writeStamp(step) {
  writeFileSync(stampFile, `${JSON.stringify({ ...readStamps(), [step]: fingerprint(step) }, null, 2)}\n`);
}

/** Two npm scripts started together must not install into one folder: the second waits. */
export function withLock(action) {
  const deadline = Date.now() + 15 * 60_000;
  for (;;) {
    try {
      mkdirSync(lockDir);
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const owner = Number(readOwner());
    if ((owner && !isAlive(owner)) || Date.now() > deadline) rmSync(lockDir, { recursive: true, force: true });
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
  }
  writeFileSync(join(lockDir, 'pid'), String(process.pid));
  try {
    return action();
  } finally {
    rmSync(lockDir, { recursive: true, force: true });
  }
}

function readOwner() {
  try {
    return readFileSync(join(lockDir, 'pid'), 'utf8');
  } catch {
    return ''; // the owner is between mkdir and write: look again
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
