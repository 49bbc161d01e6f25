/** Gates: what may go live, what may not, with the code of each; canaries before and after; the report of a build. */
import { createHash } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DataFolder } from '../../src/generation/data-folder.js';
import { buildGeneration, type BuildOptions } from '../../src/generation/build.js';
import type { GateResult } from '../../src/generation/gates/gate.js';
import { replayCanaries } from '../../src/generation/gates/replay.js';
import { Generation } from '../../src/generation/generation.js';
import { readManifest } from '../../src/generation/manifest.js';
import { loadOnnx } from '../../src/inference/onnx-file.js';
import { readReport } from '../../src/generation/report/make-report.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, SAMPLE, temporaryFolder } from '../support/folders.js';
import { normal, seeded } from '../support/judge.js';
import { twoTower } from '../support/two-tower.js';

const DIMS = 16;
const ITEMS = 1200;
const { items, users } = twoTower(ITEMS, 400, DIMS, 11);

const itemNames = Array.from({ length: ITEMS }, (_, row) => `item-${row}`);
const userNames = Array.from({ length: 400 }, (_, row) => `user-${row}`);

interface Export {
  items?: Float32Array;
  users?: Float32Array;
  itemIds?: readonly string[];
  files?: Record<string, string>;
}

function exportOf(folder: string, changes: Export = {}): string {
  return makeModelsFolder(folder, {
    items: { data: changes.items ?? items, dims: DIMS },
    users: { data: changes.users ?? users, dims: DIMS },
    files: {
      'embeddings/item_ids.txt': (changes.itemIds ?? itemNames).join('\n'),
      'embeddings/user_ids.txt': userNames.join('\n'),
      ...changes.files,
    },
  });
}

const gate = (gates: readonly GateResult[], name: GateResult['name']) => gates.find((one) => one.name === name)!;
const measured = (result: GateResult, what: string) => result.measurements.find((one) => one.what === what)!.value;

/** Rows in another order, the same every time. */
function shuffledRows(values: Float32Array, dims: number, seed: number): Float32Array {
  const random = seeded(seed);
  const order = Array.from({ length: values.length / dims }, (_, row) => row);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  const moved = new Float32Array(values.length);
  order.forEach((from, to) => moved.set(values.subarray(from * dims, (from + 1) * dims), to * dims));
  return moved;
}

/** What a retraining does: all vectors turned by one rotation, and each a little elsewhere. */
function retrained(noise: number): Required<Pick<Export, 'items' | 'users'>> {
  const random = seeded(77);
  const axes: Float64Array[] = [];
  while (axes.length < DIMS) {
    const axis = Float64Array.from({ length: DIMS }, () => normal(random));
    for (const other of axes) {
      const along = axis.reduce((sum, value, d) => sum + value * other[d]!, 0);
      other.forEach((value, d) => (axis[d]! -= along * value));
    }
    const size = Math.hypot(...axis);
    axes.push(axis.map((value) => value / size));
  }
  const turn = (values: Float32Array): Float32Array => {
    const turned = new Float32Array(values.length);
    for (let row = 0; row < values.length; row += DIMS) {
      for (const [d, axis] of axes.entries()) {
        let sum = noise * normal(random);
        for (let i = 0; i < DIMS; i++) sum += values[row + i]! * axis[i]!;
        turned[row + d] = sum;
      }
    }
    return turned;
  };
  return { items: turn(items), users: turn(users) };
}

