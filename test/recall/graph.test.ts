/** The recall that is asked for is the recall that comes: on the sample over HTTP, and of a VectorIndex with a graph. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recallOf } from '../../src/ann/calibrate.js';
import { SearchPlanner } from '../../src/ann/planner.js';
import { type GraphOptions, VectorIndex } from '../../src/ann/vector-index.js';
import { expectError } from '../support/expect-error.js';
import { SAMPLE } from '../support/folders.js';
import { encode, writeNpy } from '../support/npy.js';
import { type Service, startService } from '../support/service.js';
import { twoTower } from '../support/two-tower.js';

const TARGETS = [0.9, 0.95, 0.98];
/** What 300 users may differ from those of the calibration. */
const SLACK = 0.01;

describe('the sample', () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService(SAMPLE);
  });
  afterAll(() => service.close());

  const rows = () =>
    Uint32Array.from({ length: 300 }, (_, i) => Math.floor((i * service.generation.userIds!.size) / 300 + 3));

  it.each(TARGETS)('/retrieve keeps a recall of %s for 300 users', async (recall) => {
    const k = 20;
    let found = 0;
    for (const row of rows()) {
      const answer = async (body: object): Promise<{ id: string; score: number }[]> => {
        const user_id = service.generation.userIds!.idOf(row);
        const response = await service.post('/retrieve', { user_id, k, ...body });
        expect(response.statusCode, response.body).toBe(200);
        return response.json().items;
      };
      const truth = await answer({ exact: true });
      const got = await answer({ recall });
      expect(got).toHaveLength(k);
      found += got.filter(({ score }) => score >= truth[k - 1]!.score).length;
    }
    expect(found / (300 * k)).toBeGreaterThanOrEqual(recall - SLACK);
  });

  it('walks alone keep it too, and probes alone, where something else would be as cheap', async () => {
    const { index, users, manifest } = service.generation;
    const costs = { scanMicroseconds: 1e9, bulkMicroseconds: 1e9 };
    const queries = users!.readRows(rows());
    for (const less of [{ probes: [] }, { points: [] }]) {
      const planner = new SearchPlanner(index.info.rows, { ...manifest.graph!.calibration, costs, ...less });
      for (const k of [1, 5, 10, 50, 100, 500]) {
        const exact = await index.search({ queries, k, mode: 'exact' });
        const truth = Float32Array.from(exact.counts, (_, q) => exact.scores[q * k + k - 1]!);
        for (const recall of TARGETS) {
          const { effort } = planner.plan({ k, recall });
          if (effort.mode === 'codes') continue; // no effort reached it: a scan does
          const hits = await index.search({ queries, k, ...effort });
          const got = recallOf(hits, k, truth).recall;
          expect(got, `${effort.mode}, k ${k}, recall ${recall}`).toBeGreaterThanOrEqual(recall - SLACK);
        }
      }
      expect(planner.plan({ k: 10 }).effort.mode).toBe('points' in less ? 'probe' : 'walk');
    }
  });
});

