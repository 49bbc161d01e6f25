import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { dataFolder, loadSettings } from '../../../src/config/load.js';
import { folderNameOf, isPlainKey, parseObjectAddress, showAddress } from '../../../src/config/object-address.js';
import { objectStoreSettings } from '../../../src/config/schema.js';
import { expectError } from '../../support/expect-error.js';

const settings = (flags: Record<string, unknown>, environment: Record<string, string> = {}) =>
  loadSettings({ flags, environment, workingDirectory: '/nowhere' });

describe('addresses of an object store', () => {
  it.each([
    ['s3://bucket/a/b', 'bucket', 'a/b'],
    ['s3://bucket//a/b/', 'bucket', 'a/b'],
    ['s3://my.bucket-1', 'my.bucket-1', ''],
  ])('%s', (text, bucket, prefix) => {
    expect(parseObjectAddress(text, 'models')).toEqual({ bucket, prefix });
  });

  it.each([
    's3://',
    's3://b',
    's3:///a',
    's3://bucket/a/../b',
    's3://bucket/./a',
    's3://a..b/c',
    's3://bucket/a\nb',
    'http://bucket/a',
  ])('refuses %j', async (text) => {
    const error = await expectError(() => parseObjectAddress(text, 'models'), 'BELFRY_CONFIG_INVALID', /expected s3:/);
    expect(error.field).toBe('models');
  });

  it('keys that can be files', () => {
    for (const key of ['a', 'a/b.npy', 'ä/ü', '.hidden', 'a b']) expect(isPlainKey(key), key).toBe(true);
    for (const key of ['', '/a', 'a/', 'a//b', '..', 'a/../b', './a', 'a\\b', 'a\0b', 'x'.repeat(256)])
      expect(isPlainKey(key), key).toBe(false);
  });

  it('two prefixes never share a local folder', () => {
    const name = (text: string) => folderNameOf(parseObjectAddress(text, 'models'));
    expect(name('s3://one/exports/nightly')).toMatch(/^nightly-[0-9a-f]{8}$/);
    expect(name('s3://one/exports/nightly')).not.toBe(name('s3://two/exports/nightly'));
    expect(name('s3://one/exports/nightly/')).toBe(name('s3://one/exports/nightly'));
    expect(name('s3://bucket')).toMatch(/^bucket-/);
  });
});

describe('settings of an object store', () => {
  it('take an address where a folder was taken, in one form', () => {
    const loaded = settings({ models: 's3://bucket/nightly/' });
    expect(loaded.models).toBe('s3://bucket/nightly');
    expect(dataFolder(loaded, '/here')).toMatch(/^\/here\/\.belfry\/nightly-[0-9a-f]{8}$/);
    expect(settings({ models: 'folder' }).models).toBe(resolve('/nowhere/folder'));
  });

  it('pull_from goes before models; addresses are checked at the start', async () => {
    const loaded = settings({ models: '/models' }, { BELFRY_PULL_FROM: 's3://bucket/copies' });
    expect(showAddress(parseObjectAddress(loaded.models, 'models'))).toBe('s3://bucket/copies');
    const wrong = (name: string, value: string) => () => settings({ models: '/models', [name]: value });
    await expectError(wrong('push_to', 's3://b'), 'BELFRY_CONFIG_INVALID', 'push_to: expected s3://bucket/prefix');
    await expectError(wrong('pull_from', 's3://b/../x'), 'BELFRY_CONFIG_INVALID', 'pull_from: expected s3://bucket');
    await expectError(wrong('s3_endpoint', 'file:///etc'), 'BELFRY_CONFIG_INVALID', 's3_endpoint');
  });

  it('only those of the store go to it', () => {
    expect(objectStoreSettings(settings({ models: 's3://bucket/x', s3_region: 'eu-central-1' }))).toEqual({
      s3_region: 'eu-central-1',
      s3_checksums: 'when_supported',
      s3_etag: 'md5',
      s3_timeout_ms: 30_000,
      s3_attempts: 5,
    });
  });
});
