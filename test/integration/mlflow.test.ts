/** Models of an MLflow registry: resolved once, fetched and checked, pinned in the manifest; a moved alias is a new export. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { MlflowSettings } from '../../src/config/mlflow.js';
import { loadSettings } from '../../src/config/load.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { makeGeneration } from '../../src/rebuild/make-generation.js';
import { MovedVersions } from '../../src/registry/moved-versions.js';
import { expectError } from '../support/expect-error.js';
import { type FakeMlflow, startFakeMlflow } from '../support/fake-mlflow.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { modelPath } from '../support/model-fixtures.js';

const scorer = readFileSync(modelPath('dtypes.onnx'));
const other = readFileSync(modelPath('scorer.onnx'));
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

let mlflow: FakeMlflow;
beforeAll(async () => {
  mlflow = await startFakeMlflow();
});
afterAll(() => mlflow.close());
beforeEach(() => {
  mlflow.models = { scorer: { 1: { 'model.onnx': scorer, MLmodel: Buffer.from('flavors: {}') } } };
  mlflow.aliases = { scorer: { production: '1' } };
  mlflow.uris = {};
  mlflow.fault = undefined;
  mlflow.token = undefined;
  mlflow.asked.length = 0;
});

const inputs = ['f32', 'f64', 'f16', 'i32', 'i64', 'flag']
  .map((name) => `      ${name}: { source: retrieval.rank }`)
  .join('\n');
function folderWith(reference: string, more = ''): string {
  return makeModelsFolder(temporaryFolder(), {
    items: { data: randomValues(200 * 8, 1), dims: 8 },
    files: {
      'registry.yaml': `models:
  - model: Scorer
    format: onnx
    mlflow: ${reference}
    stage: production
    role: reranker
    inputs:
${inputs}
    output: score
${more}`,
    },
  });
}
const build = (models: string, data: string, settings: MlflowSettings = {}) =>
  makeGeneration({ models, data, mlflow: { mlflow_url: mlflow.url, ...settings } }, {});
const downloads = () => mlflow.asked.filter((path) => path.endsWith('.onnx'));

describe('a model that registry.yaml takes from MLflow', () => {
  it.each([
    ['alias', '{ name: scorer, alias: production }', { alias: 'production' }],
    ['version', '{ name: scorer, version: 1 }', {}],
    ['stage', '{ name: scorer, stage: production }', { stage: 'production' }],
  ])('is found by %s, and pinned by version and SHA-256', async (_, reference, named) => {
    const data = temporaryFolder();
    const { published } = await build(folderWith(reference), data);
    expect(published.manifest.models).toMatchObject([
      {
        name: 'scorer',
        version: '1',
        path: 'registry/scorer/1/model.onnx',
        file: 'registry/scorer/1/model.onnx',
        sha256: sha256(scorer),
        mlflow: { name: 'scorer', version: '1', ...named },
      },
    ]);
    expect(readFileSync(join(published.folder, 'registry/scorer/1/model.onnx')).equals(scorer)).toBe(true);
    expect(published.manifest.pins.scorers).toEqual([{ name: 'scorer', version: '1', sha256: sha256(scorer) }]);
  });

  it('is fetched once; a moved alias is a new export, and the old version goes', async () => {
    const [models, data] = [folderWith('{ name: scorer, alias: production }'), temporaryFolder()];
    const first = await build(models, data);
    expect([first.reused, downloads().length]).toEqual([false, 1]);
    const again = await build(models, data);
    expect([again.reused, again.published.id, downloads().length]).toEqual([true, first.published.id, 1]);

    mlflow.models.scorer![2] = { 'weights/model.onnx': scorer };
    mlflow.aliases.scorer!.production = '2';
    const moved = await build(models, data);
    expect(moved.reused).toBe(false);
    expect(moved.published.manifest.models[0]).toMatchObject({ version: '2', mlflow: { version: '2' } });
    expect(readdirSync(join(data, 'registry', 'scorer'))).toEqual(['2']);
  });

  it('that is damaged on disk, or of another server, is fetched again', async () => {
    const [models, data] = [folderWith('{ name: scorer, alias: production }'), temporaryFolder()];
    await build(models, data);
    writeFileSync(join(data, 'registry/scorer/1/model.onnx'), 'flipped');
    expect((await build(models, data)).reused).toBe(true);
    expect(downloads()).toHaveLength(2);
    writeFileSync(join(data, 'registry/scorer/1/version.json'), '{');
    await build(models, data);
    expect(downloads()).toHaveLength(3);
  });

  it('comes with the files of its weights', async () => {
    mlflow.models.scorer = {
      1: {
        'model.onnx': readFileSync(modelPath('external.onnx')),
        'external.onnx.data': readFileSync(modelPath('external.onnx.data')),
      },
    };
    const models = folderWith('{ name: scorer, alias: production }');
    const registry = join(models, 'registry.yaml');
    writeFileSync(registry, readFileSync(registry, 'utf8').replace(/role: reranker[\s\S]*/, 'role: reranker\n'));
    const data = temporaryFolder();
    const { published } = await build(models, data);
    expect(Object.keys(published.manifest.files)).toContain('registry/scorer/1/external.onnx.data');
  });

  it('is named by file where a version holds several', async () => {
    mlflow.models.scorer![1]!['other.onnx'] = other;
    await expectError(
      build(folderWith('{ name: scorer, alias: production }'), temporaryFolder()),
      'BELFRY_MLFLOW_INVALID',
      /it holds model.onnx, other.onnx; say which with mlflow.file/,
    );
    const { published } = await build(
      folderWith('{ name: scorer, alias: production, file: model.onnx }'),
      temporaryFolder(),
    );
    expect(published.manifest.models[0]!.sha256).toBe(sha256(scorer));
  });

  it('may be a file of this machine, below mlflow_file_root only', async () => {
    const root = temporaryFolder();
    mkdirSync(join(root, 'runs/1'), { recursive: true });
    writeFileSync(join(root, 'runs/1/model.onnx'), scorer);
    mlflow.uris['scorer/1'] = `file://${root}/runs/1`;
    const models = folderWith('{ name: scorer, alias: production }');
    await expectError(build(models, temporaryFolder()), 'BELFRY_MLFLOW_INVALID', /set mlflow_file_root/);
    await expectError(
      build(models, temporaryFolder(), { mlflow_file_root: join(root, 'none') }),
      'BELFRY_MLFLOW_INVALID',
      /no such file/,
    );
    await expectError(
      build(models, temporaryFolder(), { mlflow_file_root: temporaryFolder() }),
      'BELFRY_MLFLOW_INVALID',
      /is not below mlflow_file_root/,
    );
    const { published } = await build(models, temporaryFolder(), { mlflow_file_root: root });
    expect(published.manifest.models[0]!.sha256).toBe(sha256(scorer));
  });

  it('moves for a watch when the alias does, and not while MLflow is down', async () => {
    const models = folderWith('{ name: scorer, alias: production }');
    const problems: unknown[] = [];
    const versions = new MovedVersions(models, { mlflow_url: mlflow.url }, (error) => problems.push(error), 0);
    expect(await versions.now()).toBe('scorer@production=1');
    mlflow.fault = (_, response) => (response.writeHead(503).end(), true);
    expect(await versions.now()).toBe('scorer@production=1');
    expect(problems).toMatchObject([{ code: 'BELFRY_MLFLOW_UNREACHABLE' }]);
    mlflow.fault = undefined;
    mlflow.models.scorer![2] = mlflow.models.scorer![1]!;
    mlflow.aliases.scorer!.production = '2';
    expect(await versions.now()).toBe('scorer@production=2');
  });
});

