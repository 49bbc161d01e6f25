/** Settings of model servers: from the file, the environment or a flag, and never from data. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadSettings } from '../../../src/config/load.js';
import { readModelServers } from '../../../src/config/model-servers.js';
import { readModelsFolder } from '../../../src/config/models-folder.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';
import { modelsFolder, REGISTRY } from '../../support/kserve-service.js';

function settingsOf(file: string, environment: Record<string, string> = {}, flags: Record<string, unknown> = {}) {
  const folder = temporaryFolder();
  mkdirSync(join(folder, 'models'));
  writeFileSync(join(folder, 'belfry.yaml'), `models: ./models\n${file}`);
  return loadSettings({ workingDirectory: folder, environment, flags });
}

describe('model servers', () => {
  it('one by flag or variable, several in the file, secrets from the environment', () => {
    const [one] = readModelServers(settingsOf('', { BELFRY_MODEL_SERVER: 'http://triton:8000' }), {});
    expect(one).toMatchObject({ name: 'default', url: 'http://triton:8000/' });
    const written =
      'model_servers:\n  gpu: { url: "https://gpu:8443/x/", authorization: $TOKEN, timeout_ms: 50, tensors: json }\n';
    const environment = { TOKEN: 'Bearer abc' };
    const settings = settingsOf(written, environment, { model_server: 'http://other:1' });
    expect(readModelServers(settings, environment)).toMatchObject([
      { name: 'default', url: 'http://other:1/' },
      { name: 'gpu', url: 'https://gpu:8443/x/', authorization: 'Bearer abc', timeoutMs: 50, tensors: 'json' },
    ]);
    const json = settingsOf('', { BELFRY_MODEL_SERVERS: '{"a":{"url":"http://a"}}' });
    expect(readModelServers(json, {})).toMatchObject([{ name: 'a', url: 'http://a/' }]);
  });

  it.each([
    ['no address', 'model_server: triton', 'model_server: expected an address as http://host:port'],
    ['another protocol', 'model_server: grpc://triton:8001', 'expected http:// or https://'],
    ['API7: a link-local address', 'model_server: http://169.254.169.254/', 'is a link-local address'],
    [
      'API7: one in a map',
      'model_servers: { a: { url: "http://[fe80::1]:8000" } }',
      'model_servers.a.url: [fe80::1] is a link-local',
    ],
    ['a password', 'model_server: http://me:hunter22@triton', 'has a user name or password'],
    ['a query', 'model_server: http://triton/?a=1', 'has a query or a fragment'],
    ['an unknown key', 'model_servers: { a: { url: "http://a", retries: 3 } }', 'unknown key'],
    [
      'a variable that is not set',
      'model_servers: { a: { url: "http://a", authorization: $NOT_THERE } }',
      'model_servers.a.authorization: the environment has no NOT_THERE',
    ],
    [
      'a header with a line break',
      'model_servers: { a: { url: "http://a", authorization: "a\\nb" } }',
      'characters that a header cannot hold',
    ],
    [
      'the default twice',
      'model_server: http://a\nmodel_servers: { default: { url: "http://b" } }',
      'model_servers has a server default, too',
    ],
  ])('%s is refused', async (_, file, message) => {
    const error = await expectError(() => settingsOf(file), 'BELFRY_CONFIG_INVALID', message);
    expect(error.message).not.toContain('hunter22');
  });

  it.each([
    ['an address', 'server: { url: "http://evil" }', 'unknown key'],
    ['a path for a model', 'server: { model: ../../admin }', 'models.0.server.model'],
    ['a path for a version', 'server: { version: "1/infer?" }', 'models.0.server.version'],
  ])('API7: %s in the registry is refused', async (_, server, message) => {
    const folder = modelsFolder(REGISTRY.replace('server: { version: "1" }', server));
    await expectError(() => readModelsFolder(folder), 'BELFRY_REGISTRY_INVALID', message);
  });
});
