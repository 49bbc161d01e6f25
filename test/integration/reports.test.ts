/** Reports of builds as people and programs get them: on the command line, and under /admin. */
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Value } from 'typebox/value';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import Fastify, { type FastifyInstance } from 'fastify';
import { buildGeneration } from '../../src/generation/build.js';
import { DataFolder, type PublishedGeneration } from '../../src/generation/data-folder.js';
import { readReport } from '../../src/generation/report/make-report.js';
import { ReportSchema } from '../../src/generation/report/report-schema.js';
import { installErrorHandlers } from '../../src/http/errors.js';
import { reportRoutes } from '../../src/http/routes/reports.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, temporaryFolder } from '../support/folders.js';
import { twoTower } from '../support/two-tower.js';

const DIMS = 16;
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const { items, users } = twoTower(5000, 2500, DIMS, 21);

function belfry(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe('the report of a build', () => {
  const kept = temporaryFolder({ keep: true });
  const data = join(kept, 'data');
  const models = join(kept, 'models');
  let first: PublishedGeneration;
  let second: PublishedGeneration;
  const exportOf = (values: Float32Array) =>
    makeModelsFolder(models, { items: { data: values, dims: DIMS }, users: { data: users, dims: DIMS } });
  beforeAll(async () => {
    first = await buildGeneration({ models: exportOf(items.slice(0, 4500 * DIMS)), data });
    second = await buildGeneration({ models: exportOf(items), data });
  });
  afterAll(() => rmSync(kept, { recursive: true }));

  it('holds sizes, gates, the curve and the difference, and is no part of what serving verifies', async () => {
    const report = await readReport(second.folder, second.manifest);
    expect(report).toMatchObject({
      generation: second.id,
      items: 5000,
      users: 2500,
      dims: DIMS,
      overrides: [],
      diff: {
        generation: first.id,
        items: { before: 4500, now: 5000, added: 500, removed: 0 },
        users: { added: 0, removed: 0 },
        moved: { compared: 4500, unchanged: 4500, moved: 0 },
        feature_schema_changed: false,
        models: [],
      },
    });
    expect(report.bytes).toBe(Object.values(second.manifest.files).reduce((sum, { bytes }) => sum + bytes, 0));
    expect(report.recall.curve.map(({ k }) => k)).toEqual([10, 100]);
    for (const { points } of report.recall.curve) {
      const costs = points.map(({ microseconds }) => microseconds);
      expect(costs).toEqual([...costs].sort((a, b) => a - b));
    }
    expect(Object.keys(second.manifest.report)).toEqual(['report.json', 'report.svg']);
    expect(Object.keys(second.manifest.files)).not.toContain('report.json');
  });

  it('is told by belfry inspect, for a generation and for a data folder', () => {
    const shown = belfry('inspect', data, '--report');
    expect(shown.status).toBe(0);
    expect(shown.stdout).toContain(second.id);
    expect(shown.stdout).toMatch(/canaries +passed +pairs ordered as before +0\.9\d+ +>= 0\.8500/);
    expect(shown.stdout).toMatch(/items +4500 +5000 +500 added \(4500, 4501, 4502, \.\.\.\), 0 removed/);
    const json = belfry('inspect', first.folder, '--report', '--json');
    expect(Value.Check(ReportSchema, JSON.parse(json.stdout))).toBe(true);
    expect(JSON.parse(json.stdout).generation).toBe(first.id);
    const manifest = JSON.parse(belfry('inspect', second.folder, '--json').stdout);
    expect(manifest).toMatchObject({ id: second.id, version: 3, canaries: { requests: 128 } });
    expect(belfry('inspect', models, '--report')).toMatchObject({ status: 2 });
  });

  it('is told by belfry build of a refusal too, which exits with 3; --override publishes', () => {
    const own = join(kept, 'refused');
    exportOf(items);
    expect(belfry('build', '--models', models, '--data', own, '--json').status).toBe(0);
    exportOf(items.slice().reverse());
    const refused = belfry('build', '--models', models, '--data', own, '--json');
    expect(refused.status).toBe(3);
    expect(JSON.parse(refused.stderr.trim().split('\n').at(-1)!)).toMatchObject({
      code: 'BELFRY_CANARIES',
      limit: 0.85,
    });
    const { published, gates } = JSON.parse(refused.stdout);
    expect([published, gates.at(-1)]).toEqual([false, expect.objectContaining({ name: 'canaries', status: 'failed' })]);

    const forced = belfry('build', '--models', models, '--data', own, '--override', 'canaries', '--json');
    expect(forced.status).toBe(0);
    expect(JSON.parse(forced.stdout)).toMatchObject({ overrides: ['canaries'], report: { overrides: ['canaries'] } });
    expect(belfry('build', '--models', models, '--data', own, '--override', 'luck')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('Allowed choices are input, skew, recall, canaries'),
    });
    exportOf(items);
  });

  describe('under /admin', () => {
    let app: FastifyInstance;
    beforeAll(async () => {
      app = Fastify();
      installErrorHandlers(app, new Metrics());
      await app.register(reportRoutes, { data: await DataFolder.open(data) });
    });
    afterAll(() => app.close());
    const get = (path: string) => app.inject(`/admin/generations/${path}`);

    it('is JSON, and a picture', async () => {
      const answer = await get(`${second.id}/report`);
      expect(answer.statusCode).toBe(200);
      expect(answer.json()).toEqual(await readReport(second.folder, second.manifest));
      const picture = await get(`${second.id}/report.svg`);
      expect(picture.headers).toMatchObject({
        'content-type': 'image/svg+xml',
        'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
      });
      expect(picture.body).toMatch(/^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox/);
      expect(picture.body.match(/<polyline class="line s\d"/g)).toHaveLength(2);
      expect(picture.body.match(/<polyline class="line before/g)).toHaveLength(2);
      expect(picture.body).not.toContain('NaN');
    });

    it('of a generation that is not there is 404; A2: an id is no path', async () => {
      const none = await get('20260101-000000-0000/report');
      expect([none.statusCode, none.json().code]).toEqual([404, 'BELFRY_UNKNOWN_GENERATION']);
      expect((await get('..%2F..%2Fetc/report')).statusCode).toBe(400);
    });

    it('that was damaged is not shown, and keeps nothing from serving', async () => {
      writeFileSync(join(first.folder, 'report.json'), '{"version":1}');
      await expectError(readReport(first.folder, first.manifest), 'BELFRY_REPORT_MISSING', 'does not fit its checksum');
      rmSync(join(first.folder, 'report.svg'));
      const answer = await get(`${first.id}/report.svg`);
      expect([answer.statusCode, answer.json().code]).toEqual([404, 'BELFRY_REPORT_MISSING']);
      await (await DataFolder.open(data)).verify(first.id);
    });
  });
});
