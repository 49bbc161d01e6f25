/** What a calibration counts, keeps and says; and what it does when it is stopped. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadAddon, type NativeIndex, type NativeMatrix } from '../../../src/ann/addon.js';
import { buildGraph, spread } from '../../../src/ann/build-graph.js';
import { calibrate, front, recallOf, spreadQueries } from '../../../src/ann/calibrate.js';
import { type Calibration, SearchPlanner } from '../../../src/ann/planner.js';
import { matrixOf } from '../../support/matrix.js';
import { twoTower } from '../../support/two-tower.js';

describe('recallOf', () => {
  /** Written the long way: sets, per query, then mean and standard error. */
  const naive = (answers: readonly (readonly number[])[], k: number, truth: readonly number[]) => {
    const recalls = answers.map((scores, q) => Math.min(k, scores.filter((score) => score >= truth[q]!).length) / k);
    const mean = recalls.reduce((a, b) => a + b, 0) / recalls.length;
    const variance = recalls.reduce((sum, one) => sum + (one - mean) ** 2, 0) / recalls.length;
    return { recall: mean, recallLow: mean - 1.96 * Math.sqrt(variance / recalls.length) };
  };
  const flat = (answers: readonly (readonly number[])[], k: number) => {
    const scores = new Float32Array(answers.length * k).fill(Number.NaN); // what is no hit must not be read
    answers.forEach((one, q) => scores.set(one, q * k));
    return { scores, counts: Uint32Array.from(answers, (one) => one.length) };
  };

  it('counts ties with the k-th score as hits, and what is missing as misses', () => {
    const hits = flat([[5, 4, 4], [5, 4, 3], [9], []], 3);
    const { recall } = recallOf(hits, 3, Float32Array.of(4, 4, 9, 1));
    expect(recall).toBeCloseTo((1 + 2 / 3 + 1 / 3 + 0) / 4, 12);
  });
  it('never counts more than k, and knows no doubt where all are the same', () => {
    expect(recallOf(flat([[1], [2]], 1), 1, Float32Array.of(0, 0))).toEqual({ recall: 1, recallLow: 1 });
    expect(recallOf(flat([[1], [2]], 1), 1, Float32Array.of(3, Infinity))).toEqual({ recall: 0, recallLow: 0 });
  });
  it('equals a count written the long way (property)', () => {
    const score = fc.integer({ min: 0, max: 6 });
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }).chain((k) =>
          fc.record({
            k: fc.constant(k),
            queries: fc.array(fc.record({ answer: fc.array(score, { maxLength: k }), truth: score }), {
              minLength: 1,
              maxLength: 20,
            }),
          }),
        ),
        ({ k, queries }) => {
          const answers = queries.map(({ answer }) => answer);
          const truth = queries.map((query) => query.truth);
          const got = recallOf(flat(answers, k), k, Float32Array.from(truth));
          const wanted = naive(answers, k, truth);
          expect(got.recall).toBeCloseTo(wanted.recall, 10);
          expect(got.recallLow).toBeCloseTo(wanted.recallLow, 6);
        },
      ),
    );
  });
});

describe('front', () => {
  const point = (recallLow: number, work: number) => ({ recallLow, work });
  it('keeps what no other beats, cheapest first', () => {
    const points = [point(0.9, 30), point(0.8, 10), point(0.85, 40), point(0.8, 12), point(0.95, 50), point(0.7, 11)];
    expect(front(points)).toEqual([point(0.8, 10), point(0.9, 30), point(0.95, 50)]);
    expect(front([])).toEqual([]);
  });
  it('of any points is what a comparison of all pairs leaves (property)', () => {
    const any = fc.record({ recallLow: fc.integer({ min: 0, max: 9 }), work: fc.integer({ min: 1, max: 9 }) });
    fc.assert(
      fc.property(fc.array(any), (points) => {
        const kept = front(points);
        for (const one of points) {
          // Everything is kept, or something kept is as good and no dearer.
          expect(kept.some((other) => other.recallLow >= one.recallLow && other.work <= one.work)).toBe(true);
        }
        kept.slice(1).forEach((one, i) => {
          expect(one.work).toBeGreaterThanOrEqual(kept[i]!.work);
          expect(one.recallLow).toBeGreaterThan(kept[i]!.recallLow);
        });
      }),
    );
  });
});

