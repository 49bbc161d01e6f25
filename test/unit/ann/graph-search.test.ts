/** Mode walk through the addon: how much of the true answer it finds, with filters and exclusions, and what it refuses. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadAddon, type NativeHits, type NativeIndex, type NativeSearch } from '../../../src/ann/addon.js';
import { METRICS, type Metric } from '../../../src/types.js';
import { errorOf } from '../../support/errors.js';
import { matrixOf } from '../../support/matrix.js';
import { seeded } from '../../support/judge.js';
import { twoTower } from '../../support/two-tower.js';

const addon = loadAddon();
const folder = mkdtempSync(join(tmpdir(), 'belfry-walk-'));
const ROWS = 20_000;
const DIMS = 16;
const QUERIES = 200;
const data = twoTower(ROWS, 3000, DIMS, 5);
/** The last users, which no graph here has seen. */
const queries = data.users.subarray((3000 - QUERIES) * DIMS);
const one = queries.subarray(0, DIMS);
const indexes = new Map<Metric, NativeIndex>();

beforeAll(async () => {
  const matrix = await matrixOf(data.items, DIMS);
  const users = await matrixOf(data.users, DIMS);
  const userRows = Uint32Array.from({ length: 2000 }, (_, i) => i);
  for (const metric of METRICS) {
    const path = join(folder, `${metric}.graph`);
    await addon.prepareGraph({ matrix, metric, out: path, vectors: 'abc', users, userRows }).run();
    indexes.set(metric, await addon.createIndex({ matrix, metric, graph: { path, vectors: 'abc' } }));
  }
  matrix.close();
  users.close();
});
afterAll(() => {
  for (const index of indexes.values()) index.close();
  rmSync(folder, { recursive: true });
});

const walk = (more: Partial<NativeSearch> = {}): NativeSearch => ({ queries, k: 10, mode: 'walk', ...more });
const walkNow = (index: NativeIndex, more: Partial<NativeSearch>): NativeHits | undefined => {
  const { queries: query, k, ef, stop, stopRank, rescore, exclude, visible } = walk(more);
  return index.walk(query, k, ef, stop, stopRank, rescore, exclude, visible);
};

/** Hits of the k that are as good as the k-th of the truth; checks that rows are distinct, ordered and allowed. */
function recall(
  hits: NativeHits,
  truth: NativeHits,
  k: number,
  allowed: (row: number) => boolean = () => true,
): number {
  let found = 0;
  let isWellFormed = true;
  for (let q = 0; q < hits.counts.length; q++) {
    const [from, count] = [q * k, hits.counts[q]!];
    const rows = hits.rows.subarray(from, from + count);
    isWellFormed &&= new Set(rows).size === count && rows.every(allowed);
    const worst = truth.scores[from + truth.counts[q]! - 1]!;
    for (let i = from; i < from + count; i++) {
      isWellFormed &&= i === from || hits.scores[i]! <= hits.scores[i - 1]!;
      if (hits.scores[i]! >= worst) found++;
    }
  }
  expect(isWellFormed).toBe(true);
  return found / truth.counts.reduce((a, b) => a + b, 0);
}

/** Random rows of a share; the same each time. */
function bitsOf(share: number, seed: number): { filter: Uint8Array; allowed: (row: number) => boolean; count: number } {
  const random = seeded(seed);
  const filter = new Uint8Array(ROWS / 8);
  let count = 0;
  for (let row = 0; row < ROWS; row++) {
    if (random() >= share) continue;
    filter[row >> 3]! |= 1 << (row & 7);
    count++;
  }
  return { filter, count, allowed: (row) => ((filter[row >> 3]! >> (row & 7)) & 1) === 1 };
}

