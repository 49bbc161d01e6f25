/** Builds from somebody else's exports: what must work, and what must be refused with nothing published. */
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildGeneration, type BuildProgress, ensureGeneration } from '../../src/generation/build.js';
import type { BuildPlan } from '../../src/generation/build-plan.js';
import { Generation } from '../../src/generation/generation.js';
import type { ErrorCode } from '../../src/errors.js';
import { expectError } from '../support/expect-error.js';
import { encode, npyBytes } from '../support/npy.js';
import { startService } from '../support/service.js';
import { makeModelsFolder, npyFile, randomValues, SAMPLE, temporaryFolder } from '../support/folders.js';

const DIMS = 16;
const items = { data: randomValues(1000 * DIMS, 5), dims: DIMS };
const users = { data: randomValues(300 * DIMS, 6), dims: DIMS };

function without(values: Float32Array, changes: Record<number, number[]>): Float32Array {
  const copy = values.slice();
  for (const [row, vector] of Object.entries(changes)) copy.set(vector, Number(row) * DIMS);
  return copy;
}

describe('a build', () => {
  it('takes two .npy files and nothing else, says its plan and its progress', async () => {
    const models = makeModelsFolder(temporaryFolder(), { items, users });
    const data = temporaryFolder();
    const plans: BuildPlan[] = [];
    const progress: BuildProgress[] = [];
    const { published, reused } = await ensureGeneration({
      models,
      data,
      onPlan: (plan) => plans.push(plan),
      onProgress: (one) => progress.push(one),
    });
    expect(reused).toBe(false);
    expect(plans).toEqual([
      expect.objectContaining({ items: 1000, users: 300, dims: DIMS, writeBytes: 1300 * DIMS * 4 }),
    ]);
    const last = new Map(progress.map(({ stage, done, total }) => [stage, done === total]));
    expect([...last]).toEqual(
      ['item embeddings', 'user embeddings', 'ids, features, models', 'check models', 'check answers', 'publish'].map(
        (stage) => [stage, true],
      ),
    );
    expect(published.manifest).toMatchObject({
      metric: 'ip',
      items: { count: 1000, dims: DIMS, dtype: 'f4', idKind: 'row', zeroVectors: 0, skippedRows: [] },
      users: { count: 300 },
      gates: [
        { name: 'input', status: 'passed' },
        { name: 'skew', status: 'not_checked', detail: 'the folder has no user tower' },
        { name: 'recall', status: 'passed' },
        { name: 'canaries', status: 'not_checked' },
      ],
    });
    mkdirSync(join(data, 'tmp-killed'));
    const again = await ensureGeneration({ models, data });
    expect([again.reused, again.published.id]).toEqual([true, published.id]);
    expect(readdirSync(data).sort()).toEqual(['CURRENT', `gen-${published.id}`]);
  });

  it('makes a new generation when the export changes, and when the metric does', async () => {
    const models = makeModelsFolder(temporaryFolder(), { items, users });
    const data = temporaryFolder();
    const first = await ensureGeneration({ models, data });
    writeFileSync(join(models, 'embeddings/item_embeddings.npy'), npyFile(randomValues(1000 * DIMS, 7), [1000, DIMS]));
    // Other random vectors answer other items, which no retraining does.
    const second = await ensureGeneration({ models, data, overrides: ['canaries'] });
    expect(second.published.id).not.toBe(first.published.id);
    const third = await ensureGeneration({ models, data, metric: 'cosine' });
    expect([third.reused, third.published.manifest.metric]).toEqual([false, 'cosine']);
    writeFileSync(
      join(models, 'embeddings/item_ids.txt'),
      Array.from({ length: 1000 }, (_, i) => `item-${i}`).join('\n'),
    );
    const fourth = await ensureGeneration({ models, data, metric: 'cosine' });
    expect([fourth.reused, fourth.published.manifest.items.idKind]).toEqual([false, 'string']);
  });

  it('sees a change that came while it built, and a rule that changed since', async () => {
    const models = makeModelsFolder(temporaryFolder(), {
      items,
      files: { 'embeddings/export.json': '{"version":"1"}' },
    });
    const data = temporaryFolder();
    const change = () => writeFileSync(join(models, 'embeddings/export.json'), '{"version":"2"}');
    await buildGeneration({ models, data, onProgress: change });
    expect((await ensureGeneration({ models, data })).reused).toBe(false);
    expect((await ensureGeneration({ models, data })).reused).toBe(true);

    const bad = without(items.data, { 7: Array(DIMS).fill(Number.NaN) });
    writeFileSync(join(models, 'embeddings/item_embeddings.npy'), npyFile(bad, [1000, DIMS]));
    expect((await ensureGeneration({ models, data, onBadVector: 'skip' })).reused).toBe(false);
    expect((await ensureGeneration({ models, data, onBadVector: 'skip' })).reused).toBe(true);
    await expectError(() => ensureGeneration({ models, data }), 'BELFRY_BAD_VECTOR', '1 rows hold NaN');
  });

  it('serves integer ids, and tells 42 from "42"', async () => {
    const ids = BigInt64Array.from({ length: 1000 }, (_, i) => BigInt(i * 7 + 1_000_000));
    const models = makeModelsFolder(temporaryFolder(), {
      items,
      users,
      files: { 'embeddings/item_ids.npy': npyFile(ids, [1000]) },
    });
    const generation = await Generation.load(await buildGeneration({ models, data: temporaryFolder() }));
    expect(generation.itemIds.idOf(3)).toBe(1_000_021);
    expect([generation.itemIds.rowOf(1_000_021), generation.itemIds.rowOf('1000021')]).toEqual([3, undefined]);
    await generation.close();
  });

  it('V1: leaves bad rows out when asked to, and never answers them', async () => {
    const bad = without(items.data, { 7: Array(DIMS).fill(Number.NaN) });
    const models = makeModelsFolder(temporaryFolder(), { items: { data: bad, dims: DIMS } });
    const published = await buildGeneration({ models, data: temporaryFolder(), onBadVector: 'skip' });
    expect(published.manifest.items.skippedRows).toEqual([7]);
    const generation = await Generation.load(published);
    expect(generation.defaultQuery.every(Number.isFinite)).toBe(true);
    await generation.close();
    const service = await startService(models, { build: { onBadVector: 'skip' } });
    const answer = (await service.post('/retrieve', { embedding: Array(DIMS).fill(1), k: 1000 })).json();
    expect(answer.returned).toBe(999);
    expect(answer.items.map(({ id }: { id: number }) => id)).not.toContain(7);
    await service.close();
  });

  it('stops when told to, and publishes nothing', async () => {
    const models = makeModelsFolder(temporaryFolder(), { items, users });
    const data = temporaryFolder();
    const stop = new AbortController();
    const building = buildGeneration({
      models,
      data,
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('stopped')),
    });
    await expect(building).rejects.toThrow('stopped');
    expect(readdirSync(data)).toEqual([]);
  });

  it.each<[string, (folder: string) => void, ErrorCode, RegExp]>([
    [
      'F2: a truncated file',
      (folder) => truncateSync(join(folder, 'embeddings/item_embeddings.npy'), 500),
      'BELFRY_NPY_SIZE',
      /item_embeddings\.npy/,
    ],
    [
      'F1: a file that is no npy',
      (folder) => writeFileSync(join(folder, 'embeddings/item_embeddings.npy'), 'hello, I am text'),
      'BELFRY_NPY_INVALID',
      /item_embeddings\.npy/,
    ],
    [
      'F3: integers as vectors',
      (folder) =>
        writeFileSync(join(folder, 'embeddings/item_embeddings.npy'), npyFile(new BigInt64Array(DIMS), [1, DIMS])),
      'BELFRY_NPY_UNSUPPORTED',
      /f2, f4/,
    ],
    [
      'V1: NaN',
      (folder) =>
        writeFileSync(
          join(folder, 'embeddings/item_embeddings.npy'),
          npyFile(
            without(items.data, { 3: Array(DIMS).fill(Number.NaN), 9: Array(DIMS).fill(Number.POSITIVE_INFINITY) }),
            [1000, DIMS],
          ),
        ),
      'BELFRY_BAD_VECTOR',
      /2 rows hold NaN, infinite or overflowing values \(first: 3, 9\); mend the export, or leave them out with --on-bad-vector skip/,
    ],
    [
      'I1: a duplicate id',
      (folder) =>
        writeFileSync(
          join(folder, 'embeddings/item_ids.txt'),
          `${Array.from({ length: 999 }, (_, i) => i).join('\n')}\n5\n`,
        ),
      'BELFRY_DUPLICATE_ID',
      /id "5" stands in row 5 and in row 999/,
    ],
    [
      'I2: too few ids',
      (folder) => writeFileSync(join(folder, 'embeddings/item_ids.txt'), 'a\nb\n'),
      'BELFRY_COUNT_MISMATCH',
      /item_ids\.txt holds 2 ids and item_embeddings\.npy 1000 rows/,
    ],
    [
      'users of other dims',
      (folder) => writeFileSync(join(folder, 'embeddings/user_embeddings.npy'), npyFile(new Float32Array(8), [2, 4])),
      'BELFRY_DIMS_MISMATCH',
      /user_embeddings\.npy has 4 dims and item_embeddings\.npy 16/,
    ],
    [
      'export.json of other dims',
      (folder) => writeFileSync(join(folder, 'embeddings/export.json'), '{"dims":32}'),
      'BELFRY_EXPORT_INVALID',
      /dims: expected 16 \(as in item_embeddings\.npy\), received 32/,
    ],
  ])('refuses %s and leaves what serves', async (_, spoil, code, message) => {
    const models = makeModelsFolder(temporaryFolder(), { items, users });
    const data = temporaryFolder();
    const good = await buildGeneration({ models, data });
    spoil(models);
    await expectError(() => buildGeneration({ models, data }), code, message);
    expect(readdirSync(data).sort()).toEqual(['CURRENT', `gen-${good.id}`]);
    expect(readFileSync(join(data, 'CURRENT'), 'utf8').trim()).toBe(good.id);
  });

  it('V1: skips at most one row in a thousand', async () => {
    const bad = without(items.data, { 1: Array(DIMS).fill(Number.NaN), 2: Array(DIMS).fill(Number.NaN) });
    const models = makeModelsFolder(temporaryFolder(), { items: { data: bad, dims: DIMS } });
    await expectError(
      () => buildGeneration({ models, data: temporaryFolder(), onBadVector: 'skip' }),
      'BELFRY_BAD_VECTOR',
      /--on-bad-vector skip leaves out at most 1 of 1000 rows/,
    );
  });

  it('V2: refuses zero vectors under cosine, takes them under ip', async () => {
    const models = makeModelsFolder(temporaryFolder(), {
      items: { data: without(items.data, { 4: Array(DIMS).fill(0) }), dims: DIMS },
    });
    await expectError(
      () => buildGeneration({ models, data: temporaryFolder(), metric: 'cosine' }),
      'BELFRY_BAD_VECTOR',
      /1 rows are zero vectors, which cosine cannot rank \(first: 4\)/,
    );
    expect((await buildGeneration({ models, data: temporaryFolder(), metric: 'ip' })).manifest.items.zeroVectors).toBe(
      1,
    );
  });

  it('V4: refuses doubles that no 32-bit float holds, takes denormals and huge norms', async () => {
    const values = Float64Array.from(items.data.slice(0, 10 * DIMS));
    const models = makeModelsFolder(temporaryFolder(), { items });
    const path = join(models, 'embeddings/item_embeddings.npy');
    values[3] = 1e-310;
    values[5] = 3e38;
    writeFileSync(path, npyBytes({ descr: '<f8', shape: [10, DIMS], data: encode(values, '<f8') }));
    const { manifest } = await buildGeneration({ models, data: temporaryFolder() });
    expect(manifest.items).toMatchObject({ dtype: 'f4', count: 10, skippedRows: [] });
    expect(manifest.items.norms.max).toBeGreaterThan(2e38);
    values[2 * DIMS] = 1e300;
    writeFileSync(path, npyBytes({ descr: '<f8', shape: [10, DIMS], data: encode(values, '<f8') }));
    await expectError(
      () => buildGeneration({ models, data: temporaryFolder() }),
      'BELFRY_BAD_VECTOR',
      /1 rows hold NaN, infinite or overflowing values \(first: 2\)/,
    );
  });

  it('I3: an empty catalogue and one item are legal', async () => {
    for (const count of [0, 1]) {
      const models = makeModelsFolder(temporaryFolder(), {
        items: { data: randomValues(count * DIMS, 1), dims: DIMS },
      });
      if (count === 0)
        writeFileSync(join(models, 'embeddings/item_embeddings.npy'), npyFile(new Float32Array(0), [0, DIMS]));
      const generation = await Generation.load(await buildGeneration({ models, data: temporaryFolder() }));
      const hits = await generation.index.search({ queries: new Float32Array(DIMS), k: 10, mode: 'codes' });
      expect([...hits.counts]).toEqual([count]);
      await generation.close();
    }
  });
});

