import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readModelsFolder } from '../../../src/config/models-folder.js';
import { expectError } from '../../support/expect-error.js';
import { makeModelsFolder, SAMPLE, temporaryFolder } from '../../support/folders.js';

const items = { data: new Float32Array(4), dims: 2 };

function registry(...rows: string[]): Record<string, string> {
  return {
    'registry.yaml': `models:\n${rows.map((row) => `  - ${row}\n`).join('')}`,
    'exported/onnx/a.onnx': 'x',
    'exported/onnx/two_tower.onnx': 'x',
  };
}

describe('models folder', () => {
  it('needs nothing but item embeddings', () => {
    const folder = readModelsFolder(makeModelsFolder(temporaryFolder(), { items }));
    expect(folder).toMatchObject({
      itemEmbeddings: 'embeddings/item_embeddings.npy',
      models: [],
      exportDescription: {},
    });
    expect(folder.userEmbeddings).toBeUndefined();
    expect(folder.userTower).toBeUndefined();
  });

  it('reads the sample as the contract says', () => {
    const folder = readModelsFolder(SAMPLE);
    expect(folder.models.map(({ name, version, format, stage, role }) => [name, version, format, stage, role])).toEqual(
      [
        ['two-tower', '1.0', 'onnx', 'production', 'user_tower'],
        ['dlrm', '1.0', 'onnx', 'ab-test', 'reranker'],
        ['dcn-v2', '0.9', 'torchscript', 'shadow', 'reranker'],
      ],
    );
    expect(folder.userTower?.name).toBe('two-tower');
    expect(folder.itemIds).toBe('embeddings/item_ids.txt');
  });

  it('finds models by convention when there is no registry', () => {
    const folder = readModelsFolder(
      makeModelsFolder(temporaryFolder(), {
        items,
        files: {
          'exported/onnx/two_tower.onnx': 'x',
          'exported/onnx/dlrm.onnx': 'x',
          'embeddings/export.json': '{"version":"3"}',
        },
      }),
    );
    expect(folder.models.map(({ name, version, stage, role }) => [name, version, stage, role])).toEqual([
      ['two-tower', '3', 'production', 'user_tower'],
      ['dlrm', '3', 'production', 'reranker'],
    ]);
  });

  it('names the file that is missing', async () => {
    const folder = temporaryFolder();
    await expectError(
      () => readModelsFolder(join(folder, 'nothing')),
      'BELFRY_MODELS_FOLDER',
      /nothing does not exist or is not a folder/,
    );
    await expectError(
      () => readModelsFolder(folder),
      'BELFRY_MODELS_FOLDER',
      /holds no embeddings\/item_embeddings.npy; export the item tower's output there/,
    );
  });

  it.each([
    [
      '{ model: A, version: "1", format: onnx, path: exported/onnx/a.onnx, stage: live }',
      /models\.0\.stage: expected "production" or "ab-test"/,
    ],
    [
      '{ model: A, version: 1, format: onnx, path: exported/onnx/a.onnx, stage: shadow }',
      /models\.0\.version: expected a string, received 1/,
    ],
    [
      '{ model: A, version: "1", format: onnx, path: exported/onnx/a.onnx, stage: shadow, colour: red }',
      /models\.0\.colour: unknown key/,
    ],
    [
      '{ model: A, version: "1", format: onnx, path: ../a.onnx, stage: shadow }',
      /models\.0\.path: \.\.\/a\.onnx leaves the models folder/,
    ],
    [
      '{ model: A, version: "1", format: onnx, path: /etc/passwd, stage: shadow }',
      /models\.0\.path: \/etc\/passwd leaves the models folder/,
    ],
    [
      '{ model: A, version: "1", format: onnx, path: exported/onnx/b.onnx, stage: shadow }',
      /models\.0\.path: exported\/onnx\/b\.onnx does not exist/,
    ],
    [
      '{ model: A, version: "1", format: onnx, path: exported/onnx/a.onnx, stage: shadow, sha256: abc }',
      /models\.0\.sha256: /,
    ],
  ])('refuses %s', async (row, message) => {
    const folder = makeModelsFolder(temporaryFolder(), { items, files: registry(row) });
    await expectError(() => readModelsFolder(folder), 'BELFRY_REGISTRY_INVALID', message);
  });

  it('M4: refuses a model that is a link out of the folder', async () => {
    const folder = makeModelsFolder(temporaryFolder(), {
      items,
      files: registry('{ model: A, version: "1", format: onnx, path: exported/onnx/link.onnx, stage: shadow }'),
    });
    const outside = join(temporaryFolder(), 'secret.onnx');
    writeFileSync(outside, 'x');
    symlinkSync(outside, join(folder, 'exported/onnx/link.onnx'));
    await expectError(
      () => readModelsFolder(folder),
      'BELFRY_REGISTRY_INVALID',
      /link\.onnx is a link that leaves the models folder/,
    );
  });

  it('refuses two rows of one version, and two towers in production', async () => {
    const row = (model: string, path: string, version: string) =>
      `{ model: ${model}, version: "${version}", format: onnx, path: exported/onnx/${path}, stage: production }`;
    const twice = makeModelsFolder(temporaryFolder(), {
      items,
      files: registry(row('A', 'a.onnx', '1'), row('A', 'a.onnx', '1')),
    });
    await expectError(() => readModelsFolder(twice), 'BELFRY_REGISTRY_INVALID', /a@1 stands twice/);
    const towers = makeModelsFolder(temporaryFolder(), {
      items,
      files: registry(row('A', 'two_tower.onnx', '1'), row('B', 'two_tower.onnx', '2')),
    });
    await expectError(
      () => readModelsFolder(towers),
      'BELFRY_REGISTRY_INVALID',
      /one user tower can be in production, found a@1, b@2/,
    );
  });

  it('refuses a broken export.json', async () => {
    const folder = makeModelsFolder(temporaryFolder(), {
      items,
      files: { 'embeddings/export.json': '{"metric":"dot"}' },
    });
    await expectError(
      () => readModelsFolder(folder),
      'BELFRY_EXPORT_INVALID',
      /export\.json: metric: expected "ip" or "cosine" or "l2", received "dot"/,
    );
    writeFileSync(join(folder, 'embeddings/export.json'), '{');
    await expectError(() => readModelsFolder(folder), 'BELFRY_EXPORT_INVALID', /export\.json: .*JSON/);
  });

  it.each([
    [
      'a bomb',
      `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghi'
        .split('')
        .map((c, i) => `${c}: &${c} [${`*${'abcdefgh'[i]},`.repeat(9)}]`)
        .join('\n')}`,
      /Excessive alias count/,
    ],
    ['a circle', 'models:\n- model: A\n  inputs: &a\n    x: *a\n', /registry\.yaml: Converting circular structure/],
  ])('refuses a registry.yaml that is %s', async (_, text, message) => {
    const folder = makeModelsFolder(temporaryFolder(), {
      items: { data: new Float32Array(2), dims: 2 },
      files: { 'registry.yaml': text },
    });
    await expectError(() => readModelsFolder(folder), 'BELFRY_REGISTRY_INVALID', message);
  });
});