describe.each(METRICS)('%s', (metric) => {
  it.each([
    [10, 64, 0.97],
    [10, 200, 0.98],
    [1, 40, 0.96],
    [100, 200, 0.95],
    [300, 450, 0.95],
  ])('of users that lie where no item does, the top %i with ef %i', async (k, ef, floor) => {
    const index = indexes.get(metric)!;
    const truth = await index.search({ queries, k, mode: 'exact' });
    // By the distance of the best row alone a walk would end too early.
    const hits = await index.search(walk({ k, ef, stopRank: Math.max(k, 10) }));
    expect(hits.path).toBe('walk');
    expect([...new Set(hits.counts)]).toEqual([k]);
    expect(recall(hits, truth, k)).toBeGreaterThanOrEqual(floor);
    expect(hits.scored).toBeGreaterThan(0);
  });

  it('scores are those of an exact search, and of scoreRows', async () => {
    const index = indexes.get(metric)!;
    const hits = await index.search(walk({ queries: one }));
    expect([...index.scoreRows(one, hits.rows)]).toEqual([...hits.scores]);
  });

  it('filters of any share leave k where k are left', async () => {
    const index = indexes.get(metric)!;
    const paths: string[] = [];
    for (const share of [0.0002, 0.001, 0.02, 0.3, 0.45, 0.6, 0.9]) {
      const { filter, allowed, count } = bitsOf(share, 7);
      const k = 20;
      const truth = await index.search({ queries, k, mode: 'exact', filter });
      const hits = await index.search(walk({ k, ef: 100, filter }));
      expect([...new Set(hits.counts)], `share ${share}`).toEqual([Math.min(k, count)]);
      expect(recall(hits, truth, k, allowed), `share ${share}`).toBeGreaterThanOrEqual(0.94);
      paths.push(hits.path);
    }
    // Up to 8,192 rows are scored one by one; nearly all rows are walked as if there were no filter.
    expect(paths.slice(2)).toEqual(['list', 'list', 'filtered walk', 'filtered walk', 'walk']);
    const { filter } = bitsOf(0, 1);
    expect([...(await index.search(walk({ filter }))).counts]).toEqual(new Array(QUERIES).fill(0));
  });

  it('excluded rows are stepped over: of a query, of all, and both with a filter', async () => {
    const index = indexes.get(metric)!;
    const k = 10;
    const best = await index.search({ queries, k: 30, mode: 'exact' });
    const offsets = Uint32Array.from({ length: QUERIES + 1 }, (_, q) => q * 30);
    const { filter, allowed } = bitsOf(0.6, 8);
    const shared = Uint32Array.from({ length: 500 }, (_, i) => i * 40);
    for (const more of [
      { excludeEach: { offsets, rows: best.rows } },
      { exclude: shared },
      { excludeEach: { offsets, rows: best.rows }, exclude: shared, filter },
    ]) {
      const truth = await index.search({ queries, k, mode: 'exact', ...more });
      const hits = await index.search(walk({ k, ef: 100, ...more }));
      const mayBe = (row: number) =>
        (!('filter' in more) || allowed(row)) && (!('exclude' in more) || row % 40 !== 0 || row >= 500 * 40);
      expect(recall(hits, truth, k, mayBe)).toBeGreaterThanOrEqual(0.97);
      if ('excludeEach' in more) {
        for (let q = 0; q < QUERIES; q++) {
          const gone = new Set(best.rows.subarray(q * 30, q * 30 + 30));
          expect(hits.rows.subarray(q * k, q * k + k).some((row) => gone.has(row))).toBe(false);
        }
      }
    }
  });

  it('k above what is there is answered with all there is', async () => {
    const index = indexes.get(metric)!;
    const { filter } = bitsOf(0.001, 9);
    const hits = await index.search(walk({ queries: one, k: 10_000, ef: 10_000, filter }));
    const truth = await index.search({ queries: one, k: 10_000, mode: 'exact', filter });
    expect([...hits.rows.subarray(0, hits.counts[0])]).toEqual([...truth.rows.subarray(0, truth.counts[0])]);
  });
});