describe('spreadQueries', () => {
  it('takes them from the whole list, in order', () => {
    const queries = Float32Array.from({ length: 20 }, (_, i) => i); // 10 of 2 dims
    expect(spreadQueries(queries, 2, 10)).toBe(queries);
    expect(spreadQueries(queries, 2, 11)).toBe(queries);
    expect([...spreadQueries(queries, 2, 5)]).toEqual([2, 3, 6, 7, 10, 11, 14, 15, 18, 19]);
    expect([...spreadQueries(queries, 2, 1)]).toEqual([10, 11]);
  });
});

describe('spread', () => {
  it('takes rows evenly from those that are left, as a list of them would give (property)', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }).chain((count) =>
          fc.record({
            count: fc.constant(count),
            without: fc.uniqueArray(fc.nat(count - 1), { maxLength: count }),
            share: fc.double({ min: 0, max: 1, noNaN: true }),
          }),
        ),
        ({ count, without, share }) => {
          const left = Array.from({ length: count }, (_, row) => row).filter((row) => !without.includes(row));
          const wanted = Math.floor(share * left.length);
          const even = Array.from({ length: wanted }, (_, i) => left[Math.floor(((i + 0.5) * left.length) / wanted)]!);
          expect([...spread(count, without, wanted)]).toEqual(even);
        },
      ),
    );
  });
});

