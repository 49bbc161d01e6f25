// How long filters take over a table of random columns, through the library: `npm run -s bench:filters -- --rows 1000000`.
// Prints one JSON object: hand-over time and bytes of the columns, and for each filter the share of rows that pass and
// the best and median milliseconds of its runs, on `--threads` threads (1).
import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { loadAddon } from '../dist/ann/addon.js';
import { FeatureTable } from '../dist/features/feature-table.js';
import { ItemFilters } from '../dist/generation/item-filters.js';
import { Random } from './datasets/random.mjs';

const { values: flags } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    threads: { type: 'string', default: '1' },
    runs: { type: 'string', default: '50' },
  },
});
const [rows, threads, runs] = [flags.rows, flags.threads, flags.runs].map(Number);

const stream = new Random(1);
const random = () => stream.uniform();
const below = (limit) => stream.integer(limit);
const skewed = (limit) => Math.floor(random() ** 3 * limit); // low ones are much more frequent
const words = (count, prefix = 'w') => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
const codes = (make) => Int32Array.from({ length: rows }, make);
const offsets = Uint32Array.from({ length: rows + 1 }, (_, row) => row * 3);
const titles = words(rows, 'the title of item ');
const table = FeatureTable.fromColumns([
  { kind: 'number', name: 'id', values: Float64Array.from({ length: rows }, (_, row) => row) },
  { kind: 'string', name: 'section', codes: codes(() => skewed(50)), dictionary: words(50) },
  { kind: 'string', name: 'title', codes: codes((_, row) => row), dictionary: titles },
  { kind: 'number', name: 'price', values: Float64Array.from({ length: rows }, () => random() * 100) },
  { kind: 'boolean', name: 'free', values: Uint8Array.from({ length: rows }, () => below(3)) },
  {
    kind: 'string_list',
    name: 'tags',
    offsets,
    codes: Int32Array.from({ length: rows * 3 }, () => skewed(1000)),
    dictionary: words(1000),
  },
  {
    kind: 'number_list',
    name: 'years',
    offsets,
    values: Float64Array.from({ length: rows * 3 }, () => 1980 + below(40)),
  },
]);
const thousand = Array.from({ length: 1000 }, (_, i) => i);
const FILTERS = {
  'one section': { must: [{ field: 'section', eq: 'w0' }] },
  'one of five sections': { must: [{ field: 'section', in: words(5) }] },
  'one of a thousand titles': { must: [{ field: 'title', in: titles.slice(5000, 6000) }] },
  'one of a thousand ids': { must: [{ field: 'id', in: thousand.map((i) => i + 5000) }] },
  'a boolean': { must: [{ field: 'free', eq: true }] },
  'all of three tags': { must: [{ field: 'tags', all: ['w0', 'w1', 'w2'] }] },
  'a range of prices': { must: [{ field: 'price', gte: 10, lt: 50 }] },
  'one of a thousand prices': { must: [{ field: 'price', in: thousand }] },
  'a range of years, lists of three': { must: [{ field: 'years', gte: 2000, lt: 2005 }] },
  'two sections, a price, not two tags': {
    must: [
      { field: 'section', in: ['w0', 'w1'] },
      { field: 'price', lte: 20 },
    ],
    must_not: [{ field: 'tags', in: ['w5', 'w6'] }],
  },
};

const started = performance.now();
// Without a cache: each run evaluates.
const filters = await ItemFilters.open(table, (id) => (id < rows ? id : undefined), { threads, cacheBytes: 0 });
const report = {
  rows,
  threads,
  cpu: loadAddon().cpu.model,
  handOverMs: performance.now() - started,
  bytes: filters.bytes,
};
report.filters = [];
for (const [name, filter] of Object.entries(FILTERS)) {
  const times = [];
  let count = 0;
  for (let run = 0; run < runs; run++) {
    const begin = performance.now();
    const admitted = await filters.evaluate(filter);
    times.push(performance.now() - begin);
    count = admitted.count;
    admitted.close();
    await setImmediate();
  }
  times.sort((a, b) => a - b);
  const ms = (value) => Number(value.toFixed(3));
  report.filters.push({ name, share: count / rows, bestMs: ms(times[0]), medianMs: ms(times[runs >> 1]) });
}
filters.close();
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
