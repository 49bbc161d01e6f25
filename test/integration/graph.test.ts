/** Generations with a graph: what a build makes, what a load refuses, what requests may ask for, and whether it is kept. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildGeneration, type BuildProgress, ensureGeneration } from '../../src/generation/build.js';
import type { BuildPlan } from '../../src/generation/build-plan.js';
import { serverLoadOptions } from '../../src/cli/load-options.js';
import { DEFAULTS } from '../../src/config/schema.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { Generation } from '../../src/generation/generation.js';
import { loadMemoryBytes } from '../../src/generation/load-memory.js';
import type { GraphSection, Manifest } from '../../src/generation/manifest.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';
import { twoTower } from '../support/two-tower.js';

const DIMS = 16;
const ROWS = 4500;
const { items, users } = twoTower(ROWS, 1500, DIMS, 11);
/** Rows that no export should hold. */
const BAD = [0, 17, 4400];

function exportOf(change: (values: Float32Array) => Float32Array = (values) => values, keep = false): string {
  return makeModelsFolder(temporaryFolder({ keep }), {
    items: { data: change(items), dims: DIMS },
    users: { data: users, dims: DIMS },
    files: {
      'embeddings/item_ids.txt': Array.from({ length: change(items).length / DIMS }, (_, i) => `i${i}`).join('\n'),
    },
  });
}
const withBad = (values: Float32Array): Float32Array => {
  const copy = values.slice();
  for (const row of BAD) copy[row * DIMS + 3] = Number.NaN;
  return copy;
};

describe('a build', () => {
  it('of fewer than 4,096 items makes no graph', async () => {
    const progress: BuildProgress[] = [];
    const { manifest, folder } = await buildGeneration({
      models: exportOf((values) => values.slice(0, 4095 * DIMS)),
      data: temporaryFolder(),
      onProgress: (one) => progress.push(one),
    });
    expect(manifest.graph).toBeUndefined();
    expect(existsSync(join(folder, 'index'))).toBe(false);
    expect(progress.some(({ stage }) => stage === 'graph')).toBe(false);
  });

  it('that is stopped while the graph is built, or calibrated, leaves nothing', async () => {
    for (const at of ['graph', 'calibrate']) {
      const data = temporaryFolder();
      const stop = new AbortController();
      const seen: string[] = [];
      const building = buildGeneration({
        models: exportOf(),
        data,
        signal: stop.signal,
        onProgress: ({ stage }) => {
          seen.push(stage);
          if (stage === at) stop.abort(new Error(`stopped at ${at}`));
        },
      });
      await expect(building).rejects.toThrow(`stopped at ${at}`);
      expect(seen).not.toContain('check answers');
      expect(readdirSync(data)).toEqual([]);
    }
  });

  it('that was stopped before the graph does not begin it', async () => {
    const data = temporaryFolder();
    const stop = new AbortController();
    const building = buildGeneration({
      models: exportOf(),
      data,
      signal: stop.signal,
      onProgress: ({ stage, done, total }) => {
        if (stage === 'ids, features, models' && done === total) stop.abort(new Error('enough'));
      },
    });
    await expect(building).rejects.toThrow('enough');
    expect(readdirSync(data)).toEqual([]);
  });
});