describe('a calibration', () => {
  const folder = mkdtempSync(join(tmpdir(), 'belfry-calibrate-'));
  const { dims, items, users } = twoTower(3000, 1200, 16, 1);
  const addon = loadAddon();
  let matrix: NativeMatrix;
  let index: NativeIndex;
  let calibration: Calibration;
  const queries = users.subarray(0, 300 * dims);

  beforeAll(async () => {
    matrix = await matrixOf(items, dims);
    const path = join(folder, 'items.graph');
    await addon.prepareGraph({ matrix, metric: 'ip', out: path, vectors: 'items' }).run();
    index = await addon.createIndex({ matrix, metric: 'ip', graph: { path, vectors: 'items' } });
    calibration = await calibrate({ index, queries, source: 'users' });
  });
  afterAll(() => {
    index.close();
    matrix.close();
    rmSync(folder, { recursive: true });
  });

  it('says where it comes from', () => {
    expect(calibration).toMatchObject({ source: 'users', queries: 300, kernel: index.info.kernel });
    expect(calibration.costs.scanMicroseconds).toBeGreaterThan(0);
    expect(calibration.costs.bulkMicroseconds).toBeGreaterThan(0);
    // 300 of 3,000 rows is no search: a k needs twenty times as many rows.
    expect([...new Set(calibration.points.map(({ k }) => k))]).toEqual([10, 30, 100]);
    expect(calibration.filters.map(({ share }) => share)).toEqual([0.5, 0.2, 0.15, 0.05]);
    for (const { factor } of calibration.filters) expect(factor).toBeGreaterThanOrEqual(1);
  });

  it('keeps points that no other of the same k beats', () => {
    for (const one of calibration.points) {
      expect(one.ef).toBeGreaterThanOrEqual(one.k);
      expect(one.recallLow).toBeLessThanOrEqual(one.recall);
      for (const other of calibration.points) {
        if (other === one || other.k !== one.k) continue;
        expect(other.recallLow >= one.recallLow && other.microseconds <= one.microseconds).toBe(false);
      }
    }
    const best = Math.max(...calibration.points.filter(({ k }) => k === 10).map(({ recall }) => recall));
    expect(best).toBeGreaterThan(0.98);
  });

  it('measures recalls that a search with the same effort has', async () => {
    const ten = calibration.points.filter(({ k }) => k === 10);
    const truth = await index.search({ queries, k: 10, mode: 'f32' });
    for (const { k, ef, stop, recall } of ten) {
      const hits = await index.search({ queries, k, mode: 'walk', ef, stop, rescore: 30 });
      let found = 0;
      for (let q = 0; q < 300; q++) {
        const right = new Set(truth.rows.subarray(q * k, q * k + k));
        for (const row of hits.rows.subarray(q * k, q * k + k)) found += right.has(row) ? 1 : 0;
      }
      expect(found / (300 * k)).toBeCloseTo(recall, 2);
    }
  });

  it('is the same on every run and number of threads, but for times', async () => {
    const untimed = ({ points, probes, filters, costs: _, ...rest }: Calibration) => ({
      ...rest,
      // Which efforts are tried depends on the price of a scan, so only those that both runs have can be compared.
      points: new Map(
        points.map(({ microseconds: _price, ...point }) => [`${point.k} ${point.ef} ${point.stop}`, point]),
      ),
      filters: filters.map(({ share }) => share),
      probes: probes.map(({ k, probes: count, recall }) => [k, count, recall]),
    });
    const again = untimed(await calibrate({ index, queries, source: 'users' }));
    const first = untimed(calibration);
    expect({ ...again, points: 0 }).toEqual({ ...first, points: 0 });
    const shared = [...first.points.keys()].filter((key) => again.points.has(key));
    expect(shared.length).toBeGreaterThan(5);
    for (const key of shared) expect(again.points.get(key)).toEqual(first.points.get(key));
  });

  it('leaves rows out that may not be returned', async () => {
    const gone = Uint32Array.from({ length: 1500 }, (_, i) => 2 * i);
    const without = await calibrate({ index, queries: queries.subarray(0, 60 * dims), source: 'items', exclude: gone });
    expect(without).toMatchObject({ source: 'items', queries: 60 });
    // With the excluded rows in the truth, no effort could find more than half of it.
    const best = Math.max(...without.points.map(({ recall }) => recall));
    expect(best).toBeGreaterThan(0.9);
  });

  it('reports progress, and stops when it is told to', async () => {
    const seen: [number, number][] = [];
    const stop = new AbortController();
    const running = calibrate({
      index,
      queries,
      source: 'users',
      signal: stop.signal,
      onProgress: (done, total) => {
        seen.push([done, total]);
        if (done === 2) stop.abort(new Error('enough'));
      },
    });
    await expect(running).rejects.toThrow('enough');
    expect(seen.map(([done]) => done)).toEqual([0, 1, 2]);
    expect(new Set(seen.map(([, total]) => total)).size).toBe(1);
  });

  describe('of a graph that was built with users', () => {
    it('takes users that the graph has not seen; without enough of them, items', async () => {
      const build = async (count: number, skipped: number[] = []) => {
        const userMatrix = await matrixOf(users.subarray(0, count * dims), dims);
        const stages = new Map<string, number>();
        const built = await buildGraph({
          items: matrix,
          users: userMatrix,
          metric: 'ip',
          out: join(folder, `${count}.graph`),
          vectors: 'items',
          skippedUsers: skipped,
          onProgress: (stage, done, total) => stages.set(stage, done / total),
        });
        userMatrix.close();
        expect(stages.get('calibrate')).toBe(1);
        return built;
      };
      const many = await build(1200, [0, 1, 2, 3, 4]);
      // Of the 1,195 users four in five teach the graph; of the others one in five is left to the recall gate.
      expect(many).toMatchObject({ trainingUsers: 956, calibration: { source: 'users', queries: 191 } });
      expect(many.queryEdges).toBeGreaterThan(0);
      const few = await build(100);
      expect(few).toMatchObject({ trainingUsers: 80, calibration: { source: 'items', queries: 2000 } });
      expect(few.memoryBytes).toBeGreaterThan(3000 * 64 * 4);
    });

    it('keeps the recall that is asked for at any k, on users that were not calibrated on', async () => {
      // Without prices of scans, and one of the two ways taken away, what is left must be taken wherever it reaches.
      const costs = { scanMicroseconds: 1e9, bulkMicroseconds: 1e9 };
      const others = users.subarray(300 * dims);
      for (const [mode, less] of [
        ['walk', { probes: [] }],
        ['probe', { points: [] }],
      ] as const) {
        const planner = new SearchPlanner(3000, { ...calibration, costs, ...less });
        for (const k of [1, 3, 7, 10, 11, 30, 40, 100]) {
          const exact = await index.search({ queries: others, k, mode: 'exact' });
          const truth = Float32Array.from(exact.counts, (_, q) => exact.scores[q * k + k - 1]!);
          for (const recall of [0.9, 0.95]) {
            const { effort } = planner.plan({ k, recall });
            expect(effort.mode, `k ${k}`).toBe(mode);
            const hits = await index.search({ queries: others, k, ...effort });
            expect(recallOf(hits, k, truth).recall, `${mode}, k ${k}`).toBeGreaterThanOrEqual(recall - 0.01);
          }
        }
      }
    });
  });
});
