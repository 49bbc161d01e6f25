// The other benches of the project, for `npm run bench:full`: each in a process of its own, one after the other. One that
// cannot run here is a row that says why, and what to install.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** Name, script, its options, and those of a small run that only shows that all of it works. */
const OTHERS = [
  ['generator', 'generator.mjs', [], ['--seconds', '1']],
  ['exact search', 'exact.mjs', [], ['--seconds', '0.2', '--repeats', '1', '--limit', '20000']],
  ['filters', 'filters.mjs', [], ['--rows', '20000', '--runs', '5']],
  ['upserts', 'upserts.mjs', [], ['--items', '5000', '--deltas', '0,100', '--seconds', '0.3']],
  [
    'peers',
    'index.mjs',
    ['--engines', 'all'],
    ['--engines', 'all', '--dataset', 'sample', '--query-count', '100', '--repeats', '1', '--seconds', '0.05'],
  ],
];

/** @returns {Promise<{name: string, seconds: number, result: string}[]>} a row a bench, and a row a peer that is absent */
export async function runOthers({ out, small, say }) {
  const rows = [];
  for (const [name, script, options, few] of OTHERS) {
    const words = [join('bench', script), ...(small ? few : options)];
    if (name === 'peers') words.push('--out', join(out, 'peers'));
    say(`\n> ${words.join(' ')}`);
    const started = performance.now();
    const { code, said } = await run(words);
    rows.push({
      name,
      seconds: Math.round((performance.now() - started) / 1000),
      result: code === 0 ? 'done' : `failed: ${said.trim().split('\n').at(-1) ?? `ended with ${code}`}`,
    });
  }
  const report = join(out, 'peers', 'report.json');
  if (existsSync(report))
    for (const [name, { absent }] of Object.entries(JSON.parse(readFileSync(report, 'utf8')).engines))
      if (absent !== undefined) rows.push({ name: `peer ${name}`, seconds: 0, result: `absent: ${absent}` });
  return rows;
}

function run(words) {
  return new Promise((done) => {
    const child = spawn(process.execPath, words, { cwd: ROOT, stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk) => {
      process.stderr.write(chunk);
      said = (said + chunk).slice(-4000);
    });
    child.once('error', (error) => done({ code: 1, said: error.message }));
    child.once('exit', (code, signal) => done({ code, said: signal === null ? said : `ended by ${signal}` }));
  });
}
