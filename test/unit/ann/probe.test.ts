/** Mode `probe` through the boundary: its option, what `info` says of the partitions, and what comes back. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadAddon, type NativeIndex, type NativeSearch } from '../../../src/ann/addon.js';
import { errorOf } from '../../support/errors.js';
import { randomVectors } from '../../support/judge.js';
import { matrixOf } from '../../support/matrix.js';

const addon = loadAddon();
const ROWS = 2_000;
const DIMS = 16;
const folder = mkdtempSync(join(tmpdir(), 'belfry-probe-'));
let index: NativeIndex;
let partitions: number;
const search = { queries: randomVectors(4, DIMS, 2), k: 3, mode: 'probe', probes: 1 } as const satisfies NativeSearch;

beforeAll(async () => {
  const matrix = await matrixOf(randomVectors(ROWS, DIMS, 1), DIMS);
  const graph = { path: join(folder, 'index.graph'), vectors: 'test' };
  await addon.prepareGraph({ matrix, metric: 'ip', out: graph.path, vectors: graph.vectors }).run();
  index = await addon.createIndex({ matrix, metric: 'ip', graph });
  partitions = index.info.graph?.partitions ?? 0;
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('mode probe', () => {
  it('gives the answer of codes when all partitions are probed', async () => {
    expect(partitions).toBeGreaterThan(10);
    const hits = await index.search({ ...search, probes: partitions });
    const codes = await index.search({ ...search, mode: 'codes' });
    expect(hits.path).toBe('probe');
    expect([hits.rows, hits.scores, hits.counts]).toEqual([codes.rows, codes.scores, codes.counts]);
    expect([hits.scored, hits.expanded, hits.fallbacks]).toEqual([4 * ROWS, 0, 0]);
  });

  it('passes over fewer rows with fewer probes', async () => {
    const hits = await index.search(search);
    expect(hits.scored).toBeGreaterThan(0);
    expect(hits.scored).toBeLessThan(ROWS);
    expect([...hits.counts]).toEqual([3, 3, 3, 3]);
  });

  it.each([undefined, 0, 1.5, '2', Number.NaN])('refuses probes: %s', async (probes) => {
    const shown = typeof probes === 'string' ? `"${probes}"` : String(probes);
    expect(await errorOf(() => index.search({ ...search, probes } as NativeSearch))).toBe(
      `BELFRY_INVALID_ARGUMENT probes: expected an integer from 1 to ${partitions}, received ${shown}`,
    );
  });

  it('refuses more probes than partitions, and an index without a graph', async () => {
    expect(await errorOf(() => index.search({ ...search, probes: partitions + 1 }))).toBe(
      `BELFRY_INVALID_ARGUMENT probes: expected an integer from 1 to ${partitions}, received ${partitions + 1}`,
    );
    const plain = await addon.createIndex({ matrix: await matrixOf(randomVectors(50, DIMS, 1), DIMS), metric: 'ip' });
    expect(await errorOf(() => plain.search(search))).toBe(
      'BELFRY_INVALID_ARGUMENT mode: expected "codes", "exact" or "f32" for an index without a graph, received "probe"',
    );
  });
});
