import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dataFolder, loadSettings } from '../../../src/config/load.js';
import { expectError } from '../../support/expect-error.js';
import { makeModelsFolder, temporaryFolder } from '../../support/folders.js';

describe('settings', () => {
  it('come from defaults, then file, then environment, then flags', () => {
    const directory = temporaryFolder();
    writeFileSync(join(directory, 'belfry.yaml'), 'models: ./export\nport: 1001\nhost: 0.0.0.0\nthreads: 3\n');
    const settings = loadSettings({
      workingDirectory: directory,
      environment: { BELFRY_PORT: '1002', BELFRY_LOG_LEVEL: 'warn', PATH: '/bin' },
      flags: { port: 1003, host: undefined },
    });
    expect(settings).toMatchObject({
      models: join(directory, 'export'),
      port: 1003,
      host: '0.0.0.0',
      threads: 3,
      log_level: 'warn',
      timeout_ms: 100,
    });
    expect(loadSettings({ workingDirectory: directory, environment: { PORT: '1004' } }).port).toBe(1004);
    expect(loadSettings({ workingDirectory: directory, environment: { PORT: '1004', BELFRY_PORT: '1005' } }).port).toBe(
      1005,
    );
    expect(loadSettings({ workingDirectory: directory, environment: {} }).port).toBe(1001);
  });

  it('find ./models, and put data beside the caller', () => {
    const directory = temporaryFolder();
    makeModelsFolder(join(directory, 'models'), { items: { data: new Float32Array(2), dims: 2 } });
    const settings = loadSettings({ workingDirectory: directory, environment: {} });
    expect(settings.models).toBe(join(directory, 'models'));
    expect(dataFolder(settings, directory)).toBe(join(directory, '.belfry', 'models'));
  });

  it('say what is wrong, where, and what is known', async () => {
    const directory = temporaryFolder();
    const load = (options: Parameters<typeof loadSettings>[0]) => () =>
      loadSettings({ workingDirectory: directory, environment: {}, ...options });
    await expectError(
      load({}),
      'BELFRY_MODELS_FOLDER',
      /no models folder: .*models does not exist; name one with --models DIR/,
    );
    await expectError(
      load({ flags: { models: 'x', port: 70_000 } }),
      'BELFRY_CONFIG_INVALID',
      'settings: port: expected at most 65535, received 70000',
    );
    await expectError(
      load({ flags: { models: 'x', port: Number.NaN } }),
      'BELFRY_CONFIG_INVALID',
      /^settings: port: expected an integer/,
    );
    await expectError(
      load({ flags: { models: 'x', metric: 'dot' } }),
      'BELFRY_CONFIG_INVALID',
      'settings: metric: expected "ip" or "cosine" or "l2", received "dot"',
    );
    await expectError(
      load({ environment: { PORT: 'http' } }),
      'BELFRY_CONFIG_INVALID',
      'environment variable PORT: port: expected an integer, received "http"',
    );
    writeFileSync(join(directory, 'belfry.yaml'), 'prot: 80\n');
    await expectError(
      load({}),
      'BELFRY_CONFIG_INVALID',
      /belfry.yaml: prot: unknown key; known: models, data, host, port/,
    );
    writeFileSync(join(directory, 'belfry.yaml'), 'port: [80\n');
    await expectError(load({}), 'BELFRY_CONFIG_INVALID', /belfry.yaml: .*flow/i);
  });
});