describe('a VectorIndex', () => {
  const folder = mkdtempSync(join(tmpdir(), 'belfry-graph-index-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const [rows, dims] = [8000, 24];
  const { items, users } = twoTower(rows, 2500, dims, 21);
  const path = join(folder, 'items.npy');
  const out = join(folder, 'items.graph');
  const options: GraphOptions = { path, users: join(folder, 'users.npy'), metric: 'cosine', out };
  writeNpy(path, { shape: [rows, dims], data: encode(items, '<f4') });
  writeNpy(options.users!, { shape: [2000, dims], data: encode(users.subarray(0, 2000 * dims), '<f4') });
  const queries = users.subarray(2000 * dims);
  const stages: string[] = [];
  beforeAll(async () => {
    await VectorIndex.buildGraph({ ...options, onProgress: (stage) => stages.push(stage) });
  });
  const open = (more = {}) => VectorIndex.open({ path, metric: 'cosine', graph: out, ...more });

  it('builds a graph, and searches it with the recall asked for', async () => {
    expect(stages).toContain('calibrate');
    const index = await open();
    expect(index.info.graph).toMatchObject({ degree: 64 });
    for (const k of [1, 10, 100]) {
      const exact = await index.search(queries, { k, exact: true });
      const truth = Float32Array.from(exact.counts, (_, q) => exact.scores[q * k + k - 1]!);
      for (const recall of TARGETS) {
        const hits = await index.search(queries, { k, recall });
        expect(recallOf(hits, k, truth).recall).toBeGreaterThanOrEqual(recall - SLACK);
      }
      const walked = await index.search(queries, { k, ef: 400 });
      expect(walked.plan.effort).toMatchObject({ mode: 'walk', ef: 400 });
      expect(recallOf(walked, k, truth).recall).toBeGreaterThan(0.85); // nothing is promised of an effort
      expect((await index.search(queries, { k, recall: 1 })).rows).toEqual(exact.rows);
    }
    index.close();
  });

  it('filters and excludes in a walk', async () => {
    const index = await open();
    const filter = new Uint8Array(rows / 8).fill(0b0101_0101);
    const query = queries.slice(0, dims);
    const best = await index.search(query, { k: 5, ef: 200, filter });
    expect([...best.rows].every((row) => row % 2 === 0)).toBe(true);
    const rest = await index.search(query, { k: 5, ef: 200, filter, exclude: [...best.rows] });
    expect([...rest.rows].some((row) => best.rows.includes(row))).toBe(false);
    index.close();
  });

  it('refuses wishes that exclude each other, and numbers out of bounds', async () => {
    const index = await open();
    const query = queries.slice(0, dims);
    const refused = (wishes: object, message: string) =>
      expectError(index.search(query, wishes), 'BELFRY_INVALID_ARGUMENT', message);
    await refused({ recall: 0.9, exact: true }, 'recall, exact, ef: expected at most one of the three');
    await refused({ recall: 0.9, ef: 50 }, 'recall, exact, ef: expected at most one of the three');
    await refused({ recall: 0.4 }, 'recall: expected a number from 0.5 to 1, received 0.4');
    await refused({ recall: Number.NaN }, 'recall: expected a number from 0.5 to 1, received NaN');
    await refused({ ef: 0 }, 'ef: expected an integer from 1 to 16384, received 0');
    index.close();
  });

  it('refuses a graph of another file, a missing or a broken calibration', async () => {
    const other = join(folder, 'other.npy');
    writeNpy(other, {
      shape: [rows, dims],
      data: encode(
        items.map((value) => value + 1),
        '<f4',
      ),
    });
    await expectError(open({ path: other }), 'BELFRY_INDEX_MISMATCH', 'it belongs to another export');
    await expectError(open({ metric: 'ip' }), 'BELFRY_INDEX_MISMATCH', 'expected an index of metric ip, found cosine');
    await expectError(
      VectorIndex.open({ vectors: { data: items, dims }, metric: 'cosine', graph: out }),
      'BELFRY_INVALID_ARGUMENT',
      'graph: expected a path beside it',
    );
    const calibration = `${out}.json`;
    const whole = readFileSync(calibration, 'utf8');
    for (const broken of [whole.slice(0, -20), '{}', 'null', '{"calibration":{"points":[]}}']) {
      writeFileSync(calibration, broken);
      await expectError(open(), 'BELFRY_FILE_CORRUPT', /items\.graph\.json: .*build the graph again/);
    }
    rmSync(calibration);
    await expectError(open(), 'BELFRY_FILE_UNREADABLE', /items\.graph\.json: .*build the graph again/);
    writeFileSync(calibration, whole);
    (await open()).close();
  });

  it('stopped while it builds or calibrates leaves no file', async () => {
    for (const at of ['graph', 'calibrate'] as const) {
      const stop = new AbortController();
      const half = join(folder, `${at}.graph`);
      const building = VectorIndex.buildGraph({
        ...options,
        out: half,
        signal: stop.signal,
        onProgress: (stage) => {
          if (stage === at || stage === 'calibrate') stop.abort(new Error('enough'));
        },
      });
      await expect(building).rejects.toThrow('enough');
      expect([existsSync(half), existsSync(`${half}.json`)]).toEqual([false, false]);
    }
  });
});