describe('one answer everywhere', () => {
  it('kernel sets, threads, batches and the calling thread give the same bits', async () => {
    const matrix = await matrixOf(data.items, DIMS);
    const graph = { path: join(folder, 'ip.graph'), vectors: 'abc' };
    const seen = new Set<string>();
    for (const kernel of addon.kernels) {
      for (const threads of [1, 2]) {
        const index = await addon.createIndex({ matrix, metric: 'ip', kernel, threads, graph });
        const hits = await index.search(walk());
        seen.add(JSON.stringify([[...hits.rows], [...hits.scores], hits.scored, hits.expanded]));
        for (const q of [0, 1, 77]) {
          const query = queries.subarray(q * DIMS, (q + 1) * DIMS);
          const single = walkNow(index, { queries: query })!;
          expect([...single.rows]).toEqual([...hits.rows.subarray(q * 10, q * 10 + 10)]);
          expect([...single.scores]).toEqual([...hits.scores.subarray(q * 10, q * 10 + 10)]);
          expect(single).toMatchObject({ path: 'walk', fallbacks: 0, queueMs: 0 });
        }
        index.close();
      }
    }
    expect(seen.size).toBe(1);
  });

  it('more effort finds more and scores more', async () => {
    const index = indexes.get('ip')!;
    const truth = await index.search({ queries, k: 10, mode: 'exact' });
    let before = { recall: 0, scored: 0 };
    for (const [ef, stop] of [
      [10, 1.0],
      [24, 1.06],
      [80, 1.12],
      [300, 1.5],
    ] as const) {
      const hits = await index.search(walk({ ef, stop }));
      const now = { recall: recall(hits, truth, 10), scored: hits.scored };
      expect(now.recall).toBeGreaterThanOrEqual(before.recall);
      expect(now.scored).toBeGreaterThan(before.scored);
      before = now;
    }
    expect(before.recall).toBeGreaterThanOrEqual(0.995);
  });
});