describe('a build of the sample', () => {
  const copy = () => {
    const folder = temporaryFolder();
    for (const part of ['embeddings', 'exported', 'features', 'registry.yaml'])
      cpSync(join(SAMPLE, part), join(folder, part), { recursive: true });
    return folder;
  };

  it('checks that the tower reproduces the user embeddings', async () => {
    const { manifest } = await buildGeneration({ models: SAMPLE, data: temporaryFolder() });
    const skew = manifest.gates.find(({ name }) => name === 'skew')!;
    expect(skew.status).toBe('passed');
    expect(skew.measurements[0]).toMatchObject({ what: 'least cosine', min: 0.99 });
    expect(skew.measurements[0]!.value).toBeGreaterThan(0.999);
    expect(Object.keys(manifest.files)).toEqual(
      expect.arrayContaining(['exported/onnx/two_tower.onnx', 'exported/onnx/dlrm.onnx', 'features/users.parquet']),
    );
    expect(manifest.models.find(({ name }) => name === 'dcn-v2')).toMatchObject({
      format: 'torchscript',
      stage: 'shadow',
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
  });

  it('finds the one user of the table who has a vector', async () => {
    const folder = copy();
    const row = 50;
    const vectors = join(folder, 'embeddings/user_embeddings.npy');
    const ids = join(folder, 'embeddings/user_ids.txt');
    const data = readFileSync(vectors).subarray(128 + row * 128, 128 + (row + 1) * 128);
    writeFileSync(vectors, npyBytes({ descr: '<f2', shape: [1, 64], data: new Uint8Array(data) }));
    writeFileSync(ids, `${readFileSync(ids, 'utf8').split('\n')[row]}\n`);
    const { manifest } = await buildGeneration({ models: folder, data: temporaryFolder() });
    const skew = manifest.gates.find(({ name }) => name === 'skew')!;
    expect(skew).toMatchObject({ status: 'passed', detail: expect.stringContaining('two-tower@1.0 on 1 users') });
  });

  it('M1: refuses embeddings of another training', async () => {
    const folder = copy();
    const path = join(folder, 'embeddings/user_embeddings.npy');
    const bytes = readFileSync(path);
    const half = bytes.length >> 1;
    // The same rows in another order: every shape and name still fits.
    const header = 128;
    writeFileSync(
      path,
      Buffer.concat([
        bytes.subarray(0, header),
        bytes.subarray(half - (half % 128)),
        bytes.subarray(header, half - (half % 128)),
      ]),
    );
    const data = temporaryFolder();
    const error = await expectError(
      () => buildGeneration({ models: folder, data }),
      'BELFRY_SKEW',
      /two-tower@1\.0 on \d+ users: cosine to user_embeddings\.npy mean .*at least 0\.99 is expected/,
    );
    expect(error.limit).toBe(0.99);
    expect(readdirSync(data)).toEqual([]);
  });

  it('M4: refuses a model that is not the one that the registry pins', async () => {
    const folder = copy();
    const registry = readFileSync(join(folder, 'registry.yaml'), 'utf8');
    writeFileSync(
      join(folder, 'registry.yaml'),
      registry.replace(
        'path: exported/onnx/dlrm.onnx',
        `path: exported/onnx/dlrm.onnx\n    sha256: ${'ab'.repeat(32)}`,
      ),
    );
    await expectError(
      () => buildGeneration({ models: folder, data: temporaryFolder() }),
      'BELFRY_MODEL_INVALID',
      /pins sha256 (ab){32}, the file has [0-9a-f]{64}/,
    );
  });

  it('M3: tells what of a binding does not fit the model', async () => {
    const folder = copy();
    const registry = readFileSync(join(folder, 'registry.yaml'), 'utf8');
    writeFileSync(join(folder, 'registry.yaml'), registry.replace('dense:', 'dense_x:'));
    await expectError(
      () => buildGeneration({ models: folder, data: temporaryFolder() }),
      'BELFRY_BINDING_MISMATCH',
      /input dense_x: bound, but the model has no such input[\s\S]*input dense .*not bound/,
    );
    rmSync(join(folder, 'exported/onnx/two_tower.onnx'));
    copyFileSync(join(folder, 'exported/onnx/dlrm.onnx'), join(folder, 'exported/onnx/two_tower.onnx'));
    writeFileSync(join(folder, 'registry.yaml'), registry);
    await expectError(
      () => buildGeneration({ models: folder, data: temporaryFolder() }),
      'BELFRY_BINDING_MISMATCH',
      /two-tower@1\.0/,
    );
    expect(existsSync(join(folder, 'embeddings'))).toBe(true);
  });
});