describe('a generation', () => {
  const data = temporaryFolder({ keep: true });
  let models: string;
  let graph: GraphSection;
  let manifest: Manifest;
  let folder: string;
  const progress = new Map<string, BuildProgress[]>();
  let plan: BuildPlan;
  beforeAll(async () => {
    models = exportOf(undefined, true);
    const onProgress = (one: BuildProgress) => progress.set(one.stage, [...(progress.get(one.stage) ?? []), one]);
    ({
      published: { manifest, folder },
    } = await ensureGeneration({ models, data, onProgress, onPlan: (one) => (plan = one) }));
    graph = manifest.graph!;
  });
  afterAll(() => {
    rmSync(data, { recursive: true });
    rmSync(models, { recursive: true });
  });
  const graphFile = () => join(folder, graph.file);

  it('describes its graph, whose file is hashed as all others are', () => {
    expect(graph).toMatchObject({
      file: 'index/items.graph',
      degree: 64,
      trainingUsers: 1200,
      calibration: { source: 'users', queries: 240 },
    });
    expect(graph.queryEdges).toBeGreaterThan(0);
    expect(graph.memoryBytes).toBeGreaterThan(ROWS * 64 * 4);
    expect(manifest.files[graph.file]).toEqual({
      bytes: readFileSync(graphFile()).length,
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    const last = progress.get('calibrate')!.at(-1)!;
    expect(last.done).toBe(last.total);
    // Canaries are a few requests, whatever the size of the export.
    const { 'canaries.json': _, ...planned } = manifest.files;
    const written = Object.values(planned).reduce((sum, { bytes }) => sum + bytes, 0);
    expect(plan.writeBytes / written).toBeCloseTo(1, 1);
  });

  it('is made once from one export', async () => {
    expect((await ensureGeneration({ models, data })).reused).toBe(true);
  });

  it('walks, and explains how', async () => {
    const generation = await Generation.load({ id: manifest.id, folder, manifest });
    expect(generation.index.info.graph).toMatchObject({ degree: 64, queryEdges: graph.queryEdges });
    const { searcher } = generation;
    const query = users.slice(0, DIMS);
    const found = await searcher.search({ query, k: 10, ef: 50, exclude: new Uint32Array() });
    expect(found).toMatchObject({ path: 'walk', plan: { why: 'ef 50 was asked for', effort: { ef: 50 } } });
    expect(found.scored).toBeGreaterThan(0);
    await generation.close();
  });

  it.skipIf(process.platform !== 'linux')('is one graph in memory for all workers, of their own none', async () => {
    const one = serverLoadOptions({ ...DEFAULTS, models });
    const several = serverLoadOptions({ ...DEFAULTS, models, workers: 2 });
    const query = { query: users.slice(0, DIMS), k: 10, ef: 50, exclude: new Uint32Array() };
    const answers = [];
    for (const options of [one, several]) {
      const generation = await Generation.load({ id: manifest.id, folder, manifest }, options);
      const isMapped = readFileSync('/proc/self/maps', 'utf8').includes(graphFile());
      expect(isMapped).toBe(options === several);
      const { rows, scores } = await generation.searcher.search(query);
      answers.push({ rows, scores });
      await generation.close();
    }
    expect(answers[1]).toEqual(answers[0]);
    expect(loadMemoryBytes(manifest, one.graphLoad) - loadMemoryBytes(manifest, several.graphLoad)).toBe(
      manifest.files[graph.file]!.bytes,
    );
  });

  it('is refused when a byte of its graph differs, at every look', async () => {
    const whole = readFileSync(graphFile());
    for (const at of [0, 5000, whole.length - 1]) {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 1;
      writeFileSync(graphFile(), bytes);
      await expectError(
        (await DataFolder.open(data)).verify(manifest.id),
        'BELFRY_GENERATION_CORRUPT',
        `${graphFile()}: its checksum does not fit the manifest`,
      );
      // Between the look and the load the graph has checks of its own.
      await expectError(
        Generation.load({ id: manifest.id, folder, manifest }),
        'BELFRY_FILE_CORRUPT',
        /^items\.graph: /,
      );
    }
    writeFileSync(graphFile(), whole.subarray(0, -8));
    await expectError(
      Generation.load({ id: manifest.id, folder, manifest }),
      'BELFRY_FILE_CORRUPT',
      'bytes, the file has',
    );
    rmSync(graphFile());
    await expectError(Generation.load({ id: manifest.id, folder, manifest }), 'BELFRY_FILE_UNREADABLE', 'items.graph');
    writeFileSync(graphFile(), whole);
  });

  it('is refused with the graph of another generation', async () => {
    const other = await buildGeneration({
      models: exportOf((values) => values.map((value) => 1.5 * value)),
      data: temporaryFolder(),
    });
    const whole = readFileSync(graphFile());
    writeFileSync(graphFile(), readFileSync(join(other.folder, graph.file)));
    await expectError(
      Generation.load({ id: manifest.id, folder, manifest }),
      'BELFRY_INDEX_MISMATCH',
      'it belongs to another export, build the index again',
    );
    writeFileSync(graphFile(), whole);
  });
});

describe('requests', () => {
  let service: Service;
  let models: string;
  beforeAll(async () => {
    models = exportOf(withBad, true);
    mkdirSync(join(models, 'features'), { recursive: true });
    service = await startService(models, { build: { onBadVector: 'skip' } });
  });
  afterAll(async () => {
    await service.close();
    rmSync(models, { recursive: true });
  });
  const ask = async (body: object, url = '/retrieve') => {
    const response = await service.post(url, body);
    expect(response.statusCode, response.body).toBe(200);
    return response.json();
  };
  const ids = (answer: { items: { id: string }[] }) => answer.items.map(({ id }) => id);

  it('are answered by walks, with what was chosen and why', async () => {
    expect(service.generation.manifest.items.skippedRows).toEqual(BAD);
    const answer = await ask({ user_id: 3, k: 10, ef: 40, explain: true });
    expect(answer.explain).toMatchObject({
      path: 'walk',
      plan: 'ef 40 was asked for',
      ef: 40,
      stop: 1.12,
      rows: ROWS,
      depth: 10,
      query: 'stored user',
    });
    expect(answer.explain.scored).toBeGreaterThan(10);
    expect(answer.explain).not.toHaveProperty('expected_recall');

    const exact = await ask({ user_id: 3, k: 10, exact: true, explain: true });
    expect(exact.explain).toMatchObject({ path: 'scan', plan: 'exact was asked for', expected_recall: 1 });
    for (const field of ['ef', 'stop', 'scored']) expect(exact.explain).not.toHaveProperty(field);
    expect(ids(await ask({ user_id: 3, k: 10, recall: 1 }))).toEqual(ids(exact));

    const chosen = await ask({ user_id: 3, k: 10, recall: 0.9, explain: true });
    expect(chosen.explain.expected_recall).toBeGreaterThanOrEqual(0.9);
    expect(['walk', 'probe', 'scan']).toContain(chosen.explain.path);
    expect(chosen.explain.plan).toMatch(/^(the cheapest (walk|probe) whose recall is surely at least 0\.9|a scan \()/);
  });

  it('of rows that were left out find nothing, however they are asked', async () => {
    const gone = new Set(BAD.map((row) => `i${row}`));
    for (let user = 0; user < 60; user++) {
      const answer = await ask({ user_id: user, k: 100, ef: 300 });
      expect(answer.returned).toBe(100);
      expect(ids(answer).filter((id) => gone.has(id))).toEqual([]);
    }
    const all = await ask({ user_id: 0, k: 1000, ef: 4096 });
    expect([all.returned, ids(all).some((id) => gone.has(id))]).toEqual([1000, false]);
  });

  it('never answer what they exclude', async () => {
    const best = ids(await ask({ user_id: 7, k: 20, exact: true }));
    const rest = ids(await ask({ user_id: 7, k: 20, ef: 100, exclude: best }));
    expect(rest).toHaveLength(20);
    expect(rest.filter((id) => best.includes(id))).toEqual([]);
  });

  it.each(['/retrieve', '/similar/users', '/similar/items'])(
    '%s refuses two wishes at once, and bounds',
    async (url) => {
      const query = url === '/similar/items' ? { item_id: 'i5' } : { user_id: 5 };
      const refused = async (body: object) => {
        const response = await service.post(url, { ...query, ...body });
        return [response.statusCode, response.json().code, response.json().message];
      };
      for (const body of [
        { recall: 0.9, exact: true },
        { recall: 1, exact: true },
        { recall: 0.9, ef: 50 },
        { exact: true, ef: 50 },
      ]) {
        expect(await refused(body)).toEqual([
          400,
          'BELFRY_INVALID_ARGUMENT',
          'recall, exact, ef: expected at most one of the three',
        ]);
      }
      for (const body of [
        { recall: 0.49 },
        { recall: 1.01 },
        { recall: '0.9' },
        { ef: 0 },
        { ef: 4097 },
        { ef: 1.5 },
      ]) {
        const [status, code, message] = await refused(body);
        expect([status, code]).toEqual([400, 'BELFRY_INVALID_ARGUMENT']);
        expect(message).toContain(Object.keys(body)[0]);
      }
      for (const body of [{ recall: 0.5 }, { recall: 0.99 }, { recall: 1 }, { exact: true }, { ef: 1 }, { ef: 4096 }]) {
        expect((await ask({ ...query, ...body, k: 3 }, url)).returned).toBe(3);
      }
    },
  );

  it('of a batch have wishes and errors of their own', async () => {
    const { responses } = await ask(
      {
        requests: [
          { user_id: 1, recall: 0.9 },
          { user_id: 1, ef: 5, exact: true },
          { user_id: 1, ef: 20, explain: true },
        ],
      },
      '/retrieve/batch',
    );
    expect(responses[0].returned).toBe(10);
    expect(responses[1].error.message).toBe('recall, exact, ef: expected at most one of the three');
    expect(responses[2].explain).toMatchObject({ path: 'walk', ef: 20 });
  });
});
