/** The form of manifests: published, followed by what builds write, and enforced by the reader. */
import { createHash } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildGeneration } from '../../../src/generation/build.js';
import { type Manifest, readManifest } from '../../../src/generation/manifest.js';
import { manifestJsonSchema } from '../../../src/generation/manifest-schema.js';
import { expectError } from '../../support/expect-error.js';
import { makeModelsFolder, SAMPLE, temporaryFolder } from '../../support/folders.js';
import { twoTower } from '../../support/two-tower.js';

const PUBLISHED = new URL('../../../docs/manifest.schema.json', import.meta.url);

/** What a test may break. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Loose = any;

describe('the manifest', () => {
  const kept = temporaryFolder({ keep: true });
  let small: { folder: string; manifest: Manifest };
  let sample: { folder: string; manifest: Manifest };
  beforeAll(async () => {
    const { items, users } = twoTower(300, 100, 8, 1);
    const models = makeModelsFolder(join(kept, 'models'), {
      items: { data: items, dims: 8 },
      users: { data: users, dims: 8 },
      files: { 'exclusions/hidden.txt': '3\n5\n', 'embeddings/export.json': '{"model":"Two-Tower","version":"2"}' },
    });
    small = await buildGeneration({ models, data: join(kept, 'small') });
    sample = await buildGeneration({ models: SAMPLE, data: join(kept, 'sample') });
  });
  afterAll(() => rmSync(kept, { recursive: true }));

  it('is described by docs/manifest.schema.json (vitest -u writes it)', async () => {
    await expect(`${JSON.stringify(manifestJsonSchema(), null, 2)}\n`).toMatchFileSnapshot(PUBLISHED.pathname);
  });

  it('follows the published schema, by the judgement of another validator', () => {
    const validate = new Ajv2020({ strict: false }).compile(JSON.parse(readFileSync(PUBLISHED, 'utf8')));
    for (const { folder } of [small, sample]) {
      const { manifest } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
      expect(validate(manifest), JSON.stringify(validate.errors)).toBe(true);
      expect(validate({ ...manifest, pins: undefined })).toBe(false);
      expect(validate({ ...manifest, surprise: 1 })).toBe(false);
    }
  });

  it('pins what belongs together', () => {
    const { pins, models, sources, items, export: described } = sample.manifest;
    const tower = models.find(({ role }) => role === 'user_tower')!;
    expect(pins).toEqual({
      itemExport: sources.find(({ path }) => path === 'embeddings/item_embeddings.npy')!.sha256,
      userExport: sources.find(({ path }) => path === 'embeddings/user_embeddings.npy')!.sha256,
      tower: { name: 'two-tower', version: '1.0', sha256: tower.sha256 },
      scorers: [expect.objectContaining({ name: 'dlrm' }), expect.objectContaining({ name: 'dcn-v2' })],
      featureSchema: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    const bytes = readFileSync(join(SAMPLE, 'exported/onnx/two_tower.onnx'));
    expect(tower.sha256).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(described).toMatchObject({ model: 'Two-Tower', version: '1.0', normalised: false });
    const { min, p1, p10, p50, p90, p99, max } = items.norms;
    expect([min, p1, p10, p50, p90, p99, max]).toEqual([min, p1, p10, p50, p90, p99, max].sort((a, b) => a - b));
    expect(p50).toBeCloseTo(10.05, 1);
  });

  /** A manifest with a checksum that fits it, whatever it holds. */
  function write(folder: string, manifest: unknown): void {
    const sha256 = createHash('sha256').update(JSON.stringify(manifest)).digest('hex');
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ manifest_sha256: sha256, manifest }));
  }

  it.each([
    ['items.dims', (one: Loose) => (one.items.dims = 0)],
    ['items.norms.p50', (one: Loose) => delete one.items.norms.p50],
    ['users.file', (one: Loose) => (one.users.file = '../../etc/passwd')],
    ['metric', (one: Loose) => (one.metric = 'hamming')],
    ['gates.1.status', (one: Loose) => (one.gates[1].status = 'fine')],
    ['search.recall', (one: Loose) => (one.search.recall = 2)],
    ['surprise', (one: Loose) => (one.surprise = 1)],
  ])('of another form is refused by the path of the field, and not taken for damaged: %s', async (field, damage) => {
    const { folder } = small;
    const whole = readFileSync(join(folder, 'manifest.json'), 'utf8');
    const { manifest } = JSON.parse(whole);
    damage(manifest);
    write(folder, manifest);
    const error = await expectError(readManifest(folder), 'BELFRY_FILE_VERSION', field);
    expect(error.field).toBe(field);
    writeFileSync(join(folder, 'manifest.json'), whole);
    expect((await readManifest(folder)).id).toBe(small.manifest.id);
  });
});
