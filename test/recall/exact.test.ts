/** Every kernel set x metric x mode against a naive f64 loop: exact search is right, and a recall floor for `codes`. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadAddon, type NativeHits, type NativeSearch } from '../../src/ann/addon.js';
import { METRICS, type Metric } from '../../src/types.js';
import { naiveRank, naiveScore, normal, randomVectors } from '../support/judge.js';
import { matrixOf } from '../support/matrix.js';

const addon = loadAddon();
const MODES = ['codes', 'exact', 'f32'] as const;

/** Rows may differ from the judge's where scores tie to the last bits of f64; scores may not. */
function expectTrueTop(
  hits: NativeHits,
  k: number,
  metric: Metric,
  queries: Float32Array,
  items: Float32Array,
  dims: number,
  allowed?: (row: number) => boolean,
) {
  for (let q = 0; q < queries.length / dims; q++) {
    const query = queries.subarray(q * dims, (q + 1) * dims);
    const truth = naiveRank(metric, query, items, allowed).slice(0, k);
    expect(hits.counts[q]).toBe(truth.length);
    const rows = [...hits.rows.subarray(q * k, q * k + truth.length)];
    expect(new Set(rows).size).toBe(rows.length);
    truth.forEach(({ row, score }, i) => {
      const mine = rows[i] as number;
      const slack =
        1e-12 *
        Math.max(
          Math.abs(score),
          size(query) * size(items.subarray(row * dims, (row + 1) * dims)),
          metric === 'l2' ? size(query) ** 2 : 0,
        );
      if (mine !== row) {
        expect(
          Math.abs(naiveScore(metric, query, items.subarray(mine * dims, (mine + 1) * dims)) - score),
        ).toBeLessThanOrEqual(slack);
      }
      expect(Math.abs((hits.scores[q * k + i] as number) - score)).toBeLessThanOrEqual(
        Math.abs(score) * 1e-6 + slack + 1e-44,
      );
    });
  }
}

const size = (vector: Float32Array) => Math.hypot(...vector);

const DATA: Record<string, (rows: number, dims: number) => Float32Array> = {
  normal: (rows, dims) => randomVectors(rows, dims, 1),
  'tiny norms': (rows, dims) => randomVectors(rows, dims, 2, () => 1e-15),
  'huge norms': (rows, dims) => randomVectors(rows, dims, 3, () => 1e15),
  'heavy-tailed norms': (rows, dims) => randomVectors(rows, dims, 4, (_row, random) => Math.exp(4 * normal(random))),
  duplicates: (rows, dims) => {
    const seven = randomVectors(7, dims, 5);
    return Float32Array.from(
      { length: rows * dims },
      (_, i) => seven[(Math.floor(i / dims) % 7) * dims + (i % dims)] as number,
    );
  },
  'one vector': (rows, dims) => Float32Array.from({ length: rows * dims }, (_, i) => Math.sin((i % dims) + 1)),
  'far from the origin': (rows, dims) => randomVectors(rows, dims, 6).map((value) => value * 1e-3 + 100),
  'with zero rows': (rows, dims) => randomVectors(rows, dims, 7, (row) => row % 3),
};

