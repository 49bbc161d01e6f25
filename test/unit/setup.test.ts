/** What a fresh machine lacks is named with the command that installs it, before anything is touched. */
import { spawnSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../support/folders.js';

const setup = fileURLToPath(new URL('../../scripts/setup.mjs', import.meta.url));

it.skipIf(process.platform === 'darwin')('names a missing CMake, compiler and make', () => {
  const path = temporaryFolder();
  symlinkSync(process.execPath, join(path, 'node'));
  const { CXX: _compiler, ...environment } = process.env;
  const { status, stderr } = spawnSync(process.execPath, [setup, 'native'], {
    env: { ...environment, PATH: path },
    encoding: 'utf8',
  });
  expect([status, stderr]).toEqual([
    1,
    'The native core needs cmake, g++, ninja-build. Install with:\n  apt-get install -y cmake g++ ninja-build\n',
  ]);
});

it('names a step that is not there', () => {
  const { status, stderr } = spawnSync(process.execPath, [setup, 'natve'], { encoding: 'utf8' });
  expect([status, stderr]).toEqual([1, 'setup: no step natve; steps: install, native, typescript\n']);
});
