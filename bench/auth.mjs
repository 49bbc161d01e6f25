// What a key costs a request: `npm run -s build && node bench/auth.mjs [--json]`. Medians of rounds in turn, in microseconds;
// wrong keys beside right ones, because they must take the same time.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KeyRing } from '../dist/access/key-ring.js';
import { makeKey } from '../dist/access/keys.js';

const KEYS = 1000;
const CALLS = 20_000;
const ROUNDS = 15;

const folder = mkdtempSync(join(tmpdir(), 'belfry-auth-'));
const made = Array.from({ length: KEYS }, () => makeKey());
const keys = made.map(({ id, sha256 }, i) => ({
  id,
  name: `key ${i}`,
  scopes: ['retrieve'],
  sha256,
  created: '2026-01-01T00:00:00Z',
  requests_per_second: 1e9,
  requests_per_day: 1e12,
}));
writeFileSync(join(folder, 'keys.json'), JSON.stringify({ version: 1, keys }), { mode: 0o600 });
const ring = KeyRing.open(join(folder, 'keys.json'));

const right = made[500].key;
const changed = (at) => right.slice(0, at) + (right[at] === 'A' ? 'B' : 'A') + right.slice(at + 1);
const cases = {
  'right key': right,
  'right key, rate and quota': right,
  'wrong in its first character': changed(18),
  'wrong in its last character': changed(right.length - 1),
  'of nobody': makeKey().key,
  'not a key': 'x'.repeat(right.length),
};

function round(name, text) {
  const isLimited = name.includes('quota');
  const from = process.hrtime.bigint();
  for (let i = 0; i < CALLS; i++) {
    const caller = ring.find(text);
    if (isLimited) caller.allowance.take(1);
  }
  return Number(process.hrtime.bigint() - from) / 1000 / CALLS;
}

const times = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
for (let i = 0; i < ROUNDS; i++) for (const [name, text] of Object.entries(cases)) times[name].push(round(name, text));
ring.close();
rmSync(folder, { recursive: true });

const median = (list) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)];
const result = Object.fromEntries(
  Object.entries(times).map(([name, list]) => [name, Math.round(median(list) * 100) / 100]),
);
if (process.argv.includes('--json')) console.log(JSON.stringify({ keys: KEYS, microseconds: result }));
else for (const [name, time] of Object.entries(result)) console.log(`${name.padEnd(30)} ${time.toFixed(2)} µs`);
