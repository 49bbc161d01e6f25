/** The figures of `belfry bench recall` are those that NumPy computes from the answers, on data with ties and duplicates. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { benchRecall } from '../../src/bench/recall/recall-bench.js';
import { buildGeneration } from '../../src/generation/build.js';
import { Generation } from '../../src/generation/generation.js';
import type { Metric } from '../../src/types.js';
import { recallOptions } from '../support/bench-recall.js';
import { makeModelsFolder, SAMPLE } from '../support/folders.js';
import { seeded } from '../support/judge.js';
import { encode, writeNpy } from '../support/npy.js';
import { twoTower } from '../support/two-tower.js';
import { hasPython, runPython } from './python.js';

const folder = mkdtempSync(join(tmpdir(), 'belfry-bench-recall-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Every third item is a copy of another one, a few of them many times over. */
function withDuplicates(items: Float32Array, dims: number): Float32Array {
  const random = seeded(3);
  const rows = items.length / dims;
  for (let row = 0; row < rows; row += 3) {
    const from = Math.floor(random() ** 4 * rows);
    items.copyWithin(row * dims, from * dims, (from + 1) * dims);
  }
  return items;
}

/** Small whole numbers: many products are exactly equal. */
const coarse = (values: Float32Array): Float32Array =>
  values.map((value) => Math.max(-3, Math.min(3, Math.round(value))));

interface DataSet {
  readonly name: string;
  readonly metric: Metric;
  models(): string;
}

function made(name: string, metric: Metric, change: (values: Float32Array) => Float32Array): DataSet {
  return {
    name,
    metric,
    models() {
      const { items, users, dims } = twoTower(9_000, 4_000, 24, 11);
      return makeModelsFolder(join(folder, `models-${metric}`), {
        items: { data: withDuplicates(change(items), dims), dims },
        users: { data: change(users).map((value, at) => (at % dims === 0 ? value + 1 : value)), dims },
        files: { 'embeddings/export.json': JSON.stringify({ metric }) },
      });
    },
  };
}

const SETS: DataSet[] = [
  { name: 'the sample', metric: 'ip', models: () => SAMPLE },
  made('whole numbers with duplicates', 'ip', coarse),
  made('distances with ties and duplicates', 'l2', coarse),
  made('directions with duplicates', 'cosine', (values) => values),
];

describe.skipIf(!hasPython)('bench recall against NumPy', () => {
  it.each(SETS)(
    '$name, $metric: recall and MRR to the last digit, NDCG to twelve',
    async ({ metric, models }) => {
      const generation = await Generation.load(
        await buildGeneration({ models: models(), data: join(folder, `data-${metric}-${Math.random()}`) }),
      );
      const ks = [1, 10, 50, 100, 500];
      const result = await benchRecall(generation, recallOptions(folder, { ks, recall: 0.8, queries: 400 }));
      const { dims } = generation.items;
      const queries = writeNpy(join(folder, 'queries.npy'), {
        shape: [result.queries.count, dims],
        data: encode(result.queries.vectors, '<f4'),
      });
      // The walks of the sweep at k 10 as well: of little effort, so that there is something to miss.
      const points = [...result.served, ...result.points.filter(({ asking }) => 'ef' in asking)];
      const paths = points.map(({ k, lists }, at) =>
        writeNpy(join(folder, `rows-${at}.npy`), {
          descr: '<i4',
          shape: [lists.counts.length, k],
          data: new Uint8Array(lists.rows.buffer, lists.rows.byteOffset, lists.rows.byteLength),
        }),
      );
      const items = join(generation.folder, generation.manifest.items.file);
      const output = await runPython('bench_recall.py', [items, queries, metric, ...paths]);
      const numpy = output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { k: number; recall: number; mrr: number; ndcg: number });
      expect(points.map(({ k, recall }) => ({ k, recall: recall.value }))).toEqual(
        numpy.map(({ k, recall }) => ({ k, recall })),
      );
      result.served.forEach(({ mrr, ndcg }, at) => {
        expect(mrr.value).toBe(numpy[at]!.mrr);
        expect(ndcg.value).toBeCloseTo(numpy[at]!.ndcg, 12);
      });
      expect(new Set(points.map(({ recall }) => recall.value)).size).toBeGreaterThan(3);
      expect(Math.min(...points.map(({ recall }) => recall.value))).toBeLessThan(0.99);
      await generation.close();
    },
    120_000,
  );

  it('the script is no echo: other rows, other figures', async () => {
    const rows = Int32Array.of(0, 1, 2, 3);
    const values = Float32Array.of(1, 0, 0, 1, 2, 0, 0, 3);
    const items = writeNpy(join(folder, 'few.npy'), { shape: [4, 2], data: encode(values, '<f4') });
    const query = writeNpy(join(folder, 'query.npy'), { shape: [1, 2], data: encode([1, 0], '<f4') });
    const write = (name: string, own: Int32Array) =>
      writeNpy(join(folder, name), {
        descr: '<i4',
        shape: [1, own.length],
        data: new Uint8Array(own.buffer.slice(own.byteOffset, own.byteOffset + own.byteLength)),
      });
    const output = await runPython('bench_recall.py', [
      items,
      query,
      'ip',
      write('good.npy', Int32Array.of(2)),
      write('bad.npy', rows.subarray(1, 2)),
      write('half.npy', rows.subarray(1, 3)),
    ]);
    const found = output
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { recall: number }).recall);
    expect(found).toEqual([1, 0, 0.5]);
  });
});
