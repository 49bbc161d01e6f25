/** belfry bench recall on real generations: a broken graph is caught; what users get wrong is refused; what it writes. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { benchRecall, type RecallResult } from '../../src/bench/recall/recall-bench.js';
import { recallReport } from '../../src/bench/recall/recall-report.js';
import { warningsOf } from '../../src/bench/recall/recall-warnings.js';
import { parseReport } from '../../src/bench/report/schema.js';
import { assertGates } from '../../src/bench/report/write.js';
import { buildGeneration } from '../../src/generation/build.js';
import type { PublishedGeneration } from '../../src/generation/data-folder.js';
import { Generation } from '../../src/generation/generation.js';
import { cutEdges, recallOptions } from '../support/bench-recall.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, npyFile, temporaryFolder } from '../support/folders.js';
import { twoTower } from '../support/two-tower.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const folder = temporaryFolder({ keep: true });
const ITEMS = 12_000;
const data = twoTower(ITEMS, 4_000, 32, 7);
const pair = ['--items', join(folder, 'items.npy'), '--users', join(folder, 'users.npy')];

function belfry(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { cwd: folder, maxBuffer: 1 << 26 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : (error.code as unknown as number), out, err });
    });
  });
}

beforeAll(() => {
  writeFileSync(join(folder, 'items.npy'), npyFile(data.items, [ITEMS, 32]));
  writeFileSync(join(folder, 'few.npy'), npyFile(data.items.slice(0, 30 * 32), [30, 32]));
  writeFileSync(join(folder, 'users.npy'), npyFile(data.users, [4_000, 32]));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('a graph with half of its edges cut', () => {
  let healthy: RecallResult;
  let broken: RecallResult;
  let published: PublishedGeneration;
  let report: ReturnType<typeof recallReport>;
  const options = () => recallOptions(folder, { ks: [10, 100], queries: 600, reachRows: 2000 });

  beforeAll(async () => {
    const models = makeModelsFolder(join(folder, 'models'), {
      items: { data: data.items, dims: 32 },
      users: { data: data.users, dims: 32 },
    });
    published = await buildGeneration({ models, data: join(folder, 'data') });
    const measure = async (): Promise<RecallResult> => {
      const generation = await Generation.load(published);
      try {
        const result = await benchRecall(generation, options());
        const subject = { generation, name: 'test', started: new Date(), settings: {}, gates: {} };
        report = recallReport(subject, result);
        return result;
      } finally {
        await generation.close();
      }
    };
    healthy = await measure();
    expect(() => assertGates(report)).not.toThrow();
    const { edges, cut } = cutEdges(join(published.folder, published.manifest.graph!.file), 0.5);
    expect(cut / edges).toBeCloseTo(0.5, 1);
    broken = await measure();
  }, 180_000);

  it('passes before', () => {
    for (const { recall } of healthy.served) expect(recall.high).toBeGreaterThanOrEqual(0.98);
  });

  it('gives less, and fails the gate that nobody had to ask for', async () => {
    const [before, after] = [healthy.served[0]!.recall, broken.served[0]!.recall];
    expect(after.high).toBeLessThan(before.low);
    const error = await expectError(() => assertGates(report), 'BELFRY_BENCH_GATE', 'recall@10');
    expect(error.message).toContain('at least the recall asked for');
    expect(report.warnings.map(({ code }) => code)).toContain('recall-below-target');
  });

  it('loses more items', () => {
    expect(broken.diagnosis.reach!.hard).toBeGreaterThan(2 * healthy.diagnosis.reach!.hard);
    expect(healthy.diagnosis.reach!.unreachable).toBe(0);
  });

  it('names the items that no path leads to: without an edge, all but the entries', async () => {
    cutEdges(join(published.folder, published.manifest.graph!.file), 1);
    const generation = await Generation.load(published);
    try {
      const entries = generation.index.info.graph!.entries;
      const result = await benchRecall(generation, { ...options(), reachRows: 100, queries: 20 });
      expect(result.diagnosis.reach).toMatchObject({ unreachable: ITEMS - entries });
      const warning = warningsOf(generation, result).find(({ code }) => code === 'unreachable-items');
      expect(warning?.message).toMatch(new RegExp(`leads to ${ITEMS - entries} of ${ITEMS} items \\(first: \\d+, `));
    } finally {
      await generation.close();
    }
  });
});

describe('belfry bench recall', () => {
  it('measures a bare pair, writes the report, passes its gates', async () => {
    const out = join(folder, 'out');
    const quick = ['--queries', '300', '--repeats', '2', '--timed', '20', '--reach', '500', '--filters', '0.1'];
    const result = await belfry(
      'bench',
      'recall',
      ...pair,
      '--metric',
      'ip',
      ...quick,
      '--min-recall',
      '0.9',
      '--json',
      '--out',
      out,
    );
    expect([result.code, result.err]).toEqual([0, expect.not.stringContaining('error')]);
    const report = parseReport(result.out, 'stdout');
    expect(parseReport(readFileSync(join(out, 'report.json'), 'utf8'), 'report.json')).toEqual(report);
    expect(readdirSync(out)).toEqual(expect.arrayContaining(['report.json', 'report.md']));
    expect(report.settings).toMatchObject({ metric: 'ip', rows: ITEMS, dims: 32, k: [1, 10, 50, 100, 500] });
    expect(report.summary.filter(({ name }) => name.startsWith('recall_at_'))).toHaveLength(5);
    expect(report.gates.map(({ passed }) => passed)).toEqual([true, true, true, true, true]);
    const rows = report.tables.find(({ id }) => id === 'by-filter')!.rows;
    expect(rows).toHaveLength(1);
    expect(readFileSync(join(out, 'report.md'), 'utf8')).toContain('Suggested settings');
  }, 120_000);

  it('ends with exit code 3 where a gate is not met', async () => {
    const quick = ['--queries', '200', '--repeats', '1', '--timed', '10', '--reach', '0', '--filters', '0', '-k', '10'];
    const result = await belfry('bench', 'recall', ...pair, ...quick, '--recall', '0.8', '--min-recall', '1');
    expect(result.code).toBe(3);
    expect(result.err).toContain('BELFRY_BENCH_GATE');
    expect(result.err).toContain('--min-recall at k 10');
  }, 120_000);

  it.each<[string, string[], number, string]>([
    ['no file', ['--items', 'nowhere.npy'], 1, 'nowhere.npy'],
    ['k of zero', [...pair, '-k', '0'], 2, '--k: expected whole numbers from 1'],
    ['k beyond the bound', [...pair, '-k', '10,30000'], 2, '--k: expected whole numbers from 1 to 10000'],
    [
      'k beyond the items',
      ['--items', 'few.npy', '-k', '40'],
      2,
      '--k: expected lengths up to 30, of which there are items, received 40',
    ],
    ['a recall beyond 1', [...pair, '--recall', '1.5'], 2, '--recall: expected a number from 0.5 to 1'],
    ['no queries', [...pair, '--queries', '0'], 2, '--queries: expected a whole number from 1'],
    ['no repeats', [...pair, '--repeats', '0'], 2, '--repeats: expected a whole number from 1'],
    ['a share above 1', [...pair, '--filters', '0.5,2'], 2, '--filters: expected numbers from 0 to 1'],
    ['two subjects', [...pair, '--sample'], 2, '--items: expected either a models folder or a bare pair'],
    ['users that are no vectors', ['--items', 'items.npy', '--users', 'users.txt'], 2, '--users: expected a .npy'],
    ['a filter that is no JSON', [...pair, '--filter', '{'], 2, '--filter: not JSON'],
    ['an unknown metric', [...pair, '--metric', 'dot'], 2, 'metric'],
  ])('refuses %s', async (_, args, code, message) => {
    const result = await belfry('bench', 'recall', ...args);
    expect([result.code, result.err]).toEqual([code, expect.stringContaining(message)]);
    expect(result.out).toBe('');
  });

  it('refuses users of other dims, by the names of the files', async () => {
    writeFileSync(join(folder, 'wide.npy'), npyFile(new Float32Array(64 * 10), [10, 64]));
    const result = await belfry('bench', 'recall', '--items', 'items.npy', '--users', 'wide.npy', '--json');
    expect(result.code).toBe(1);
    expect(JSON.parse(result.err.trim().split('\n').at(-1)!)).toEqual({
      code: 'BELFRY_DIMS_MISMATCH',
      message: 'users: wide.npy has 64 dims and items.npy 32; give vectors of the same training',
      field: 'users',
      limit: 32,
    });
  });
});