describe.each(addon.kernels)('%s', (kernel) => {
  describe.each(METRICS)('%s', (metric) => {
    it.each(Object.keys(DATA))('exact and f32 modes find the true top k: %s', async (name) => {
      for (const [rows, dims] of [
        [700, 16],
        [130, 129],
      ] as const) {
        const items = (DATA[name] as (r: number, d: number) => Float32Array)(rows, dims);
        const queries = Float32Array.from([...randomVectors(6, dims, 50), ...items.subarray(5 * dims, 6 * dims)]);
        const index = await addon.createIndex({ matrix: await matrixOf(items, dims), metric, kernel });
        for (const mode of ['exact', 'f32'] as const) {
          expectTrueTop(await index.search({ queries, k: 10, mode }), 10, metric, queries, items, dims);
        }
        index.close();
      }
    });

    it('equal scores come in the order of their rows, also across tiles and filters', async () => {
      const items = DATA['one vector']!(5_000, 16);
      const index = await addon.createIndex({ matrix: await matrixOf(items, 16), metric, kernel });
      const queries = randomVectors(9, 16, 60);
      const first = Array.from({ length: 100 }, (_, i) => i);
      for (const mode of MODES) {
        const hits = await index.search({ queries, k: 100, mode });
        const without = await index.search({ queries, k: 100, mode, exclude: Uint32Array.of(0, 64, 99) });
        for (let q = 0; q < 9; q++) {
          expect([...hits.rows.subarray(q * 100, (q + 1) * 100)]).toEqual(first);
          const left = [...without.rows.subarray(q * 100, (q + 1) * 100)];
          expect(left).toEqual([...first.filter((row) => ![0, 64, 99].includes(row)), 100, 101, 102]);
        }
      }
      index.close();
    });

    // Far from all rows, l2 scores differ by less than f64 rounds: many tie, and the smaller rows must win.
    it('exact mode gives what f32 mode gives, however far the query', async () => {
      const items = randomVectors(6_000, 8, 13, (row) => (row % 2 === 0 ? 1 : 1e-12));
      const index = await addon.createIndex({ matrix: await matrixOf(items, 8), metric, kernel });
      for (const far of [1, 1e4, 1e8, 1e12, 1e15, 1e16, 1e20, 1e30]) {
        const queries = randomVectors(9, 8, 14, () => far);
        const exact = await index.search({ queries, k: 10, mode: 'exact' });
        const judge = await index.search({ queries, k: 10, mode: 'f32' });
        expect([...exact.rows], `queries of size ${far}`).toEqual([...judge.rows]);
        expect([...exact.scores], `queries of size ${far}`).toEqual([...judge.scores]);
      }
      index.close();
    });

    it('all dims, modes and batch sizes', async () => {
      for (const dims of [1, 3, 16, 64, 100, 129, 768]) {
        const rows = dims === 768 ? 200 : 900;
        const items = randomVectors(rows, dims, dims);
        const index = await addon.createIndex({ matrix: await matrixOf(items, dims), metric, kernel });
        expect(index.info).toMatchObject({ rows, dims, metric, kernel });
        for (const count of [1, 2, 7]) {
          const queries = randomVectors(count, dims, 1000 + count);
          for (const mode of MODES) {
            // With 300 of 900 rows rescored, codes miss nothing on this data.
            const hits = await index.search({ queries, k: 10, mode, ...(mode === 'codes' ? { rescore: 300 } : {}) });
            expectTrueTop(hits, 10, metric, queries, items, dims);
          }
        }
        index.close();
      }
    });

    it('codes mode keeps a recall floor of 0.99 with its default rescoring', async () => {
      const items = randomVectors(5_000, 64, 11);
      const queries = randomVectors(20, 64, 12);
      const index = await addon.createIndex({ matrix: await matrixOf(items, 64), metric, kernel });
      const codes = await index.search({ queries, k: 10, mode: 'codes' });
      const truth = await index.search({ queries, k: 10, mode: 'f32' });
      let found = 0;
      for (let q = 0; q < 20; q++) {
        const right = new Set(truth.rows.subarray(q * 10, q * 10 + 10));
        for (const row of codes.rows.subarray(q * 10, q * 10 + 10)) found += right.has(row) ? 1 : 0;
      }
      expect(found / 200).toBeGreaterThanOrEqual(0.99);
    });

    it('filters of any density and exclude lists, together and alone', async () => {
      const dims = 24;
      const rows = 3_000;
      const items = randomVectors(rows, dims, 21);
      const queries = randomVectors(9, dims, 22);
      const index = await addon.createIndex({ matrix: await matrixOf(items, dims), metric, kernel });
      for (const share of [0, 0.0004, 0.05, 0.5, 1]) {
        const filter = new Uint8Array(Math.ceil(rows / 8));
        const random = randomVectors(rows, 1, 23);
        for (let row = 0; row < rows; row++) {
          if (share === 1 || Math.abs(random[row] as number) < share) filter[row >> 3]! |= 1 << (row & 7);
        }
        const exclude = Uint32Array.from([5, 0, 5, 2_999, 17, ...Array.from({ length: 300 }, (_, i) => i * 9)]);
        const excluded = new Set(exclude);
        for (const mode of ['exact', 'f32'] as const) {
          for (const options of [{ filter }, { filter, exclude }, { exclude }]) {
            const allowed = (row: number) =>
              (!('filter' in options) || ((filter[row >> 3] as number) >> (row & 7)) % 2 === 1) &&
              (!('exclude' in options) || !excluded.has(row));
            expectTrueTop(
              await index.search({ queries, k: 20, mode, ...options }),
              20,
              metric,
              queries,
              items,
              dims,
              allowed,
            );
          }
        }
      }
    });

    it('0 rows, 1 row, k above the number of rows, k of 10,000', async () => {
      for (const [rows, k] of [
        [0, 5],
        [1, 5],
        [40, 41],
        [12_000, 10_000],
      ] as const) {
        const items = randomVectors(rows, 4, 31);
        const index = await addon.createIndex({ matrix: await matrixOf(items, 4), metric, kernel });
        const queries = randomVectors(2, 4, 32);
        for (const mode of MODES) {
          expectTrueTop(
            await index.search({ queries, k, mode, ...(mode === 'codes' ? { rescore: 12_000 } : {}) }),
            k,
            metric,
            queries,
            items,
            4,
          );
        }
        expect((await index.search({ queries: new Float32Array(), k, mode: 'exact' })).counts.length).toBe(0);
      }
    });
  });
});

