/** Reports that a bench leaves in the data folder, and what the console page gets of them. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Fastify from 'fastify';
import { describe, expect, it, onTestFinished } from 'vitest';
import { keepReport } from '../../src/bench/report/keep.js';
import { parseReport } from '../../src/bench/report/schema.js';
import type { AppParts } from '../../src/http/parts.js';
import { benchReportRoutes } from '../../src/http/routes/bench-reports.js';
import { temporaryFolder } from '../support/folders.js';

const REPORT = parseReport(readFileSync(new URL('../fixtures/load-report.json', import.meta.url), 'utf8'), 'fixture');

async function consoleOf(data: string) {
  const app = Fastify();
  onTestFinished(() => app.close());
  await app.register(benchReportRoutes, { admin: { data: { path: data } } } as unknown as AppParts);
  return app;
}

describe('bench reports on the console', () => {
  it('are listed newest first, and shown under a policy of their own', async () => {
    const data = temporaryFolder();
    const app = await consoleOf(data);
    expect((await app.inject('/console/benches')).json()).toEqual({ reports: [] });
    await keepReport({ ...REPORT, started: '2026-01-02T03:04:05.000Z' }, data);
    await keepReport({ ...REPORT, bench: 'recall', started: '2026-01-02T03:04:06.000Z' }, data);
    mkdirSync(join(data, 'bench', '20260102-030407-load'));
    writeFileSync(join(data, 'bench', '20260102-030407-load', 'report.json'), '{'); // half-written
    const { reports } = (await app.inject('/console/benches')).json<{
      reports: { id: string; summary: unknown[] }[];
    }>();
    expect(reports.map(({ id }) => id)).toEqual(['20260102-030406-recall', '20260102-030405-load']);
    expect(reports[0]!.summary[0]).toEqual({ label: 'Throughput', value: expect.any(Number), unit: 'rate' });
    const page = await app.inject('/console/benches/20260102-030405-load');
    expect(page.body).toContain('<h1>Load during swap</h1>');
    expect(page.headers['content-security-policy']).toContain("default-src 'none'");
  });

  it('are no way to other files', async () => {
    const data = temporaryFolder();
    writeFileSync(join(data, 'report.html'), 'secret');
    const app = await consoleOf(data);
    for (const id of ['..', '%2e%2e', '20260102-030405-load', '..%2f..%2fetc'])
      expect((await app.inject(`/console/benches/${id}`)).statusCode).toBeGreaterThanOrEqual(400);
  });

  it('are the last twenty', async () => {
    const data = temporaryFolder();
    for (let i = 10; i < 35; i++) await keepReport({ ...REPORT, started: `2026-01-02T03:04:${i}.000Z` }, data);
    const kept = readdirSync(join(data, 'bench')).sort();
    expect([kept.length, kept[0]]).toEqual([20, '20260102-030415-load']);
  });
});
