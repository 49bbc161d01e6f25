/** The index bench as a command: its report has what is promised, and an engine that cannot run is named with the reason. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
// @ts-expect-error the benches are plain JavaScript
import { writeRows } from '../../bench/datasets/npy.mjs';

const root = join(import.meta.dirname, '../..');
const command = join(root, 'bench/index.mjs');
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'belfry-bench-'));
  let state = 1;
  const random = (): number => (state = (state * 48271) % 2147483647) / 2147483647 - 0.5;
  const fill = (_row: number, target: Float32Array): void => target.forEach((_, d) => void (target[d] = random()));
  writeRows(join(folder, 'items.npy'), 3000, 16, fill);
  writeRows(join(folder, 'queries.npy'), 40, 16, fill);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('bench/index.mjs', () => {
  it('prints one JSON object, writes tables and plots, and says who is absent and why', () => {
    const pair = ['--items', join(folder, 'items.npy'), '--queries', join(folder, 'queries.npy'), '--metric', 'ip'];
    const short = ['--query-count', '40', '--seconds', '0.01', '--repeats', '1', '--recall', '0.9'];
    const studies = ['--batch', '--filters', '0.01,0.5', '--out', join(folder, 'out')];
    const engines = ['--engines', 'belfry,glass', '--build-threads', '1'];
    const printed = execFileSync(process.execPath, [command, ...pair, ...short, ...studies, ...engines, '--json'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const report = JSON.parse(printed);
    rmSync(join(root, 'bench/data/cache', report.dataset.sha256.slice(0, 16)), { recursive: true, force: true });

    expect(report).toMatchObject({
      bench: 'index',
      k: 10,
      dataset: { rows: 3000, dims: 16, metric: 'ip', queries: 40 },
    });
    const { belfry, glass } = report.engines;
    expect(belfry.qps_at_recall['0.9']).toBeGreaterThan(0);
    expect(belfry.build_s).toBeGreaterThan(0);
    expect(belfry.bytes_per_item).toBeGreaterThan(0);
    expect(belfry.points[0]).toMatchObject({ params: { ef: expect.any(Number) }, recall: expect.any(Number) });
    expect(glass.absent).toContain('named by --glass');
    expect(report.ratios).toEqual({ 0.9: {} });
    const whole = report.batch.filter((row: { share?: number }) => row.share === undefined);
    expect(whole.map((row: { recall: number }) => row.recall)).toEqual(whole.map(() => 1));
    expect(report.batch.at(-1)).toMatchObject({ mode: 'probe', share: 0.4, recall: expect.any(Number) });
    for (const row of report.filters.filters) expect(row.fewest_returned).toBe(10);

    const written = (name: string): string => readFileSync(join(folder, 'out', name), 'utf8');
    expect(JSON.parse(written('report.json'))).toEqual(report);
    expect(JSON.parse(written('trials.jsonl').split('\n')[0]!)).toMatchObject({ engine: 'belfry', round: 1 });
    expect(written('report.md')).toContain('| glass | absent: ');
    expect(written('pareto.svg')).toContain('recall@10');
  });

  it('refuses what it does not know, in one line', () => {
    const run = spawnSync(process.execPath, [command, '--dataset', 'two-tower-1k-d128'], { encoding: 'utf8' });
    expect(run.status).toBe(1);
    expect(run.stderr).toBe('bench: two-tower-1k-d128: the generator makes 10000 to 10000000 items, not 1000\n');
  });
});
