#!/usr/bin/env node
// Builds and runs the native tests without Node's headers. `--sanitize` builds them with ASan + UBSan and with TSan
// instead; `--fuzz SECONDS` runs the libFuzzer target (needs clang).
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20, ...options });
  if (done.error)
    fail(`${command} cannot be run (${done.error.message}). Install it with: apt-get install g++ cmake ninja-build`);
  if (done.status !== 0) {
    process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? ''}`);
    fail(`${command} ${args.join(' ')} ended with ${done.status ?? done.signal}`);
  }
  return done.stdout ?? '';
}

function fail(message) {
  process.stderr.write(`belfry: ${message}\n`);
  process.exit(1);
}

const hasNinja = spawnSync('ninja', ['--version'], { stdio: 'ignore' }).status === 0;

function build(folder, definitions, env = {}) {
  const options = { env: { ...process.env, ...env } };
  run(
    'cmake',
    ['-S', '.', '-B', folder, ...(hasNinja ? ['-G', 'Ninja'] : []), '-DBELFRY_WERROR=ON', ...definitions],
    options,
  );
  run('cmake', ['--build', folder, '--parallel', String(cpus().length)], options);
}

function test(folder, definitions) {
  build(folder, ['-DBELFRY_NATIVE_TESTS=ON', ...definitions]);
  const output = run('ctest', ['--test-dir', folder, '--output-on-failure']);
  process.stdout.write(`${folder}: ${/\d+% tests passed.*/.exec(output)?.[0] ?? output}\n`);
}

const fuzz = process.argv.indexOf('--fuzz');
if (fuzz > 0) {
  const seconds = process.argv[fuzz + 1] ?? '30';
  build('build-fuzz', ['-DBELFRY_FUZZ=ON', '-DBELFRY_SANITIZE=address,undefined'], { CXX: 'clang++' });
  mkdirSync(join(root, 'build-fuzz', 'corpus'), { recursive: true });
  run('build-fuzz/test/native/fuzz_npy_header', [
    'build-fuzz/corpus',
    'test/native/corpus',
    `-max_total_time=${seconds}`,
    '-max_len=12000',
    '-artifact_prefix=build-fuzz/',
  ]);
  process.stdout.write(`fuzz_npy_header: ${seconds} s, no finding\n`);
} else if (process.argv.includes('--sanitize')) {
  test('build-asan', ['-DBELFRY_SANITIZE=address,undefined']);
  test('build-tsan', ['-DBELFRY_SANITIZE=thread']);
} else {
  test('build-native', []);
}
