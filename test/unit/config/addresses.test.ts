/** A2, API7: addresses of other services come from settings, and never lead to the metadata service of a cloud. */
import { describe, expect, it } from 'vitest';
import { guardedLookup, isLinkLocal, isLoopback, serviceAddress } from '../../../src/config/addresses.js';
import { expectError } from '../../support/expect-error.js';

describe('API7: the address of a service', () => {
  it('is taken from a setting', () => {
    expect(serviceAddress('http://triton:8000/v2', 'model_server').host).toBe('triton:8000');
    expect(serviceAddress('http://10.0.0.7:8000', 'model_server').hostname).toBe('10.0.0.7');
    expect(serviceAddress('redis://cache:6379', 'redis', { protocols: ['redis', 'rediss'] }).port).toBe('6379');
  });

  it.each([
    'http://169.254.169.254/latest/meta-data',
    'http://2852039166/', // the same in one number
    'http://0xa9.0xfe.0xa9.0xfe/',
    'http://0251.0376.0251.0376/',
    'http://[fe80::1]/',
    'http://[::ffff:169.254.169.254]/',
    'http://[::ffff:a9fe:a9fe]/',
    'http://[fd00:ec2::254]/',
    'http://100.100.100.200/',
    'http://metadata.google.internal/computeMetadata/v1/',
    'http://METADATA.google.internal./',
  ])('is not %s', async (address) => {
    await expectError(
      () => serviceAddress(address, 'model_server'),
      'BELFRY_CONFIG_INVALID',
      /^model_server: .* is a link-local address or that of a metadata service.*allow_link_local/,
    );
    expect(serviceAddress(address, 'model_server', { allowLinkLocal: true })).toBeInstanceOf(URL);
  });

  it.each([
    ['triton:8000', /expected http:\/\/ or https:\/\//],
    ['file:///etc/passwd', /expected http:\/\/ or https:\/\//],
    ['gopher://x', /expected http:\/\/ or https:\/\//],
    ['', /expected an address as http:\/\/host:port/],
    ['http://', /expected an address as http:\/\/host:port/],
  ])('is not %j', async (address, message) => {
    await expectError(() => serviceAddress(address, 'mlflow'), 'BELFRY_CONFIG_INVALID', message);
  });

  it('keeps its password out of messages', () => {
    expect(() => serviceAddress('ftp://belfry:hunter2@store', 'feast')).toThrow('ftp://…@store');
    expect(() => serviceAddress('ftp://belfry:hunter2@store', 'feast')).not.toThrow('hunter2');
  });

  it('is checked again where a name is resolved', async () => {
    const resolve = (name: string, all: boolean, allowLinkLocal = false) =>
      new Promise((done) => {
        guardedLookup({ allowLinkLocal })(name, { all }, (error, address) => done(error ?? address));
      });
    expect(await resolve('127.0.0.1', false)).toBe('127.0.0.1');
    expect(await resolve('127.0.0.1', true)).toEqual([{ address: '127.0.0.1', family: 4 }]);
    for (const all of [true, false])
      expect(await resolve('169.254.169.254', all)).toMatchObject({ code: 'BELFRY_CONFIG_INVALID' });
    expect(await resolve('169.254.169.254', false, true)).toBe('169.254.169.254');
    expect(await resolve('no-such-host.invalid', false)).toMatchObject({ syscall: 'getaddrinfo' });
  });
});

it('loopback is this machine alone', () => {
  expect(['127.0.0.1', '127.8.0.9', '::1', '[::1]', 'localhost', '::ffff:127.0.0.1'].map(isLoopback)).toEqual(
    Array(6).fill(true),
  );
  expect(['0.0.0.0', '::', '10.0.0.1', 'belfry.example.com', ''].map(isLoopback)).toEqual(Array(5).fill(false));
  expect(isLinkLocal('169.254.0.1')).toBe(true);
});
