/** The real `mlflow server`: an alias becomes a file of a generation, and a moved alias a new generation. */
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Generation } from '../../src/generation/generation.js';
import { makeGeneration } from '../../src/rebuild/make-generation.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { modelPath } from '../support/model-fixtures.js';
import { type DataServer, startMlflow } from './data-servers.js';
import { hasPython } from './python.js';

const MODEL = modelPath('dtypes.onnx');
const sha256 = createHash('sha256').update(readFileSync(MODEL)).digest('hex');
const INPUTS = ['f32', 'f64', 'f16', 'i32', 'i64', 'flag'];

describe.skipIf(!hasPython)('mlflow server', () => {
  let server: DataServer;
  const models = temporaryFolder({ keep: true });
  const data = temporaryFolder({ keep: true });
  const build = async (reference: object) => {
    const row = {
      model: 'Scorer',
      format: 'onnx',
      mlflow: reference,
      stage: 'production',
      role: 'reranker',
      inputs: Object.fromEntries(INPUTS.map((name) => [name, { source: 'retrieval.rank' }])),
      output: 'score',
    };
    writeFileSync(join(models, 'registry.yaml'), JSON.stringify({ models: [row] })); // JSON is YAML
    return makeGeneration({ models, data, mlflow: { mlflow_url: server.url } }, {});
  };
  const production = { name: 'scorer', alias: 'production' };
  beforeAll(async () => {
    server = await startMlflow(temporaryFolder({ keep: true }));
    await server.ask({ register: 'scorer', file: MODEL, alias: 'production' });
    makeModelsFolder(models, { items: { data: randomValues(200 * 8, 1), dims: 8 } });
  }, 300_000);
  afterAll(() => server?.stop());

  it('gives the file that the alias names, and the generation runs it', async () => {
    const { published } = await build(production);
    const [row] = published.manifest.models;
    expect(row).toMatchObject({ version: '1', sha256, mlflow: { alias: 'production', version: '1' } });
    const generation = await Generation.load(published);
    expect(generation.rerankers.map(({ name, version }) => `${name}@${version}`)).toEqual(['scorer@1']);
    await generation.close();
    expect((await build(production)).reused).toBe(true);
  });

  it('moves the alias, and the next build follows', async () => {
    expect(await server.ask({ register: 'scorer', file: MODEL, alias: 'production' })).toEqual({ version: '2' });
    const moved = await build(production);
    expect([moved.reused, moved.published.manifest.models[0]!.version]).toEqual([false, '2']);
    await server.ask({ stage: 'scorer', version: '1', is: 'Production' });
    const staged = await build({ name: 'scorer', stage: 'Production' });
    expect(staged.published.manifest.models[0]).toMatchObject({ version: '1', mlflow: { stage: 'Production' } });
  });

  it('says no to what it does not know', async () => {
    await expectError(build({ name: 'scorer', alias: 'nowhere' }), 'BELFRY_MLFLOW_REFUSED', /alias nowhere not found/);
    await expectError(build({ name: 'unheard', alias: 'x' }), 'BELFRY_MLFLOW_REFUSED', /unheard/);
    await expectError(build({ name: 'scorer', version: 9 }), 'BELFRY_MLFLOW_REFUSED', /9/);
    await server.stop();
    await expectError(build(production), 'BELFRY_MLFLOW_UNREACHABLE', /scorer@production/);
  });
});
