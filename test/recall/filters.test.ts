/** Filters of every selectivity over an index that is large enough to be listed, probed and walked. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadAddon, type NativeIndex } from '../../src/ann/addon.js';
import { recallOf } from '../../src/ann/calibrate.js';
import { encode, writeNpy } from '../support/npy.js';
import { twoTower } from '../support/two-tower.js';

const [ROWS, USERS, DIMS, K] = [100_000, 100, 16, 10];

describe('filters', () => {
  const folder = mkdtempSync(join(tmpdir(), 'belfry-filters-'));
  const { items, users } = twoTower(ROWS, USERS, DIMS, 5);
  let index: NativeIndex;

  beforeAll(async () => {
    const path = join(folder, 'items.npy');
    const out = join(folder, 'items.graph');
    writeNpy(path, { shape: [ROWS, DIMS], data: encode(items, '<f4') });
    const matrix = await loadAddon().openMatrix(path);
    await loadAddon().prepareGraph({ matrix, metric: 'cosine', out, vectors: 'test' }).run();
    index = await loadAddon().createIndex({ matrix, metric: 'cosine', graph: { path: out, vectors: 'test' } });
  });
  afterAll(() => {
    index.close();
    rmSync(folder, { recursive: true });
  });

  const bits = (allows: (row: number) => boolean): Uint8Array => {
    const bitmap = new Uint8Array(Math.ceil(ROWS / 8));
    for (let row = 0; row < ROWS; row++) if (allows(row)) bitmap[row >> 3]! |= 1 << (row & 7);
    return bitmap;
  };
  const scattered = (share: number) => bits((row) => (Math.imul(row + 1, 0x9e3779b1) >>> 0) / 2 ** 32 < share);

  it.each([
    ['one row in two', scattered(0.5), 'filtered walk'],
    ['one row in five', scattered(0.2), 'filtered walk'],
    ['one row in eight', scattered(0.125), 'filtered probe'],
    ['one row in eleven', scattered(0.09), 'filtered probe'],
    ['one row in a hundred', scattered(0.01), 'list'],
    // Allowed rows lie together, far from most users.
    ['the rows above a bound', bits((row) => items[row * DIMS]! > 1.8), 'filtered probe'],
  ] as const)('%s', async (_, filter, path) => {
    const search = { queries: users, k: K, filter };
    const exact = await index.search({ ...search, mode: 'exact' });
    const truth = Float32Array.from({ length: USERS }, (_one, q) => exact.scores[q * K + K - 1]!);
    const hits = await index.search({ ...search, mode: 'walk', ef: 200, stop: 1.3 });
    expect(hits).toMatchObject({ path, fallbacks: 0 });
    expect([...new Set(hits.counts)]).toEqual([K]);
    for (const row of hits.rows) expect(filter[row >> 3]! & (1 << (row & 7)), `row ${row}`).not.toBe(0);
    expect(recallOf(hits, K, truth).recall).toBeGreaterThanOrEqual(0.95);
    const least = await index.search({ ...search, mode: 'walk', ef: K });
    expect(least.scored).toBeLessThan(path === 'list' ? Infinity : hits.scored);
  });

  it('excluded rows are not answered by a probe, and k still are', async () => {
    const filter = scattered(0.1);
    const first = await index.search({ queries: users, k: 50, mode: 'walk', ef: 200, filter });
    const exclude = Uint32Array.from(new Set(first.rows));
    const hits = await index.search({ queries: users, k: K, mode: 'walk', ef: 100, filter, exclude });
    expect([...new Set(hits.counts)]).toEqual([K]);
    expect([...hits.rows].filter((row) => exclude.includes(row))).toEqual([]);
  });
});
