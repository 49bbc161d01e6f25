/** The recall of a graph on the sample, as NumPy counts it, is the recall that the calibration's count gives. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadAddon } from '../../src/ann/addon.js';
import { recallOf } from '../../src/ann/calibrate.js';
import { VectorIndex } from '../../src/ann/vector-index.js';
import { SAMPLE } from '../support/folders.js';
import { encode, writeNpy } from '../support/npy.js';
import { hasPython, runPython } from './python.js';

const folder = mkdtempSync(join(tmpdir(), 'belfry-recall-'));
afterAll(() => rmSync(folder, { recursive: true }));

const items = join(SAMPLE, 'embeddings/item_embeddings.npy');
const users = join(SAMPLE, 'embeddings/user_embeddings.npy');
const QUERIES = 500;

describe.skipIf(!hasPython || !existsSync(items))('recall by NumPy', () => {
  it('equals ours, for answers that are good and for answers that are not', async () => {
    const out = join(folder, 'items.graph');
    await VectorIndex.buildGraph({ path: items, users, metric: 'ip', out });
    const index = await VectorIndex.open({ path: items, metric: 'ip', graph: out });

    const matrix = await loadAddon().openMatrix(users);
    const rows = Uint32Array.from({ length: QUERIES }, (_, i) => Math.floor((i * matrix.rows) / QUERIES));
    const queries = matrix.readRows(rows);
    const queriesPath = writeNpy(join(folder, 'queries.npy'), {
      shape: [QUERIES, matrix.dims],
      data: encode(queries, '<f4'),
    });
    matrix.close();

    const seen: number[] = [];
    for (const [k, ef] of [
      [10, 10],
      [10, 30],
      [100, 100],
      [100, 400],
    ] as const) {
      const exact = await index.search(queries, { k, exact: true });
      const truth = Float32Array.from(exact.counts, (_, q) => exact.scores[q * k + k - 1]!);
      const hits = await index.search(queries, { k, ef });
      expect(hits.plan.effort.mode).toBe('walk');
      const rowsPath = writeNpy(join(folder, `${k}-${ef}.npy`), {
        descr: '<i4',
        shape: [QUERIES, k],
        data: new Uint8Array(hits.rows.buffer, hits.rows.byteOffset, hits.rows.byteLength),
      });
      const numpy = JSON.parse(await runPython('recall.py', [items, queriesPath, rowsPath])) as { recall: number };
      const { recall } = recallOf(hits, k, truth);
      expect(recall).toBeCloseTo(numpy.recall, 10);
      seen.push(recall);
    }
    expect(new Set(seen).size).toBe(4);
    expect(Math.min(...seen)).toBeLessThan(0.99);
    expect(Math.max(...seen)).toBeGreaterThan(0.97);
    index.close();
  });
});
