#!/usr/bin/env node
// Formats native/ and test/native/ with clang-format; `--check` changes nothing and fails on a difference.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const check = process.argv.includes('--check');

const files = ['native', 'test/native'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true })
    .filter((name) => /\.(cpp|hpp)$/.test(name))
    .map((name) => join(folder, name)),
);

const version = spawnSync('clang-format', ['--version'], { encoding: 'utf8' });
if (version.status !== 0) {
  // A missing formatter must not pass for a clean check where it counts.
  process.stderr.write('belfry: clang-format is missing; install it with: apt-get install clang-format\n');
  process.exit(check && !process.env.CI ? 0 : 1);
}
const run = spawnSync('clang-format', check ? ['--dry-run', '--Werror', ...files] : ['-i', ...files], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(run.status ?? 1);