describe('the canaries gate', () => {
  const data = temporaryFolder({ keep: true });
  let first: string;
  beforeAll(async () => {
    const { id, manifest } = await buildGeneration({ models: exportOf(temporaryFolder({ keep: true })), data });
    first = id;
    expect(gate(manifest.gates, 'canaries')).toMatchObject({ status: 'not_checked' });
    expect(manifest.canaries).toEqual({ file: 'canaries.json', requests: 128, k: 20, towerUsers: 0, supplied: 0 });
  });
  afterAll(() => rmSync(data, { recursive: true }));

  /** A second generation over the first one, in a data folder of its own. */
  async function rebuild(changes: Export, options: Partial<BuildOptions> = {}) {
    const own = temporaryFolder();
    cpSync(data, own, { recursive: true });
    return {
      own,
      published: await buildGeneration({ models: exportOf(temporaryFolder(), changes), data: own, ...options }),
    };
  }

  it('refuses a shuffled item_embeddings.npy: users no longer like what they liked', async () => {
    const results: GateResult[] = [];
    const own = temporaryFolder();
    cpSync(data, own, { recursive: true });
    const models = exportOf(temporaryFolder(), { items: shuffledRows(items, DIMS, 5) });
    const error = await expectError(
      buildGeneration({ models, data: own, onGate: (result) => results.push(result) }),
      'BELFRY_CANARIES',
      `128 recorded by generation ${first}; pairs ordered as before: at least 0.85 is expected, measured 0.`,
    );
    expect(error.limit).toBe(0.85);
    const refused = gate(results, 'canaries');
    expect(refused).toMatchObject({ status: 'failed', code: 'BELFRY_CANARIES' });
    expect(measured(refused, 'pairs ordered as before')).toBeLessThan(0.65);
    // Nothing but the canaries could tell: shapes, names, norms and recall are as they were.
    expect(results.map(({ name, status }) => `${name} ${status}`)).toEqual([
      'input passed',
      'skew not_checked',
      'recall passed',
      'canaries failed',
    ]);
    expect(await (await DataFolder.open(own)).pointed()).toBe(first);
    expect(readdirSync(own).filter((name) => name.startsWith('tmp-'))).toEqual([]);
  });

  it('lets a retraining pass that turned every vector and moved each', async () => {
    const { published } = await rebuild(retrained(0.3));
    const passed = gate(published.manifest.gates, 'canaries');
    expect(passed.status).toBe('passed');
    expect(measured(passed, 'pairs ordered as before')).toBeGreaterThan(0.95);
    expect(measured(passed, 'answers kept')).toBeLessThan(0.95);
    const { diff } = await readReport(published.folder, published.manifest);
    expect(diff).toMatchObject({ generation: first, items: { added: 0, removed: 0 }, moved: { compared: ITEMS } });
    expect(diff!.moved!.moved).toBeGreaterThan(0.9 * ITEMS);
    expect(diff!.moved!.neighbours_kept).toBeGreaterThan(0.5);
  });

  it('publishes all the same with an override, which leaves its mark', async () => {
    const shuffled = { items: shuffledRows(items, DIMS, 5) };
    const { published } = await rebuild(shuffled, { overrides: ['canaries'] });
    const manifest = await readManifest(published.folder);
    expect(manifest.overrides).toEqual(['canaries']);
    expect(gate(manifest.gates, 'canaries')).toMatchObject({ status: 'overridden' });
    await expectError(
      rebuild(shuffled, { overrides: ['skew', 'recall'] }),
      'BELFRY_CANARIES',
      'publish all the same with --override canaries',
    );
    await expectError(rebuild(shuffled, { overrides: ['luck' as never] }), 'BELFRY_CONFIG_INVALID', 'received luck');
  });

  it('measures nothing where too few ids are the same', async () => {
    const { published } = await rebuild({ itemIds: itemNames.map((name) => `new-${name}`) });
    expect(gate(published.manifest.gates, 'canaries')).toMatchObject({
      status: 'not_checked',
      detail: 'too few ids are those of the generation before, and no canaries.json',
    });
  });

  it('counts items that came and went, and tells who did not move', async () => {
    const itemIds = itemNames.map((name, row) => (row % 10 === 0 ? `new-${row}` : name));
    const { published } = await rebuild({ itemIds });
    const { diff } = await readReport(published.folder, published.manifest);
    expect(diff!.items).toMatchObject({ before: ITEMS, now: ITEMS, added: 120, removed: 120 });
    expect(diff!.items.added_examples.slice(0, 2)).toEqual(['new-0', 'new-10']);
    expect(diff!.items.removed_examples.slice(0, 2)).toEqual(['item-0', 'item-10']);
    expect(diff!.moved).toEqual({
      compared: 1080,
      unchanged: 1080,
      moved: 0,
      mean_cosine: expect.closeTo(1),
      neighbours_kept: 1,
    });
    expect(diff!.recall.map(({ k }) => k)).toEqual([10, 100]);
  });
});

