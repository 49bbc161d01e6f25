/** The shadow log: lines, files of bounded size, bounded together, and a disk that fails. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import type { BelfryError } from '../../../src/errors.js';
import { compareOrders } from '../../../src/retrieval/shadow.js';
import { ShadowLog, type ShadowLogOptions } from '../../../src/retrieval/shadow-log.js';
import { TrafficMetrics } from '../../../src/telemetry/traffic-metrics.js';
import { temporaryFolder } from '../../support/folders.js';

function open(options: Partial<ShadowLogOptions> = {}) {
  const registry = new Registry();
  const heard: BelfryError[] = [];
  const folder = options.folder ?? join(temporaryFolder(), 'shadow');
  const log = new ShadowLog({
    folder,
    fileBytes: 1000,
    totalBytes: 3000,
    metrics: new TrafficMetrics(registry),
    onProblem: (error) => heard.push(error),
    ...options,
  });
  return { log, folder, heard, text: () => registry.metrics() };
}
const line = (at: number) => ({ at, filler: 'x'.repeat(80) });
const read = (folder: string) =>
  readdirSync(folder)
    .sort()
    .flatMap((name) => readFileSync(join(folder, name), 'utf8').trimEnd().split('\n'))
    .map((text) => JSON.parse(text).at as number);

describe('the shadow log', () => {
  it('holds each line once, in order, in files of the bound', async () => {
    const { log, folder, text } = open({ totalBytes: 1e9 });
    for (let at = 0; at < 50; at++) log.add(line(at));
    await log.close();
    expect(read(folder)).toEqual(Array.from({ length: 50 }, (_, at) => at));
    const sizes = readdirSync(folder).map((name) => statSync(join(folder, name)).size);
    expect(sizes.length).toBeGreaterThan(4);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(1000);
    expect(await text()).toMatch(new RegExp(`belfry_shadow_log_bytes_total ${sizes.reduce((a, b) => a + b)}`));
  });

  it('keeps the newest files, and all together below their bound', async () => {
    const { log, folder } = open();
    for (let at = 0; at < 100; at++) {
      log.add(line(at));
      if (at % 7 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await log.close();
    const kept = read(folder);
    expect(kept.at(-1)).toBe(99);
    expect(kept).toEqual(Array.from({ length: kept.length }, (_, at) => 100 - kept.length + at));
    const total = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
    expect(total).toBeGreaterThan(1000);
    expect(total).toBeLessThanOrEqual(3000);
  });

  it('leaves other files of the folder alone, and a line longer than a file is a file', async () => {
    const { log, folder } = open({ fileBytes: 1024, totalBytes: 2048 });
    log.add({ at: 0, filler: 'x'.repeat(5000) });
    await log.close();
    writeFileSync(join(folder, 'notes.txt'), 'x'.repeat(10_000));
    const next = open({ folder, fileBytes: 1024, totalBytes: 2048 });
    next.log.add(line(1));
    await next.log.close();
    expect(readdirSync(folder).some((name) => name === 'notes.txt')).toBe(true);
    expect(readdirSync(folder)).toHaveLength(2);
  });

  it('a disk that fails: told once, lines counted, nobody waits', async () => {
    const file = join(temporaryFolder(), 'file');
    writeFileSync(file, '');
    const { log, heard, text } = open({ folder: join(file, 'shadow') });
    for (let at = 0; at < 5; at++) {
      log.add(line(at));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await log.close();
    expect(heard.map(({ code }) => code)).toEqual(['BELFRY_FILE_UNREADABLE']);
    expect(await text()).toMatch(/belfry_shadow_log_lost_total\{reason="failed"\} 5/);
  });

  it('a disk that is slow: what does not fit is counted', async () => {
    const { log, folder, text } = open({ fileBytes: 1e9, totalBytes: 2e9 });
    for (let at = 0; at < 10; at++) log.add({ at, filler: 'x'.repeat(1e6) });
    await log.close();
    expect(read(folder)).toEqual([0, 1, 2, 3]);
    expect(await text()).toMatch(/belfry_shadow_log_lost_total\{reason="slow"\} 6/);
  });
});

describe('the order of a shadow beside the served one', () => {
  const hits = { rows: Uint32Array.of(10, 11, 12, 13), scores: new Float32Array(4) } as never;

  it('is compared over the first k', () => {
    const same = compareOrders({ hits }, Uint32Array.of(0, 1, 2, 3), 3);
    expect(same).toMatchObject({ overlap: 1, rankChange: 0 });
    // Served 2 0 1 3; the shadow says 3 2 1 0: ranks of 2, 0 are 2, 4.
    const other = compareOrders({ hits, order: Uint32Array.of(2, 0, 1, 3) }, Uint32Array.of(3, 2, 1, 0), 2);
    expect(other.overlap).toBe(0.5);
    expect(other.rankChange).toBe((1 + 2) / 2);
    expect([...other.ranks]).toEqual([4, 3, 2, 1]);
    expect(compareOrders({ hits }, Uint32Array.of(3, 2, 1, 0), 100)).toMatchObject({ overlap: 1, rankChange: 2 });
  });
});
