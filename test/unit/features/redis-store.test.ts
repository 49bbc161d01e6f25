/** The Redis adapter against a server that misbehaves; a real one is asked in test/interop/redis.test.ts. */
import { afterEach, describe, expect, it } from 'vitest';
import { readFeatureStores, type RedisSettings } from '../../../src/config/feature-stores.js';
import { RedisStore } from '../../../src/features/stores/redis-store.js';
import { type FakeRedis, startFakeRedis } from '../../support/fake-redis.js';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function open(more: object = {}): Promise<{ redis: FakeRedis; store: RedisStore; invalid: string[] }> {
  const redis = await startFakeRedis();
  closing.push(() => redis.close());
  const invalid: string[] = [];
  const store = await storeAt(redis.url, invalid, more);
  await expect.poll(() => store.lookup(['nobody']).catch(() => 'not yet')).toEqual([undefined]);
  redis.keys.length = 0;
  return { redis, store, invalid };
}

async function storeAt(url: string, invalid: string[] = [], more: object = {}): Promise<RedisStore> {
  const written = {
    kind: 'redis' as const,
    url,
    key: 'user:{id}',
    written: 'at',
    features: { age: { type: 'number' }, likes: { type: 'string_list', from: 'l' } },
    ...more,
  };
  const [settings] = readFeatureStores({ feature_stores: { s: written } });
  const store = await RedisStore.open(settings as RedisSettings, (feature, reason) =>
    invalid.push(`${feature}: ${reason}`),
  );
  closing.push(() => store.close());
  return store;
}

describe('Redis', () => {
  it('is asked for the fields of one hash per user, all users at once', async () => {
    const { redis, store, invalid } = await open();
    redis.hashes = { 'user:1': { age: '7', l: '["a"]', at: '1700000000' }, 'user:b': { age: 'old', l: '[]' } };
    expect(await store.lookup([1, 'b', 'c'])).toEqual([
      { age: { value: 7, writtenMs: 1.7e12 }, likes: { value: ['a'], writtenMs: 1.7e12 } },
      { likes: { value: [] } },
      undefined,
    ]);
    expect(redis.keys).toEqual(['user:1', 'user:b', 'user:c']);
    expect(invalid).toEqual(['age: expected a number, received "old"']);
  });

  it('is asked for ids as they are, whatever they hold', async () => {
    const { redis, store } = await open();
    await store.lookup(['a$$b', 'a$`b', "$'$&"]);
    expect(redis.keys).toEqual(['user:a$$b', 'user:a$`b', "user:$'$&"]);
  });

  it.each<[string, string, RegExp]>([
    ['an error', '-LOADING Redis is loading the dataset in memory\r\n', /LOADING/],
    ['another type', ':7\r\n', /./],
    ['too few fields', '*1\r\n$1\r\n7\r\n', /expected 3 fields, received 1/],
  ])('that answers %s is lost for this question', async (_, answer, message) => {
    const { redis, store } = await open();
    redis.fault = () => answer;
    await expect(store.lookup(['a'])).rejects.toThrow(message);
  });

  it('leaves out one user whose key is no hash, or is too large, and not the others', async () => {
    const { redis, store, invalid } = await open({ answer_bytes: 1024 });
    redis.fault = (key) =>
      key === 'user:text'
        ? '-WRONGTYPE Operation against a key holding the wrong kind of value\r\n'
        : key === 'user:large'
          ? `*3\r\n$-1\r\n$2000\r\n${'x'.repeat(2000)}\r\n$-1\r\n`
          : '*3\r\n$1\r\n7\r\n$-1\r\n$-1\r\n';
    expect(await store.lookup(['text', 'large', 'fine'])).toEqual([
      {},
      {},
      { age: { value: 7 }, likes: { value: null } },
    ]);
    expect(invalid).toEqual(['key: expected a hash', 'key: the hash is larger than answer_bytes, 1024']);
  });

  it('that is gone fails at once, and is found again when it is back', async () => {
    const { redis, store } = await open();
    redis.hangUp();
    await expect.poll(() => store.lookup(['nobody']).catch(() => 'not yet'), { timeout: 5000 }).toEqual([undefined]);
    const port = Number(new URL(redis.url).port);
    await redis.close();
    const started = performance.now();
    await expect
      .poll(() =>
        store.lookup(['a']).then(
          () => 'there',
          (error: Error) => error.message,
        ),
      )
      .toMatch(/./);
    await expect(store.lookup(['a'])).rejects.toThrow();
    expect(performance.now() - started).toBeLessThan(2000);
    const again = await startFakeRedis(port);
    closing.push(() => again.close());
    await expect.poll(() => store.lookup(['nobody']).catch(() => 'not yet'), { timeout: 5000 }).toEqual([undefined]);
  });

  it('that was never there is opened all the same', async () => {
    const store = await storeAt('redis://127.0.0.1:1');
    await expect(store.lookup(['a'])).rejects.toThrow(/there is no connection/);
  });
});