describe('an MLflow that cannot be used leaves the generation that serves', () => {
  const faults: [what: string, arrange: () => void, code: string, message: RegExp][] = [
    [
      'down',
      () => (mlflow.fault = (request) => (request.socket.destroy(), true)),
      'UNREACHABLE',
      /MLflow, scorer@production/,
    ],
    [
      'failing',
      () => (mlflow.fault = (_, response) => (response.writeHead(500).end('oops'), true)),
      'UNREACHABLE',
      /status 500: oops/,
    ],
    ['wanting a token', () => (mlflow.token = 's3cret'), 'REFUSED', /status 401: not you; set mlflow_token/],
    ['without the alias', () => (mlflow.aliases = {}), 'REFUSED', /alias production not found/],
    ['without the model', () => (mlflow.models = {}), 'REFUSED', /Registered Model with name=scorer not found/],
    [
      'redirecting (A2)',
      () =>
        (mlflow.fault = (_, response) => (response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), true)),
      'REFUSED',
      /status 302/,
    ],
    ['garbage', () => (mlflow.fault = (_, response) => (response.end('<html>'), true)), 'INVALID', /answered no JSON/],
    [
      'of another form',
      () => (mlflow.fault = (_, response) => (response.end('{"model_version": {"version": "../1"}}'), true)),
      'INVALID',
      /answered something else/,
    ],
    [
      'endless',
      () => (mlflow.fault = (_, response) => (response.end('x'.repeat(5 * 2 ** 20)), true)),
      'INVALID',
      /larger than/,
    ],
    [
      'naming a host (API7)',
      () => (mlflow.uris['scorer/1'] = 'mlflow-artifacts://169.254.169.254/0/models/scorer/1/artifacts'),
      'INVALID',
      /which names a host/,
    ],
    ['climbing out', () => (mlflow.uris['scorer/1'] = 'mlflow-artifacts:/0/../../etc'), 'INVALID', /no plain path/],
    [
      'on S3',
      () => (mlflow.uris['scorer/1'] = 's3://bucket/x'),
      'INVALID',
      /start mlflow server with --serve-artifacts/,
    ],
    [
      'without a model file',
      () => (mlflow.models = { scorer: { 1: { MLmodel: scorer } } }),
      'INVALID',
      /it holds no .onnx/,
    ],
    [
      'sending less than it lists',
      () =>
        (mlflow.fault = (request, response) =>
          request.url!.endsWith('model.onnx') && (response.end(scorer.subarray(0, 100)), true)),
      'INVALID',
      /bytes of model.onnx, received 100/,
    ],
  ];
  it.each(faults)('%s', async (_, arrange, code, message) => {
    const [models, data] = [folderWith('{ name: scorer, alias: production }'), temporaryFolder()];
    const { published } = await build(models, data);
    writeFileSync(join(data, 'registry/scorer/1/version.json'), '{'); // so that it has to be fetched
    arrange();
    await expectError(build(models, data), `BELFRY_MLFLOW_${code}` as 'BELFRY_MLFLOW_INVALID', message);
    expect(await (await DataFolder.open(data)).pointed()).toBe(published.id);
  });

  it('a file that is not what registry.yaml pins', async () => {
    const wrong = `    sha256: "${'0'.repeat(64)}"\n`;
    await expectError(
      build(folderWith('{ name: scorer, alias: production }', wrong), temporaryFolder()),
      'BELFRY_MODEL_INVALID',
      /pins|sha256|SHA-256/i,
    );
  });

  it('rows and settings that say too little or too much', async () => {
    for (const [reference, message] of [
      ['{ name: scorer }', /expected one of alias, version, stage/],
      ['{ name: scorer, alias: a, version: 1 }', /expected one of alias, version, stage/],
      ['{ name: scorer, alias: a, url: "http://x" }', /unknown key/],
    ] as const)
      await expectError(build(folderWith(reference), temporaryFolder()), 'BELFRY_REGISTRY_INVALID', message);
    const models = folderWith('{ name: scorer, alias: production }');
    await expectError(
      makeGeneration({ models, data: temporaryFolder() }, {}),
      'BELFRY_CONFIG_INVALID',
      /set mlflow_url/,
    );
    const load = (flags: object) => () => loadSettings({ flags: { models, ...flags }, environment: {} });
    expect(load({ mlflow_url: 'http://169.254.169.254/' })).toThrow(/link-local/);
    expect(load({ mlflow_url: 'http://user:hidden@host/' })).toThrow(/set mlflow_username/);
    expect(load({ mlflow_url: 'http://user:hidden@host/' })).not.toThrow(/hidden/);
  });
});
