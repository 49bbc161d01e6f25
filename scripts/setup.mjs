// Makes a checkout runnable: checks the tools, installs the packages, builds the addon and the TypeScript.
// Built-in modules only: this runs before anything is installed. `npm run setup` forces every step (or those
// named), `ensure.mjs` runs only the stale ones.
import { spawnSync } from 'node:child_process';
import { cpSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root, run, withLock, writeStamp } from './steps.mjs';

const MIN_NODE = [20, 19];

/** Names everything that is missing, with the command that installs it, and stops. */
export function checkTools({ native }) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < MIN_NODE[0] || (major === MIN_NODE[0] && minor < MIN_NODE[1])) {
    fail(
      `Belfry needs Node.js ${MIN_NODE.join('.')} or newer; this is ${process.versions.node}. Install Node.js 22 or 24.`,
    );
  }
  if (!native) return;
  const has = (command) => spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
  const missing = [];
  if (!has('cmake')) missing.push('cmake');
  if (!process.env.CXX && !has('c++') && !has('g++') && !has('clang++')) missing.push('g++');
  if (!has('ninja') && !has('make')) missing.push('ninja-build');
  if (missing.length > 0) {
    const cure =
      process.platform === 'darwin'
        ? 'xcode-select --install; brew install cmake ninja'
        : `apt-get install -y ${missing.join(' ')}`;
    fail(`The native core needs ${missing.join(', ')}. Install with:\n  ${cure}`);
  }
}

export const STEPS = {
  install() {
    // The skip keeps onnxruntime-node's postinstall from fetching GPU libraries; the CPU provider is in the package.
    run('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], 'install packages', {
      ONNXRUNTIME_NODE_INSTALL: 'skip',
    });
  },
  native() {
    run(process.execPath, ['scripts/build-native.mjs'], 'build the native core');
  },
  typescript() {
    // Compiled beside and renamed: whoever runs from dist/ meanwhile never finds it half empty.
    const made = join(root, 'dist.new');
    rmSync(made, { recursive: true, force: true });
    const tsc = join('node_modules', 'typescript', 'bin', 'tsc');
    const web = join('src', 'console', 'web');
    run(process.execPath, [tsc, '-p', 'tsconfig.json', '--outDir', made], 'compile the TypeScript');
    const page = ['-p', join(web, 'tsconfig.json'), '--outDir', join(made, 'console', 'web')];
    run(process.execPath, [tsc, ...page], 'compile the console page');
    cpSync(join(root, web), join(made, 'console', 'web'), {
      recursive: true,
      filter: (path) => !path.endsWith('.ts') && !path.endsWith('tsconfig.json'),
    });
    rmSync(join(root, 'dist'), { recursive: true, force: true });
    renameSync(made, join(root, 'dist'));
  },
};

export function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const wanted = process.argv.slice(2);
  const unknown = wanted.find((name) => !(name in STEPS));
  if (unknown !== undefined) fail(`setup: no step ${unknown}; steps: ${Object.keys(STEPS).join(', ')}`);
  const names = wanted.length > 0 ? wanted : Object.keys(STEPS);
  checkTools({ native: names.includes('native') });
  withLock(() => {
    for (const name of names) {
      STEPS[name]();
      writeStamp(name);
    }
  });
}
