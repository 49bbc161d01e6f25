/** The parts of a feature store that need no server: settings, answers of Feast, the cache, the queue, merging. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type FeatureStoreSettings, readFeatureStores } from '../../../src/config/feature-stores.js';
import { readFeastAnswer } from '../../../src/features/stores/feast-answer.js';
import type { FeatureStore, StoredUser } from '../../../src/features/stores/feature-store.js';
import { GuardedStore } from '../../../src/features/stores/guarded-store.js';
import { parsedValue, typedValue } from '../../../src/features/stores/typed-value.js';
import { UserCache } from '../../../src/features/stores/user-cache.js';
import { UserFeatures } from '../../../src/features/stores/user-features.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import type { Id } from '../../../src/types.js';
import { expectError } from '../../support/expect-error.js';

const feast = {
  kind: 'feast' as const,
  url: 'http://feast:6566',
  entity: 'user_id',
  features: { age: { type: 'number', from: 'v:age' } },
};
const redis = {
  kind: 'redis' as const,
  url: 'redis://cache:6379',
  key: 'u:{id}',
  features: { age: { type: 'number' } },
};
const read = (stores: Record<string, object>, environment = {}) =>
  readFeatureStores({ feature_stores: stores as never }, environment);

describe('the setting feature_stores', () => {
  it('fills in defaults and reads secrets from the environment', () => {
    const [one, other] = read(
      {
        a: { ...feast, authorization: '$FEAST' },
        b: { ...redis, features: { size: { type: 'number' } }, password: 'p' },
      },
      { FEAST: 'Bearer x' },
    );
    expect(one).toMatchObject({ name: 'a', authorization: 'Bearer x', timeout_ms: 20, entity_type: 'string' });
    expect(other).toMatchObject({ name: 'b', password: 'p', connections: 8 });
  });

  it.each<[string, Record<string, object>, RegExp]>([
    ['another kind', { a: { ...feast, kind: 'mongo' } }, /feature_stores/],
    ['an unknown key', { a: { ...feast, port: 1 } }, /feature_stores.a.port: unknown key/],
    ['no entity', { a: { ...feast, entity: undefined } }, /feature_stores.a/],
    ['a feature of no view', { a: { ...feast, features: { age: { type: 'number' } } } }, /expected view:column/],
    [
      'a default of another type',
      { a: { ...redis, features: { age: { type: 'number', default: 'x' } } } },
      /default: expected a number/,
    ],
    [
      'a separator of a number',
      { a: { ...redis, features: { age: { type: 'number', separator: ',' } } } },
      /is for lists/,
    ],
    ['one feature twice', { a: feast, b: redis }, /store a has this feature/],
    ['a link-local address (API7)', { a: { ...feast, url: 'http://169.254.169.254/' } }, /link-local/],
    ['another scheme', { a: { ...feast, url: 'file:///etc/passwd' } }, /expected http/],
    [
      'a password in the address',
      { a: { ...redis, url: 'redis://u:hidden@h' } },
      /^(?!.*hidden).*user name or password/,
    ],
    ['a variable that is not set', { a: { ...redis, password: '$NONE' } }, /the environment has no NONE/],
    ['a bad secret, which is not shown', { a: { ...feast, authorization: 'se\ncret' } }, /^(?!.*cret)/],
  ])('refuses %s', async (_, stores, message) => {
    await expectError(() => read(stores), 'BELFRY_CONFIG_INVALID', message);
  });
});

describe('values', () => {
  it('are of their declared type, or refused', () => {
    expect(parsedValue({ type: 'number' }, '1.5')).toBe(1.5);
    expect(parsedValue({ type: 'boolean' }, 'True')).toBe(true);
    expect(parsedValue({ type: 'string_list', separator: ';' }, 'a;b')).toEqual(['a', 'b']);
    expect(parsedValue({ type: 'number_list' }, '[1, 2]')).toEqual([1, 2]);
    for (const [type, text] of [
      ['number', ''],
      ['number', 'NaN'],
      ['boolean', 'yes'],
      ['number_list', '1,2'],
      ['string_list', '[1]'],
      ['number_list', '{'],
    ] as const)
      expect(() => parsedValue({ type }, text), `${type} ${text}`).toThrow(/expected a/);
    expect(() => typedValue({ type: 'string' }, 'x'.repeat(2000))).toThrow(/at most 1024 characters/);
    expect(() => typedValue({ type: 'number_list' }, new Array(5000).fill(1))).toThrow(/at most 4096 entries/);
  });
});

describe('an answer of Feast', () => {
  const question = {
    entity: 'user_id',
    ids: ['a', 'b', 'c'],
    features: { age: { type: 'number', from: 'v:age' }, city: { type: 'string', from: 'v:city' } },
  } as const;
  const names = { feature_names: ['user_id', 'v__city', 'v__age'] };
  const time = '2026-01-01T00:00:00Z';
  const wanted = [
    { age: { value: 1, writtenMs: Date.parse(time) }, city: { value: 'ulm', writtenMs: Date.parse(time) } },
    {
      age: { value: 2, writtenMs: Date.parse(time), isStale: true },
      city: { value: null, writtenMs: Date.parse(time) },
    },
    undefined,
  ];
  const columns = [
    { values: ['a', 'b', 'c'], statuses: ['PRESENT', 'PRESENT', 'PRESENT'], event_timestamps: [time, time, time] },
    {
      values: ['ulm', null, null],
      statuses: ['PRESENT', 'NULL_VALUE', 'NOT_FOUND'],
      event_timestamps: [time, time, '1970-01-01T00:00:00Z'],
    },
    {
      values: [1, 2, null],
      statuses: ['PRESENT', 'OUTSIDE_MAX_AGE', 'NOT_FOUND'],
      event_timestamps: [time, time, '1970-01-01T00:00:00Z'],
    },
  ];
  const rows = [0, 1, 2].map((row) => ({
    values: columns.map(({ values }) => values[row]),
    statuses: columns.map(({ statuses }) => statuses[row]),
    event_timestamps: columns.map((column) => column.event_timestamps[row]),
  }));

  it('is read by feature and by entity, also where there are as many of both', () => {
    expect(readFeastAnswer({ metadata: names, results: columns }, question)).toEqual(wanted);
    expect(readFeastAnswer({ metadata: names, results: rows }, question)).toEqual(wanted);
    expect(
      readFeastAnswer({ metadata: { feature_names: { val: names.feature_names } }, results: columns }, question),
    ).toEqual(wanted);
  });

  it.each<[string, unknown, RegExp]>([
    ['null', null, /feature_names/],
    ['without results', { metadata: names }, /no results/],
    [
      'with a feature too few',
      { metadata: { feature_names: ['user_id', 'v__city'] }, results: columns.slice(0, 2) },
      /lacks v:age/,
    ],
    [
      'of fewer users',
      { metadata: names, results: columns.map(({ values }) => ({ values: values.slice(1) })) },
      /not of the 3 ids/,
    ],
    [
      'of other users',
      { metadata: names, results: [{ values: ['a', 'x', 'c'] }, columns[1], columns[2]] },
      /not of the 3 ids/,
    ],
  ])('is refused %s', (_, answer, message) => {
    expect(() => readFeastAnswer(answer, question)).toThrow(message);
  });
});

describe('a guarded store', () => {
  const settings = (more: object = {}): FeatureStoreSettings => ({
    ...read({ s: { ...redis, cache_ms: 0, ...more } })[0]!,
  });
  const open = { run: <T>(work: () => Promise<T>) => work() };
  const user = (age: number): StoredUser => ({ age: { value: age } });
  function storeOf(lookup: (ids: readonly Id[]) => Promise<(StoredUser | undefined)[]>, more: object = {}) {
    const asked: Id[][] = [];
    const store: FeatureStore = {
      lookup: (ids) => {
        asked.push([...ids]);
        return lookup(ids);
      },
      close: async () => undefined,
    };
    return { asked, guarded: new GuardedStore(settings(more), store, new Metrics(), open) };
  }

  it('asks for many at once behind a question that is under way, for each user once', async () => {
    const { asked, guarded } = storeOf(async (ids) => (await sleep(10), ids.map((id) => user(Number(id)))), {
      connections: 1,
      batch_max: 3,
      timeout_ms: 1000,
    });
    const ids = [1, 2, 3, 2, 4, 5];
    const answers = await Promise.all(ids.map((id) => guarded.get(id, 1000)));
    expect(answers.map((answer) => answer.user!.age!.value)).toEqual(ids);
    expect(asked).toEqual([[1], [2, 3, 4], [5]]);
  });

  it('is lost when it is late, when the request has no time, when it throws, when too many wait', async () => {
    const slow = storeOf(() => sleep(500, []), { timeout_ms: 20, connections: 1, queue_max: 1 });
    const first = slow.guarded.get(1, 1000);
    const [second, third] = [slow.guarded.get(2, 5), slow.guarded.get(3, 1000)];
    const started = performance.now();
    expect(await third).toEqual({ user: undefined, isLost: true, heldMs: 0 }); // the queue is full
    expect(await second).toMatchObject({ isLost: true });
    expect(await first).toMatchObject({ isLost: true });
    expect(performance.now() - started).toBeLessThan(400);
    const broken = storeOf(() => Promise.reject(new Error('no')));
    expect(await broken.guarded.get(1, 1000)).toMatchObject({ isLost: true });
  });

  it('answers from its cache, and with what it knew when it is lost', async () => {
    let isUp = true;
    const { asked, guarded } = storeOf(async () => (isUp ? [user(7)] : Promise.reject(new Error('down'))), {
      cache_ms: 50,
    });
    await guarded.get('a', 1000);
    expect(await guarded.get('a', 1000)).toMatchObject({ user: user(7), isLost: false });
    expect(asked).toHaveLength(1);
    isUp = false;
    await sleep(60);
    const lost = await guarded.get('a', 1000);
    expect(lost).toMatchObject({ user: user(7), isLost: true });
    expect(lost.heldMs).toBeGreaterThan(50);
  });

  it('gives what is wanted, and says what stands in', async () => {
    const now = Date.now();
    const wanted = { wanted: new Set(['age']), budgetMs: 1000, fits: () => true };
    const of = (found: StoredUser | undefined, more: object = {}, request = wanted) =>
      new UserFeatures([storeOf(async () => [found], { max_age_s: 60, ...more }).guarded], undefined, () => now).of(
        'a',
        request,
      );
    expect(await of(user(1))).toEqual({ values: { age: 1 }, defaults: {}, degraded: [] });
    expect(await of(user(1), {}, { ...wanted, wanted: new Set() })).toEqual({ values: {}, defaults: {}, degraded: [] });
    const old = { age: { value: 1, writtenMs: now - 61_000 } };
    expect(await of(old)).toEqual({ values: {}, defaults: {}, degraded: ['features_stale', 'features_default'] });
    expect(await of(old, { stale: 'use' })).toEqual({ values: { age: 1 }, defaults: {}, degraded: ['features_stale'] });
    const withDefault = { features: { age: { type: 'number', default: 30 } } };
    expect(await of(undefined, withDefault)).toEqual({
      values: {},
      defaults: { age: 30 },
      degraded: ['features_default'],
    });
    expect(await of({ age: { value: null } }, withDefault)).toEqual({
      values: { age: 30 },
      defaults: {},
      degraded: [],
    });
    expect(await of(user(1), {}, { ...wanted, fits: () => false })).toMatchObject({
      values: {},
      degraded: ['features_default'],
    });
  });

  it('keeps at most cache_bytes, the one used longest ago goes first', () => {
    const cache = new UserCache(1000);
    for (const id of ['a', 'b', 'c', 'd']) cache.set(id, { x: { value: 'x'.repeat(20) } }, 0);
    expect(cache.bytes).toBeLessThanOrEqual(1000);
    cache.get('a');
    cache.set('e', { x: { value: 'y'.repeat(20) } }, 0);
    expect([cache.get('a') !== undefined, cache.get('b'), cache.get('e') !== undefined]).toEqual([
      true,
      undefined,
      true,
    ]);
    cache.set('huge', { x: { value: 'x'.repeat(1000) } }, 0);
    expect(cache.get('huge')).toBeUndefined();
    expect(cache.get('e')).toBeDefined();
  });
});