describe('canaries.json', () => {
  const build = (canaries: unknown) =>
    buildGeneration({
      models: exportOf(temporaryFolder(), { files: { 'canaries.json': JSON.stringify(canaries) } }),
      data: temporaryFolder(),
    });
  /** The true best items of a user. */
  const best = (user: number, count: number): string[] => {
    const scores = itemNames.map((name, row) => ({
      name,
      score: items
        .subarray(row * DIMS, (row + 1) * DIMS)
        .reduce((sum, value, d) => sum + value * users[user * DIMS + d]!, 0),
    }));
    return scores
      .sort((a, b) => b.score - a.score)
      .slice(0, count)
      .map(({ name }) => name);
  };

  it('must hold, by user and by embedding', async () => {
    const { manifest } = await build([
      { user_id: 'user-7', expect: best(7, 3) },
      { embedding: [...users.subarray(DIMS, 2 * DIMS)], expect: best(1, 2), k: 2 },
      { user_id: 'user-9', expect: [best(9, 1)[0], 'item-not-there'], min_overlap: 0.5 },
    ]);
    expect(manifest.canaries.supplied).toBe(3);
    expect(gate(manifest.gates, 'canaries')).toMatchObject({
      status: 'passed',
      detail: 'requests: 3 of canaries.json',
    });
    expect(manifest.sources.map(({ path }) => path)).toContain('canaries.json');
  });

  it('is refused with the request that does not hold, and what is missing', async () => {
    const wrong = best(7, ITEMS).at(-1)!;
    await expectError(
      build([{ user_id: 'user-7', expect: [best(7, 1)[0], wrong] }]),
      'BELFRY_CANARIES',
      `0 (user "user-7"): at least 1 of the expected items must be in the top 10, 0.50 are; missing "${wrong}"`,
    );
    await expectError(
      build([{ user_id: 'nobody', expect: ['item-1'] }]),
      'BELFRY_CANARIES',
      'the export has no such user',
    );
    await expectError(
      build([{ embedding: [1], expect: ['item-1'] }]),
      'BELFRY_CANARIES',
      'expected 16 dims, received 1',
    );
  });

  it('is refused when it does not follow its form', async () => {
    await expectError(build([{ user_id: 'user-7' }]), 'BELFRY_EXPORT_INVALID', 'canaries.json: 0.expect');
    await expectError(
      build([{ expect: ['item-1'] }]),
      'BELFRY_EXPORT_INVALID',
      '0: expected either user_id or embedding',
    );
    await expectError(build({}), 'BELFRY_EXPORT_INVALID', 'canaries.json');
  });
});

describe('the input gate', () => {
  it('refuses an export that lost most of its items, or whose lengths are of another scale', async () => {
    const data = temporaryFolder();
    await buildGeneration({ models: exportOf(temporaryFolder()), data });
    const some = { items: items.slice(0, 300 * DIMS), itemIds: itemNames.slice(0, 300) };
    const error = await expectError(
      buildGeneration({ models: exportOf(temporaryFolder(), some), data }),
      'BELFRY_INPUT_GATE',
      'items for each one before: at least 0.5 is expected, measured 0.2500',
    );
    expect(error.limit).toBe(0.5);
    const long = exportOf(temporaryFolder(), { items: items.map((value) => 20 * value) });
    await expectError(
      buildGeneration({ models: long, data }),
      'BELFRY_INPUT_GATE',
      /median item norm, to that before: at most 10 is expected, measured (20|19\.9|20\.0)/,
    );
    const { manifest } = await buildGeneration({ models: long, data, thresholds: { gate_norm_change: 25 } });
    expect(gate(manifest.gates, 'input').status).toBe('passed');
  });
});

describe('the recall gate', () => {
  it('refuses vectors that no approximate search can tell apart', async () => {
    const random = seeded(3);
    const direction = Float64Array.from({ length: DIMS }, () => normal(random));
    // A collapsed training: every item is nearly the same.
    const collapsed = new Float32Array(ITEMS * DIMS).map((_, i) => direction[i % DIMS]! + 1e-5 * normal(random));
    const results: GateResult[] = [];
    await expectError(
      buildGeneration({
        models: exportOf(temporaryFolder(), { items: collapsed }),
        data: temporaryFolder(),
        onGate: (result) => results.push(result),
      }),
      'BELFRY_RECALL',
      /recall@10: at least 0\.95 is expected, measured 0\.\d+/,
    );
    expect(measured(gate(results, 'recall'), 'recall@10')).toBeLessThan(0.9);
  });

  it('holds a generation against the one that it replaces', async () => {
    const data = temporaryFolder();
    const before = await buildGeneration({ models: exportOf(temporaryFolder()), data });
    const { manifest } = await buildGeneration({
      models: exportOf(temporaryFolder()),
      data,
      thresholds: { gate_recall: 0.5 },
    });
    const recall = gate(manifest.gates, 'recall');
    const earlier = measured(gate(before.manifest.gates, 'recall'), 'recall@10');
    expect(recall.measurements[0]).toMatchObject({ what: 'recall@10', min: earlier - 0.005 });
    expect(manifest.previous).toBe(before.id);
  });
});

