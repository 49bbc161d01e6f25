/** The parts of the index bench that decide what is claimed: recall, the Pareto front, the generator, the flags. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
// @ts-expect-error the benches are plain JavaScript
import { npyHeader, readNpy, writeNpy, writeRows } from '../../../bench/datasets/npy.mjs';
// @ts-expect-error see above
import { ensureTwoTower, parseTwoTower, TwoTower } from '../../../bench/datasets/two-tower.mjs';
// @ts-expect-error see above
import { parseFlags } from '../../../bench/index/flags.mjs';
// @ts-expect-error see above
import { aroundTargets, median, paretoFront, powerLaw, qpsAt } from '../../../bench/index/pareto.mjs';
// @ts-expect-error see above
import { plots } from '../../../bench/index/plot.mjs';
// @ts-expect-error see above
import { recallOf, thresholds } from '../../../bench/index/recall.mjs';
// @ts-expect-error see above
import { ratiosOf } from '../../../bench/index/session.mjs';
// @ts-expect-error see above
import { ENGINES, expandGrid } from '../../../bench/trials.mjs';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'belfry-bench-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('recall', () => {
  // Items on a line; rows 1 and 2 are equal, so for the query 1 rows 3, 1 and 2 are its best, the last two tied.
  const items = Float32Array.of(0, 2, 2, 3, -1);
  const queries = Float32Array.of(1);
  const given = { metric: 'ip', items, queries, dims: 1, count: 1, engine: 'test' };
  const kth = thresholds({ ...given, truth: Int32Array.of(3, 1, 2), width: 3, k: 2 });

  it('counts by the true score, so that a tie is no miss', () => {
    expect([...kth]).toEqual([2]);
    for (const rows of [
      [3, 1],
      [3, 2],
      [2, 1],
    ]) {
      expect(recallOf({ ...given, rows: Int32Array.from(rows), kth, k: 2 })).toBe(1);
    }
    expect(recallOf({ ...given, rows: Int32Array.of(3, 0), kth, k: 2 })).toBe(0.5);
    expect(recallOf({ ...given, rows: Int32Array.of(3, -1), kth, k: 2 })).toBe(0.5);
  });

  it('takes the smaller distance as the better under l2', () => {
    const near = { ...given, metric: 'l2' };
    const limits = thresholds({ ...near, truth: Int32Array.of(0, 1, 2), width: 3, k: 2 });
    expect([...limits]).toEqual([-1]);
    expect(recallOf({ ...near, rows: Int32Array.of(0, 3), kth: limits, k: 2 })).toBe(0.5);
  });

  it('refuses rows that do not exist or come twice', () => {
    expect(() => recallOf({ ...given, rows: Int32Array.of(3, 3), kth, k: 2 })).toThrow(
      'test returned row 3 twice for query 0',
    );
    expect(() => recallOf({ ...given, rows: Int32Array.of(3, 5), kth, k: 2 })).toThrow('test returned row 5 of 5');
    expect(() => thresholds({ ...given, truth: Int32Array.of(3), width: 1, k: 2 })).toThrow('the truth holds 1 rows');
  });
});

describe('the Pareto front', () => {
  const point = (recall: number, qps: number) => ({ recall, qps });
  const points = [point(0.9, 1000), point(0.99, 100), point(0.95, 50), point(0.9, 900), point(0.999, 10)];

  it('keeps what no other beats in both', () => {
    expect(paretoFront(points)).toEqual([point(0.9, 1000), point(0.99, 100), point(0.999, 10)]);
  });

  it('interpolates the logarithm of qps between the points around a recall', () => {
    expect(qpsAt(points, 0.945)).toBeCloseTo(Math.sqrt(1000 * 100), 6);
    expect(qpsAt(points, 0.99)).toBeCloseTo(100, 6);
    expect(qpsAt(points, 0.5)).toBe(1000);
    expect(qpsAt(points, 0.9999)).toBeNull();
    expect(qpsAt([], 0.5)).toBeNull();
  });

  it('names the points worth measuring again', () => {
    expect(aroundTargets(points, [0.95], 1)).toEqual([point(0.9, 1000), point(0.99, 100)]);
    expect(aroundTargets(points, [1], 1)).toEqual([point(0.999, 10)]);
  });

  it('knows medians and exponents', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(powerLaw([10, 100, 1000], [5, 10, 20])).toBeCloseTo(Math.log10(2), 9);
  });

  it('gives ratios only where both reach the recall', () => {
    const engines = {
      belfry: { qps_at_recall: { 0.9: 900, 0.99: null } },
      slow: { qps_at_recall: { 0.9: 300, 0.99: 10 } },
      gone: { absent: 'no' },
    };
    expect(ratiosOf(engines, [0.9, 0.99])).toEqual({ 0.9: { slow: 3 }, 0.99: { slow: null } });
    expect(ratiosOf({}, [0.9])).toEqual({});
  });

  it('draws a plot whose text is escaped', () => {
    const engines = {
      'a<b': { points: [point(0.9, 10), point(0.99, 5)], build_s: 1, build_threads: 1, bytes_per_item: 9 },
    };
    const drawn = plots({ dataset: { name: 'x', rows: 1, dims: 1, metric: 'ip' }, k: 10, engines });
    expect(Object.keys(drawn)).toEqual(['pareto', 'build-time', 'bytes-per-item']);
    expect(drawn.pareto).toContain('a&lt;b');
    expect(plots({})).toEqual({});
  });
});

describe('trials', () => {
  it('grows the last parameter of a grid, and leaves out beams below k', () => {
    expect(expandGrid({ stop: [1, 2], ef: [10, 100, 200] }, 100)).toEqual([
      [
        { stop: 1, ef: 100 },
        { stop: 1, ef: 200 },
      ],
      [
        { stop: 2, ef: 100 },
        { stop: 2, ef: 200 },
      ],
    ]);
  });

  it('has a grid for every build of every engine', () => {
    for (const [name, engine] of Object.entries(ENGINES) as [string, { builds: { search: object }[] }][]) {
      for (const build of engine.builds) {
        expect(expandGrid(build.search, 100).flat().length, name).toBeGreaterThan(3);
      }
    }
  });
});

describe('the two-tower generator', () => {
  const size = { rows: 10_000, dims: 64, seed: 3, users: 20, queries: 10 };

  it('gives the same files for the same seed, and others for another', () => {
    const read = (made: { items: string; users: string; queries: string }) =>
      [made.items, made.users, made.queries].map((path) =>
        createHash('sha256').update(readFileSync(path)).digest('hex'),
      );
    const one = read(ensureTwoTower(join(folder, 'a'), size));
    expect(read(ensureTwoTower(join(folder, 'b'), size))).toEqual(one);
    expect(read(ensureTwoTower(join(folder, 'c'), { ...size, seed: 4 }))[0]).not.toBe(one[0]);
    // A row is a function of its number alone.
    const row = new Float32Array(64);
    new TwoTower(size).item(9_999, row);
    expect([...readNpy(join(folder, 'a', 'items.npy'), 9_999, 1)]).toEqual([...row]);
  });

  it('makes what it says: heavy norms, items in a narrow cone and users in a wide one, answers among large norms', () => {
    const model = new TwoTower(size);
    const items = Array.from({ length: 10_000 }, (_, row) => {
      const vector = new Float32Array(64);
      model.item(row, vector);
      return vector;
    });
    const norm = (vector: Float32Array) => Math.hypot(...vector);
    const norms = items.map(norm).sort((a, b) => a - b);
    expect(norms[9_999]! / norms[5_000]!).toBeGreaterThan(2);
    const mean = (vectors: Float32Array[]) =>
      norm(vectors[0]!.map((_, d) => vectors.reduce((sum, vector) => sum + vector[d]!, 0) / vectors.length));
    const users = Array.from({ length: 300 }, (_, row) => {
      const vector = new Float32Array(64);
      model.user(row, vector);
      return vector;
    });
    const share = (vectors: Float32Array[]) =>
      mean(vectors) / (vectors.reduce((sum, v) => sum + norm(v), 0) / vectors.length);
    expect(share(items)).toBeGreaterThan(0.7);
    expect(share(users)).toBeLessThan(0.7);
    expect(share(users)).toBeGreaterThan(0.2);
    const large = norms[9_500]!;
    let among = 0;
    for (const user of users.slice(0, 50)) {
      const scores = items.map((item) => item.reduce((sum, value, d) => sum + value * user[d]!, 0));
      const order = scores.map((_, row) => row).sort((a, b) => scores[b]! - scores[a]!);
      among += order.slice(0, 10).filter((row) => norm(items[row]!) >= large).length / 500;
    }
    expect(among).toBeGreaterThan(0.5);
    expect(among).toBeLessThan(1);
  });

  it('reads names, and refuses sizes that it does not make', () => {
    expect(parseTwoTower('two-tower-1m-d128')).toEqual({ rows: 1_000_000, dims: 128, seed: 1 });
    expect(parseTwoTower('two-tower-20k-d64-s7')).toEqual({ rows: 20_000, dims: 64, seed: 7 });
    expect(parseTwoTower('glove')).toBeUndefined();
    expect(() => parseTwoTower('two-tower-20m-d64')).toThrow('10000 to 10000000 items, not 20000000');
  });
});

describe('npy files of the benches', () => {
  it('are read back as written, in part too, half and double precision as f32', () => {
    const path = join(folder, 'x.npy');
    writeRows(path, 3, 2, (row: number, target: Float32Array) => target.set([row, -row]));
    expect([...readNpy(path)]).toEqual([0, -0, 1, -1, 2, -2]);
    expect([...readNpy(path, 1, 1)]).toEqual([1, -1]);
    writeNpy(path, Int32Array.of(1, 2), 2);
    expect(npyHeader(path)).toMatchObject({ rows: 1, dims: 2, dtype: '<i4' });
    const sample = join(import.meta.dirname, '../../../embeddings/sample/embeddings/item_embeddings.npy');
    expect(npyHeader(sample).dtype).toBe('<f2');
    expect(readNpy(sample, 0, 1).every(Number.isFinite)).toBe(true);
  });

  it('are refused when they are something else', () => {
    const path = join(folder, 'x.npy');
    writeFileSync(path, 'not an array at all');
    expect(() => npyHeader(path)).toThrow('is not an .npy file');
  });
});

describe('flags', () => {
  it('have defaults', () => {
    expect(parseFlags([], 4)).toMatchObject({
      dataset: 'glove',
      engines: ['belfry', 'hnswlib-node'],
      k: 10,
      cpu: 3,
      buildThreads: 4,
    });
    expect(parseFlags(['--recall', '0.99,0.9']).recalls).toEqual([0.9, 0.99]);
  });

  const refused: [string[], string][] = [
    [['--engines', 'belfry,fast'], "--engines: no engine 'fast'; there are belfry, hnswlib-node"],
    [['--engines', 'belfry,belfry'], 'an engine is named twice'],
    [['--recall', '1.5'], "--recall: expected a number from 0.01 to 1, not '1.5'"],
    [['--recall', ''], '--recall: expected a number'],
    [['--k', '101'], "--k: expected an integer from 1 to 100, not '101'"],
    [['--k', '2.5'], "--k: expected an integer from 1 to 100, not '2.5'"],
    [['--cpu', '2'], '--cpu: expected an integer from 0 to 1'],
    [['--repeats', '0'], '--repeats: expected an integer from 1 to 99'],
    [['--filters', '0.1,x'], "--filters: expected a number from 0.000001 to 1, not 'x'"],
    [['--items', 'a.npy'], '--items and --queries go together'],
    [['--items', 'a.npy', '--queries', 'b.npy'], '--metric: with --items, one of ip, cosine, l2 is needed'],
    [['--items', 'a.npy', '--queries', 'b.npy', '--metric', 'ip'], '--items: a.npy is not there'],
    [['--parlayann', '/nowhere/neighbors'], '--parlayann: /nowhere/neighbors is not there'],
    [['--fast'], "Unknown option '--fast'"],
  ];
  it.each(refused)('%j are refused', (args, message) => {
    expect(() => parseFlags(args, 2)).toThrow(message);
  });
});
