#!/usr/bin/env node
// Builds and runs the native tests without Node's headers.
//   (nothing)          as users' machines build them
//   --sanitize         with ASan + UBSan, then with TSan
//   --rounds N         N times, each round with other seeds; a nightly run. A failed round is run again with
//                      BELFRY_TEST_ROUND=<its number> in the environment.
//   --fuzz             the libFuzzer targets under ASan + UBSan (needs clang); each for --seconds N, 20 by default
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const FUZZ_TARGETS = { fuzz_index_file: 32_768, fuzz_npy: 12_000 }; // name → longest input in bytes

function run(command, args, options = {}) {
  const done = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20, ...options });
  if (done.error)
    fail(`${command} cannot be run (${done.error.message}). Install it with: apt-get install g++ cmake ninja-build`);
  if (done.status !== 0) {
    process.stderr.write(`${done.stdout ?? ''}${done.stderr ?? ''}`);
    fail(`${command} ${args.join(' ')} ended with ${done.status ?? done.signal}`);
  }
  return `${done.stdout ?? ''}${done.stderr ?? ''}`;
}

function fail(message) {
  process.stderr.write(`belfry: ${message}\n`);
  process.exit(1);
}

/** The whole number behind a flag. */
function numberOf(flag, otherwise) {
  const at = process.argv.indexOf(flag);
  if (at < 0) return otherwise;
  const value = Number(process.argv[at + 1]);
  if (!Number.isInteger(value) || value < 1)
    fail(`${flag}: expected a whole number from 1, received ${process.argv[at + 1] ?? 'nothing'}`);
  return value;
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
  const rounds = numberOf('--rounds', 1);
  const first = Number(process.env.BELFRY_TEST_ROUND ?? 0);
  for (let round = first; round < first + rounds; ++round) {
    const env = { ...process.env, BELFRY_TEST_ROUND: String(round) };
    const output = run('ctest', ['--test-dir', folder, '--output-on-failure'], { env });
    const title = rounds > 1 ? `${folder}, round ${round}` : folder;
    process.stdout.write(`${title}: ${/\d+% tests passed.*/.exec(output)?.[0] ?? output}\n`);
  }
}

/** clang alone is not enough: the fuzzer's library is a package of its own on Debian. */
function checkFuzzer() {
  if (process.platform !== 'linux') fail(`the fuzz targets need Linux, this is ${process.platform}`);
  const source = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n';
  const tried = spawnSync('clang++', ['-x', 'c++', '-fsanitize=fuzzer,address', '-o', '/dev/null', '-'], {
    input: source,
    encoding: 'utf8',
  });
  const cure = 'Install it with: apt-get install clang libclang-rt-dev';
  if (tried.error) fail(`clang++ is missing. ${cure}`);
  if (tried.status !== 0) fail(`clang++ has no libFuzzer. ${cure}\n${tried.stderr}`);
}

function fuzz(seconds) {
  checkFuzzer();
  const folder = 'build-fuzz';
  build(folder, ['-DBELFRY_FUZZ=ON', '-DBELFRY_SANITIZE=address,undefined'], { CXX: 'clang++' });
  for (const [target, longest] of Object.entries(FUZZ_TARGETS)) {
    const program = `${folder}/test/native/${target}`;
    const seeds = `${folder}/seeds/${target}`;
    const corpus = `${folder}/corpus/${target}`; // grows from run to run
    for (const path of [seeds, corpus]) mkdirSync(join(root, path), { recursive: true });
    run(program, ['--seeds', seeds]);
    const output = run(program, [
      corpus,
      seeds,
      `-max_total_time=${seconds}`,
      `-max_len=${longest}`,
      `-artifact_prefix=${folder}/${target}-`,
      '-print_final_stats=1',
    ]);
    const speed = /average_exec_per_sec:\s*(\d+)/.exec(output)?.[1];
    process.stdout.write(`${target}: ${seconds} s, ${speed} inputs/s, no finding\n`);
  }
}

if (process.argv.includes('--fuzz')) {
  fuzz(numberOf('--seconds', 20));
} else if (process.argv.includes('--sanitize')) {
  test('build-asan', ['-DBELFRY_SANITIZE=address,undefined']);
  test('build-tsan', ['-DBELFRY_SANITIZE=thread']);
} else {
  test('build-native', []);
}