describe('canaries at load', () => {
  it('M5: are answered as at the build, by the search and by the tower', async () => {
    const published = await buildGeneration({ models: SAMPLE, data: temporaryFolder() });
    const generation = await Generation.load(published);
    const { requests, recall, tower } = await replayCanaries(generation);
    expect([requests, tower!.users]).toEqual([128, 32]);
    expect(recall).toBeGreaterThan(0.95);
    expect(tower!.leastCosine).toBeGreaterThan(0.9999);

    const path = join(published.folder, 'canaries.json');
    const recorded = JSON.parse(readFileSync(path, 'utf8'));
    const drifted = structuredClone(recorded);
    drifted.tower.embeddings[3] = drifted.tower.embeddings[3].map((value: number, d: number) => value + (d % 3) * 0.5);
    writeFileSync(path, JSON.stringify(drifted));
    await expectError(
      replayCanaries(generation),
      'BELFRY_CANARIES',
      'two-tower@1.0 makes other embeddings than at the build',
    );

    const other = structuredClone(recorded);
    [other.recorded[5].expect[0], other.recorded[5].expect[1]] = [
      other.recorded[5].expect[1],
      other.recorded[5].expect[0],
    ];
    writeFileSync(path, JSON.stringify(other));
    await expectError(replayCanaries(generation), 'BELFRY_CANARIES', 'is answered otherwise: place 1 was');

    writeFileSync(path, JSON.stringify({ ...recorded, k: -1 }));
    await expectError(replayCanaries(generation), 'BELFRY_GENERATION_CORRUPT', 'canaries.json: k: expected');
    await generation.close();
  });
});

describe('the skew gate', () => {
  const copyOfSample = (): string => {
    const models = temporaryFolder();
    for (const part of ['embeddings', 'exported', 'features', 'registry.yaml'])
      cpSync(join(SAMPLE, part), join(models, part), { recursive: true });
    return models;
  };

  it('M1: refuses a tower of another training run with the same shapes and names', async () => {
    const models = copyOfSample();
    const path = join(models, 'exported/onnx/two_tower.onnx');
    // Another run learns the same things in other dims: here the last layer of the users answers them in another order.
    const { bytes, model } = await loadOnnx(path, 'tower');
    const layer = model.graph.initializers.find(({ name }) => name === 'user_tower.out.weight')!;
    const width = 384 * 2; // one output of float16
    // Field 9, raw_data, of 63 outputs.
    const data = Buffer.from(layer.raw).indexOf(Buffer.from([0x4a, 0x80, 0xfa, 0x02])) + 4;
    const start = layer.raw.byteOffset - bytes.byteOffset + data;
    const weights = Buffer.from(bytes.subarray(start, start + 63 * width));
    const other = Buffer.from(bytes);
    for (let dim = 0; dim < 63; dim++) weights.copy(other, start + (62 - dim) * width, dim * width, (dim + 1) * width);
    writeFileSync(path, other);
    const registry = join(models, 'registry.yaml');
    const hash = (data: Uint8Array) => createHash('sha256').update(data).digest('hex');
    writeFileSync(registry, readFileSync(registry, 'utf8').replace(hash(bytes), hash(other)));

    const folder = temporaryFolder();
    const error = await expectError(
      buildGeneration({ models, data: folder }),
      'BELFRY_SKEW',
      /two-tower@1\.0 on 256 users: .* the tower and the embeddings are of different trainings or features/,
    );
    expect(error).toMatchObject({ field: 'two-tower@1.0', limit: 0.99 });
    expect(readdirSync(folder).filter((name) => name.startsWith('gen-'))).toEqual([]);
    const { manifest } = await buildGeneration({ models, data: folder, overrides: ['skew'] });
    expect(gate(manifest.gates, 'skew').status).toBe('overridden');
  });

  it('refuses a shuffled item_embeddings.npy even as the first export, where there is an item tower', async () => {
    const models = copyOfSample();
    const path = join(models, 'embeddings/item_embeddings.npy');
    const bytes = readFileSync(path);
    const half = 128 + 128 * Math.floor((bytes.length - 128) / 256);
    writeFileSync(path, Buffer.concat([bytes.subarray(0, 128), bytes.subarray(half), bytes.subarray(128, half)]));
    await expectError(
      buildGeneration({ models, data: temporaryFolder() }),
      'BELFRY_SKEW',
      /cosine of items, lowest tenth: at least 0\.99 is expected, measured -?0\.\d+/,
    );
  });
});
