// Leaves in node_modules only what serving needs on this platform: no development packages, no build tools, and of
// onnxruntime-node (291 MB with every platform) only this platform's CPU library.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './steps.mjs';

const BUILD_ONLY = ['cmake-js', 'node-api-headers', 'node-addon-api'];
const manifest = join(root, 'package.json');

// As arguments of one uninstall, npm also removes what only these needed.
execFileSync('npm', ['uninstall', '--no-save', '--omit=dev', '--no-audit', '--no-fund', ...BUILD_ONLY], {
  cwd: root,
  stdio: 'inherit',
});

const binaries = join(root, 'node_modules', 'onnxruntime-node', 'bin', 'napi-v6');
if (!existsSync(binaries))
  throw new Error(`${binaries} is not there: onnxruntime-node has moved its binaries, correct ${import.meta.url}`);
for (const platform of readdirSync(binaries)) {
  for (const arch of readdirSync(join(binaries, platform))) {
    if (platform !== process.platform || arch !== process.arch)
      rmSync(join(binaries, platform, arch), { recursive: true });
  }
}
if (!existsSync(manifest)) throw new Error('package.json is gone');
