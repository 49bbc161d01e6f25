#!/usr/bin/env node
// Builds the benchmark peer hnswlib-node 3.0.0 into bench/data/peers. It compiles through node-gyp, which would download
// Node's headers; they are taken from this Node's own install, or from the npm package node-<platform>-<arch>.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = join(dirname(fileURLToPath(import.meta.url)), '..', 'bench', 'data', 'peers');
const PEER = 'hnswlib-node@3.0.0';

function fail(message) {
  process.stderr.write(`belfry: ${message}\n`);
  process.exit(1);
}

function install(spec) {
  const done = spawnSync('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--silent', spec], {
    cwd: folder,
    encoding: 'utf8',
  });
  if (done.status !== 0) fail(`npm could not install ${spec}: ${done.stderr}`);
}

function headersFolder() {
  const own = dirname(dirname(process.execPath));
  if (existsSync(join(own, 'include', 'node', 'node_api.h'))) return own;
  const name = `node-${process.platform}-${process.arch}`;
  install(`${name}@${process.versions.node.split('.')[0]}`);
  return join(folder, 'node_modules', name);
}

mkdirSync(folder, { recursive: true });
if (!existsSync(join(folder, 'package.json'))) writeFileSync(join(folder, 'package.json'), '{"private":true}\n');
install(PEER);
const npm = execFileSync('npm', ['root', '--global'], { encoding: 'utf8' }).trim();
const gyp = join(npm, 'npm', 'node_modules', 'node-gyp', 'bin', 'node-gyp.js');
if (!existsSync(gyp)) fail(`npm's own node-gyp is not at ${gyp}; update npm`);
const built = spawnSync(process.execPath, [gyp, 'rebuild', `--nodedir=${headersFolder()}`], {
  cwd: join(folder, 'node_modules', 'hnswlib-node'),
  encoding: 'utf8',
  maxBuffer: 64 << 20,
});
if (built.status !== 0) fail(`${PEER} did not compile:\n${built.stdout}${built.stderr}`);
createRequire(join(folder, 'package.json'))('hnswlib-node');
process.stdout.write(`${PEER} is ready in bench/data/peers\n`);