describe('one answer everywhere', () => {
  it('kernels, thread counts and a split single query give the same bits', async () => {
    const dims = 64;
    const items = randomVectors(70_000, dims, 41, (row) => 1 + (row % 5));
    items.copyWithin(35_000 * dims, 0, 1_000 * dims); // duplicates across the split
    const matrix = await matrixOf(items, dims);
    const queries = randomVectors(3, dims, 42);
    for (const metric of METRICS) {
      for (const mode of MODES) {
        const answers: NativeSearch = { queries, k: 20, mode };
        const seen = new Set<string>();
        for (const kernel of addon.kernels) {
          for (const threads of [1, 2, 5]) {
            const index = await addon.createIndex({ matrix, metric, kernel, threads });
            const one = await index.search({ ...answers, queries: queries.subarray(0, dims) });
            const all = await index.search(answers);
            expect([...all.rows.subarray(0, 20)]).toEqual([...one.rows]);
            seen.add(
              JSON.stringify([[...all.rows], [...new Uint32Array(all.scores.buffer, all.scores.byteOffset, 60)]]),
            );
            index.close();
          }
        }
        expect(seen.size).toBe(1);
      }
    }
  }, 120_000);

  it('any vectors, query, k: exact mode equals the judge (property)', async () => {
    const value = fc.oneof(
      fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e18), max: Math.fround(1e18) }),
      fc.constantFrom(0, 1, -1, Math.fround(0.1)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }).chain((dims) =>
          fc.record({
            dims: fc.constant(dims),
            items: fc.array(fc.array(value, { minLength: dims, maxLength: dims }), { minLength: 1, maxLength: 90 }),
            query: fc.array(value, { minLength: dims, maxLength: dims }),
          }),
        ),
        fc.constantFrom(...METRICS),
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom(...addon.kernels),
        async ({ dims, items: rows, query }, metric, k, kernel) => {
          const items = Float32Array.from(rows.flat());
          const queries = Float32Array.from(query);
          const index = await addon.createIndex({ matrix: await matrixOf(items, dims), metric, kernel });
          expectTrueTop(await index.search({ queries, k, mode: 'exact' }), k, metric, queries, items, dims);
        },
      ),
      { numRuns: 300 },
    );
  });
});
