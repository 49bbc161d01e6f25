/** The real `mlflow server`: an alias becomes a file of a generation, and a moved alias a new generation. */
import { createHash } from 'node:crypto';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Generation } from '../../src/generation/generation.js';
import { makeGeneration } from '../../src/rebuild/make-generation.js';
import { expectError } from '../support/expect-error.js';
import { SAMPLE, temporaryFolder } from '../support/folders.js';
import { type DataServer, startMlflow } from './data-servers.js';
import { hasPython } from './python.js';

const DLRM = join(SAMPLE, 'exported/onnx/dlrm.onnx');
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe.skipIf(!hasPython)('mlflow server', () => {
  let server: DataServer;
  const models = temporaryFolder({ keep: true });
  const data = temporaryFolder({ keep: true });
  const build = () => makeGeneration({ models, data, mlflow: { mlflow_url: server.url } }, {});
  beforeAll(async () => {
    server = await startMlflow(temporaryFolder({ keep: true }));
    await server.ask({ register: 'dlrm', file: DLRM, alias: 'production' });
    cpSync(SAMPLE, models, { recursive: true });
    const registry = readFileSync(join(models, 'registry.yaml'), 'utf8');
    const moved = registry.replace(
      /version: "1\.0"\n {4}format: onnx\n {4}path: exported\/onnx\/dlrm\.onnx/,
      'format: onnx\n    mlflow: { name: dlrm, alias: production }',
    );
    expect(moved).not.toBe(registry);
    writeFileSync(join(models, 'registry.yaml'), moved);
  }, 300_000);
  afterAll(() => server?.stop());

  it('gives the file that the alias names, and the generation runs it', { timeout: 120_000 }, async () => {
    const { published } = await build();
    const row = published.manifest.models.find(({ name }) => name === 'dlrm')!;
    expect(row).toMatchObject({ version: '1', sha256: sha256(DLRM), mlflow: { alias: 'production', version: '1' } });
    const generation = await Generation.load(published);
    expect(generation.rerankers.map(({ name, version }) => `${name}@${version}`)).toContain('dlrm@1');
    await generation.close();
    expect((await build()).reused).toBe(true);

    const { version } = await server.ask({ register: 'dlrm', file: DLRM, alias: 'production' });
    expect(version).toBe('2');
    const moved = await build();
    expect([moved.reused, moved.published.manifest.models.find(({ name }) => name === 'dlrm')!.version]).toEqual([
      false,
      '2',
    ]);
    await server.ask({ alias: 'dlrm', is: 'production', version: '1' });
    expect((await build()).published.manifest.models.find(({ name }) => name === 'dlrm')!.version).toBe('1');
  });

  it('says no to what it does not know', async () => {
    const registry = join(models, 'registry.yaml');
    writeFileSync(registry, readFileSync(registry, 'utf8').replace('alias: production', 'alias: nowhere'));
    await expectError(build(), 'BELFRY_MLFLOW_REFUSED', /alias nowhere not found/);
    writeFileSync(
      registry,
      readFileSync(registry, 'utf8').replace('name: dlrm, alias: nowhere', 'name: unheard, alias: x'),
    );
    await expectError(build(), 'BELFRY_MLFLOW_REFUSED', /unheard/);
    await server.stop();
    await expectError(build(), 'BELFRY_MLFLOW_UNREACHABLE', /unheard@x/);
  });
});
