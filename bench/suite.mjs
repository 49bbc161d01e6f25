// `npm run bench`: everything about the sample in under three minutes, by the tool that users have: recall, quality, load
// at a fixed rate, a ramp, and a load during swaps. `npm run bench:full` measures longer, and runs the other benches of this
// folder and the peers that are installed; `-- --small` only shows that all of it works. Writes one report with all plots,
// and the report of each part beside it. `--readme` puts the headline into README.md and docs/bench.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parseReport } from '../dist/bench/report/schema.js';
import { writeReport } from '../dist/bench/report/write.js';
import { suiteReport } from './suite/merge.mjs';
import { runOthers } from './suite/others.mjs';
import { writeReadme } from './suite/readme.mjs';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const MAIN = join(ROOT, 'dist', 'cli', 'main.js');
const { values: flags } = parseArgs({
  options: {
    out: { type: 'string', default: join(ROOT, 'bench', 'results', 'local') },
    full: { type: 'boolean', default: false },
    small: { type: 'boolean', default: false },
    readme: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});

const out = resolve(flags.out);
const data = mkdtempSync(join(tmpdir(), 'belfry-suite-'));
const started = new Date();
const say = (text) => process.stderr.write(`${text}\n`);

/** Runs one command to its end; its progress goes to ours. A gate that fails (3) still leaves a report. */
function run(words, { wanted = [0], cwd = ROOT } = {}) {
  say(
    `\n> ${words
      .slice(1)
      .map((word) => (word.startsWith('/') ? relative(ROOT, word) : word))
      .join(' ')}`,
  );
  return new Promise((done, fail) => {
    const child = spawn(words[0], words.slice(1), { cwd, stdio: ['ignore', 'ignore', 'inherit'] });
    child.once('error', fail);
    child.once('exit', (code) =>
      wanted.includes(code) ? done() : fail(new Error(`${words.slice(1).join(' ')} ended with ${code}`)),
    );
  });
}

const belfry = (...words) => run([process.execPath, MAIN, ...words]);

function startServer() {
  const child = spawn(process.execPath, [MAIN, 'serve', '--sample', '--data', data, '--port', '0', '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, BELFRY_LOG_LEVEL: 'error' },
  });
  const exited = new Promise((done) => child.once('exit', done));
  return new Promise((ready, fail) => {
    let said = '';
    exited.then((code) => fail(new Error(`belfry serve ended with ${code}: ${said}`)));
    child.stdout.on('data', (chunk) => {
      said += chunk;
      const line = said.split('\n').find((one) => one.includes('"ready":true'));
      if (line === undefined) return;
      ready({
        url: JSON.parse(line).address,
        stop: async () => {
          child.kill('SIGTERM');
          await exited;
        },
      });
    });
  });
}

/** Name and title of each part, and its command without --out. */
function partsOf(url) {
  const load = ['bench', 'load', '--url', url, '--data', data];
  const longer = (short, long) => String(flags.full && !flags.small ? long : short);
  const sample = ['--sample', '--data', data];
  return [
    ['recall', 'Recall', ['bench', 'recall', ...sample, '--repeats', longer(3, 7), '--queries', longer(1000, 5000)]],
    ['quality', 'Quality', ['bench', 'quality', ...sample, '--queries', longer(500, 5000)]],
    ['load', 'Load', [...load, '--rate', '500', '--duration', longer(10, 60), '--repeats', longer(1, 5)]],
    ['rerank', 'Load with re-ranking', [...load, '--rate', '50', '--rerank-share', '1', '--duration', longer(8, 60)]],
    [
      'ramp',
      'Ramp',
      [...load, '--ramp', longer('500:4000:500', '500:8000:250'), '--duration', longer(2, 10), '--timeout-ms', '2000'],
    ],
    ['swap', 'Load during swaps', [...load, '--rate', '300', '--duration', longer(12, 60), '--during', 'swap']],
  ];
}

try {
  mkdirSync(out, { recursive: true });
  await belfry('build', '--sample', '--data', data);
  await belfry('build', '--sample', '--data', data, '--force'); // the other side of the swaps
  const server = await startServer();
  const reports = [];
  try {
    for (const [name, title, words] of partsOf(server.url)) {
      await belfry(...words, '--out', join(out, name));
      const file = join(out, name, 'report.json');
      reports.push({ name, title, report: parseReport(readFileSync(file, 'utf8'), file) });
    }
  } finally {
    await server.stop();
  }
  const others = flags.full ? await runOthers({ out, small: flags.small, say }) : [];
  const command = `npm run ${flags.full ? 'bench:full' : 'bench'}${flags.small ? ' -- --small' : ''}`;
  const report = suiteReport(reports, { started, command, others });
  const files = await writeReport(report, out);
  if (flags.readme) files.unshift(...writeReadme(report, ROOT));
  if (flags.json) process.stdout.write(`${JSON.stringify(report, undefined, 1)}\n`);
  else {
    const { formatValue } = await import('../dist/bench/report/format.js');
    const width = Math.max(...report.summary.map(({ label }) => label.length));
    for (const { label, value, unit } of report.summary)
      process.stdout.write(`${label.padEnd(width)}  ${formatValue(value, unit)}\n`);
    for (const { name, seconds, result } of others)
      process.stdout.write(`${name.padEnd(width)}  ${result}${seconds > 0 ? ` (${seconds} s)` : ''}\n`);
    process.stdout.write(`\n${report.seconds.toFixed(0)} s in total; ${files.slice(0, 3).join(', ')}\n`);
  }
} finally {
  rmSync(data, { recursive: true, force: true });
}
