#!/usr/bin/env node
// Builds build/Release/belfry.node from source with cmake-js. No network: headers come from npm packages.
// Quiet on success; on failure prints what went wrong, or which tool is missing and how to install it.
// `--stale-only` does nothing when the addon is newer than every native source.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const addon = join(root, 'build', 'Release', 'belfry.node');

const has = (tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).status === 0;

function fail(message) {
  process.stderr.write(`belfry: ${message}\n`);
  process.exit(1);
}

function newestMs(path) {
  const entry = statSync(path);
  if (!entry.isDirectory()) return entry.mtimeMs;
  return Math.max(entry.mtimeMs, ...readdirSync(path).map((name) => newestMs(join(path, name))));
}

if (process.argv.includes('--stale-only') && existsSync(addon)) {
  const sources = ['native', 'CMakeLists.txt'].map((name) => newestMs(join(root, name)));
  if (statSync(addon).mtimeMs > Math.max(...sources)) process.exit(0);
}

const install =
  process.platform === 'darwin'
    ? 'xcode-select --install && brew install cmake'
    : 'apt-get install g++ cmake ninja-build';
if (!has('cmake')) fail(`cmake is missing. Install it with: ${install}`);
if (!has('c++') && !has('g++') && !has('clang++')) fail(`a C++20 compiler is missing. Install it with: ${install}`);
const ninja = has('ninja');
if (!ninja && !has('make')) fail(`ninja or make is missing. Install one with: ${install}`);

let cmakeJs;
try {
  const require = createRequire(join(root, 'package.json'));
  cmakeJs = join(dirname(require.resolve('cmake-js/package.json')), 'bin', 'cmake-js');
} catch {
  fail('the npm package cmake-js is missing. Install the dependencies with: npm run setup');
}

const run = spawnSync(
  process.execPath,
  [
    cmakeJs,
    'compile',
    '--directory',
    root,
    '--out',
    join(root, 'build'),
    '--config',
    'Release',
    '--generator',
    ninja ? 'Ninja' : 'Unix Makefiles',
    '--parallel',
    String(Math.max(1, cpus().length)),
  ],
  { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20, stdio: ['ignore', 'pipe', 'pipe'] },
);
if (run.status !== 0) {
  process.stderr.write(`${run.stdout ?? ''}${run.stderr ?? ''}`);
  fail(`the native addon did not compile (cmake-js ended with ${run.status ?? run.signal}); the reason is above`);
}
if (!existsSync(addon)) fail(`cmake-js ended well but left no ${addon}`);
