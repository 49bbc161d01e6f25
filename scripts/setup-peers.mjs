#!/usr/bin/env node
// Installs the benchmark peers: npm packages into bench/data/peers, and with --python the Python ones, each into a virtual
// environment of its own under ~/.cache/belfry/peers. One that cannot be installed is named with the reason; the others go on.
//   npm run setup:peers [-- --python] [-- --only NAME,NAME]
// hnswlib-node compiles through node-gyp, which would download Node's headers; they are taken from this Node's own install,
// or from the npm package node-<platform>-<arch>.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { npmFolder as folder, pythonFolder } from '../bench/peers/packages.mjs';

/** Pinned: figures are compared over time. usearch 2.26 and lancedb 0.38 need Node 22. */
const NPM_PEERS = {
  'hnswlib-node': '3.0.0',
  usearch: '2.25.3',
  '@zvec/zvec': '0.7.0',
  '@lancedb/lancedb': '0.37.1',
};
const PYTHON_PEERS = {
  hnswlib: '0.8.0',
  'faiss-cpu': '1.15.1',
  scann: '1.4.2',
  'scalable-vs': '0.5.0',
  pyvsag: '0.18.5',
  ngt: '2.8.0.post1',
  rabitqlib: '0.7.1',
  lorann: '1.0.1',
  voyager: '2.2.3',
};

const { values: flags } = parseArgs({
  options: { python: { type: 'boolean', default: false }, only: { type: 'string' } },
});
const absent = [];
for (const name of flags.only?.split(',') ?? []) {
  if (name in NPM_PEERS || name in PYTHON_PEERS) continue;
  process.stderr.write(
    `belfry: --only: no peer '${name}'; there are ${[...Object.keys(NPM_PEERS), ...Object.keys(PYTHON_PEERS)].join(', ')}\n`,
  );
  process.exit(1);
}

/** Runs a command. @throws Error with the end of what it printed */
function run(command, args, cwd) {
  const done = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 64 << 20 });
  if (done.status === 0) return;
  const printed = `${done.stdout ?? ''}${done.stderr ?? ''}`.trim().split('\n').slice(-4).join(' ');
  throw new Error(`${command} ${args[0]} ended with ${done.status ?? done.error?.message}: ${printed}`);
}

function installNpm(...specs) {
  // Scripts of peers do not run; LanceDB's peer dependencies are large and not needed.
  const options = ['--ignore-scripts', '--legacy-peer-deps', '--no-audit', '--no-fund', '--silent'];
  run('npm', ['install', ...options, ...specs], folder);
}

function headersFolder() {
  const own = dirname(dirname(process.execPath));
  if (existsSync(join(own, 'include', 'node', 'node_api.h'))) return own;
  const name = `node-${process.platform}-${process.arch}`;
  installNpm(`${name}@${process.versions.node.split('.')[0]}`);
  return join(folder, 'node_modules', name);
}

function compileHnswlib() {
  const npm = execFileSync('npm', ['root', '--global'], { encoding: 'utf8' }).trim();
  const gyp = join(npm, 'npm', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
  if (!existsSync(gyp)) throw new Error(`npm's own node-gyp is not at ${gyp}; update npm`);
  run(process.execPath, [gyp, 'rebuild', `--nodedir=${headersFolder()}`], join(folder, 'node_modules', 'hnswlib-node'));
}

function setUpNpm(name, version) {
  installNpm(`${name}@${version}`);
  const require = createRequire(join(folder, 'package.json'));
  if (name === 'hnswlib-node') {
    try {
      require(name);
    } catch {
      compileHnswlib();
    }
  }
  require(name);
}

function setUpPython(name, version) {
  const environment = join(pythonFolder, name);
  const python = join(environment, 'bin', 'python');
  try {
    if (!existsSync(python)) run('python3', ['-m', 'venv', environment], '.');
    run(
      python,
      ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', `${name}==${version}`, 'numpy'],
      '.',
    );
  } catch (error) {
    rmSync(environment, { recursive: true, force: true }); // a half-made one would count as installed
    throw error;
  }
}

function each(peers, setUp, where) {
  for (const [name, version] of Object.entries(peers)) {
    if (flags.only !== undefined && !flags.only.split(',').includes(name)) continue;
    try {
      setUp(name, version);
      process.stdout.write(`${name}@${version} is ready in ${where}\n`);
    } catch (error) {
      absent.push(name);
      process.stderr.write(`belfry: ${name}@${version} is absent: ${error.message}\n`);
    }
  }
}

mkdirSync(folder, { recursive: true });
if (!existsSync(join(folder, 'package.json'))) writeFileSync(join(folder, 'package.json'), '{"private":true}\n');
each(NPM_PEERS, setUpNpm, 'bench/data/peers');
if (flags.python) {
  mkdirSync(pythonFolder, { recursive: true });
  each(PYTHON_PEERS, setUpPython, pythonFolder);
}
// The bench runs with what is there; a peer that was asked for by name and is absent is a failure.
if (flags.only !== undefined && absent.length > 0) process.exitCode = 1;
