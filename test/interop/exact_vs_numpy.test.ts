/** Exact search against NumPy, on random data and on the sample's item embeddings, for every kernel set of this CPU. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { loadAddon, type NativeMatrix } from '../../src/ann/addon.js';
import { METRICS } from '../../src/types.js';
import { randomVectors } from '../support/judge.js';
import { encode, writeNpy } from '../support/npy.js';
import { hasPython, runPython } from './python.js';

interface Answer {
  readonly rows: number[][];
  readonly scores: number[][];
  readonly scores_f32: number[][];
}

const addon = loadAddon();
const folder = mkdtempSync(join(tmpdir(), 'belfry-numpy-'));
afterAll(() => rmSync(folder, { recursive: true }));

const sample = (name: string) => fileURLToPath(new URL(`../../embeddings/sample/embeddings/${name}`, import.meta.url));
const K = 25;

async function writeQueries(name: string, matrix: NativeMatrix, rows: Uint32Array): Promise<Float32Array> {
  const queries = matrix.readRows(rows);
  writeNpy(join(folder, name), { shape: [rows.length, matrix.dims], data: encode(queries, '<f4') });
  return queries;
}

async function compare(itemsPath: string, queriesName: string, queries: Float32Array): Promise<void> {
  const matrix = await addon.openMatrix(itemsPath);
  const { dims } = matrix;
  for (const metric of METRICS) {
    const numpy = JSON.parse(
      await runPython('exact.py', [itemsPath, join(folder, queriesName), metric, String(K)]),
    ) as Answer;
    for (const kernel of addon.kernels) {
      const index = await addon.createIndex({ matrix, metric, kernel });
      for (const mode of ['exact', 'f32'] as const) {
        const hits = await index.search({ queries, k: K, mode });
        numpy.rows.forEach((rows, q) => {
          const scores = numpy.scores[q]!;
          rows.forEach((row, i) => {
            const at = q * K + i;
            const tolerance = 1e-6 * Math.max(Math.abs(scores[i]!), 1);
            expect(Math.abs(hits.scores[at]! - scores[i]!)).toBeLessThanOrEqual(tolerance);
            expect(Math.abs(hits.scores[at]! - numpy.scores_f32[q]![i]!)).toBeLessThanOrEqual(10 * tolerance);
            // Rows are NumPy's; where they are not, the scores tie within f64 rounding.
            const tied = rows.filter(
              (_, j) => Math.abs(scores[j]! - scores[i]!) <= 1e-12 * Math.abs(scores[i]!) + 1e-15,
            );
            if (hits.rows[at] !== row)
              expect(tied.length > 1 || i === K - 1, `${metric} ${kernel} query ${q}`).toBe(true);
          });
        });
      }
      index.close();
    }
  }
  expect(queries.length % dims).toBe(0);
  matrix.close();
}

describe.skipIf(!hasPython)('exact search equals NumPy', () => {
  it('random vectors', async () => {
    const path = join(folder, 'random.npy');
    writeNpy(path, { shape: [4_000, 48], data: encode(randomVectors(4_000, 48, 1), '<f4') });
    const other = join(folder, 'other.npy');
    writeNpy(other, { shape: [20, 48], data: encode(randomVectors(20, 48, 2), '<f4') });
    const matrix = await addon.openMatrix(other);
    const queries = await writeQueries(
      'random-queries.npy',
      matrix,
      Uint32Array.from({ length: 20 }, (_, i) => i),
    );
    await compare(path, 'random-queries.npy', queries);
  });

  it.skipIf(!existsSync(sample('item_embeddings.npy')))(
    'the sample: user embeddings against item embeddings',
    async () => {
      const users = await addon.openMatrix(sample('user_embeddings.npy'));
      const rows = Uint32Array.from({ length: 20 }, (_, i) => Math.floor((i * users.rows) / 20));
      const queries = await writeQueries('sample-queries.npy', users, rows);
      await compare(sample('item_embeddings.npy'), 'sample-queries.npy', queries);
    },
  );
});