describe('arguments', () => {
  const index = () => indexes.get('ip')!;
  it.each<[string, object, string]>([
    ['ef below k', { ef: 9 }, 'ef: expected an integer from 10 to 16384, received 9'],
    ['ef too large', { ef: 16_385 }, 'ef: expected an integer from 10 to 16384, received 16385'],
    ['ef 20.5', { ef: 20.5 }, 'ef: expected an integer from 10 to 16384, received 20.5'],
    ['stop', { stop: 0.9 }, 'stop: expected a number from 1 to 1000, received 0.9'],
    ['stop NaN', { stop: Number.NaN }, 'stop: expected a number from 1 to 1000, received NaN'],
    ['stop text', { stop: '1.1' }, 'stop: expected a number from 1 to 1000, received "1.1"'],
    ['stopRank below k', { stopRank: 9 }, 'stopRank: expected an integer from 10 to 64, received 9'],
    ['stopRank above ef', { ef: 20, stopRank: 21 }, 'stopRank: expected an integer from 10 to 20, received 21'],
    ['rescore below k', { rescore: 9 }, 'rescore: expected an integer from 10 to 100000, received 9'],
    [
      'excludeEach',
      { excludeEach: { offsets: Uint32Array.of(0, 0), rows: new Uint32Array() } },
      'excludeEach.offsets: expected 201 numbers (one more than queries), received 2',
    ],
  ])('of search: %s', async (_name, more, message) => {
    expect(await errorOf(() => index().search(walk(more)))).toBe(`BELFRY_INVALID_ARGUMENT ${message}`);
  });

  it.each<[string, object, string]>([
    [
      'two queries',
      { queries: queries.subarray(0, 2 * DIMS) },
      `DIMS_MISMATCH query: expected ${DIMS} values (the dims of the index), received ${2 * DIMS}`,
    ],
    [
      'no query',
      { queries: new Float32Array() },
      `DIMS_MISMATCH query: expected ${DIMS} values (the dims of the index), received 0`,
    ],
    ['k 0', { k: 0 }, 'INVALID_ARGUMENT k: expected an integer from 1 to 1024, received 0'],
    ['k above 1,024', { k: 1025 }, 'INVALID_ARGUMENT k: expected an integer from 1 to 1024, received 1025'],
    ['ef above 1,024', { ef: 1025 }, 'INVALID_ARGUMENT ef: expected an integer from 10 to 1024, received 1025'],
    ['ef below k', { ef: 9 }, 'INVALID_ARGUMENT ef: expected an integer from 10 to 1024, received 9'],
    ['stop', { stop: 0.9 }, 'INVALID_ARGUMENT stop: expected a number from 1 to 1000, received 0.9'],
    ['stopRank', { ef: 20, stopRank: 21 }, 'INVALID_ARGUMENT stopRank: expected an integer from 10 to 20, received 21'],
    ['rescore', { rescore: 9 }, 'INVALID_ARGUMENT rescore: expected an integer from 10 to 100000, received 9'],
    ['exclude', { exclude: [1] }, 'INVALID_ARGUMENT exclude: expected a Uint32Array, received an array'],
  ])('of walk: %s', async (_name, more, message) => {
    expect(await errorOf(() => walkNow(index(), { queries: one, ...more }))).toBe(`BELFRY_${message}`);
  });

  it('a query that is not finite, of either way', async () => {
    const bad = one.slice();
    bad[3] = Number.NaN;
    for (const call of [() => index().search(walk({ queries: bad })), () => walkNow(index(), { queries: bad })]) {
      expect(await errorOf(call)).toBe(
        'BELFRY_INVALID_QUERY_VECTOR queries: expected finite numbers, received NaN in query 0, dim 3',
      );
    }
  });

  it('walk leaves to search what is not a moment', async () => {
    const exclude = (count: number) => Uint32Array.from({ length: count }, (_, i) => i);
    expect(walkNow(index(), { queries: one, ef: 100, exclude: exclude(100) })?.counts[0]).toBe(10);
    expect(walkNow(index(), { queries: one, ef: 100, exclude: exclude(925) })).toBeUndefined();
    expect(walkNow(index(), { queries: one, rescore: 1025 })).toBeUndefined();
    // A stop ratio that never stops looks at more than a fifth of all rows: a scan is cheaper.
    const endless = walk({ queries: one, ef: 1024, stop: 1000 });
    expect(walkNow(index(), endless)).toBeUndefined();
    const hits = await index().search(endless);
    expect(hits).toMatchObject({ path: 'scan', fallbacks: 1 });
    expect([...hits.rows]).toEqual([...(await index().search({ queries: one, k: 10, mode: 'exact' })).rows]);
  });

  it('an index without a graph does not walk', async () => {
    const matrix = await matrixOf(data.items.subarray(0, 100 * DIMS), DIMS);
    const plain = await addon.createIndex({ matrix, metric: 'ip' });
    expect(plain.info.graph).toBeUndefined();
    const message =
      'BELFRY_INVALID_ARGUMENT mode: expected "codes", "exact" or "f32" for an index without a graph, received "walk"';
    expect(await errorOf(() => plain.search(walk()))).toBe(message);
    expect(await errorOf(() => walkNow(plain, { queries: one }))).toBe(message);
  });

  it('a close while walks run lets them end; later ones are refused', async () => {
    const matrix = await matrixOf(data.items, DIMS);
    for (const load of ['huge', 'mmap'] as const) {
      const graph = { path: join(folder, 'ip.graph'), vectors: 'abc', load };
      const mine = await addon.createIndex({ matrix, metric: 'ip', graph });
      const truth = await mine.search(walk());
      const running = Array.from({ length: 20 }, () => mine.search(walk()));
      mine.close();
      for (const hits of await Promise.all(running)) expect([...hits.rows]).toEqual([...truth.rows]);
      for (const call of [() => mine.search(walk({ queries: one })), () => walkNow(mine, { queries: one })]) {
        expect(await errorOf(call)).toBe('BELFRY_CLOSED NativeIndex was used after close');
      }
    }
  });
});
