/** The real `feast serve`: what it answers, and what a request makes of it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readFeatureStores } from '../../src/config/feature-stores.js';
import { FeastStore } from '../../src/features/stores/feast-store.js';
import { SAMPLE, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';
import { type DataServer, startFeast } from './data-servers.js';
import { hasPython } from './python.js';

const USERS = {
  'my-site': { history: ['nginx', 'php-fpm'], section: 'web', installed_size: 12.5 },
  plain: { history: ['gimp'], section: null, installed_size: 1 },
  old: { history: ['vlc'], section: 'video', installed_size: 3, age_days: 30 },
};
const FEATURES = {
  history: { type: 'string_list', from: 'user_stats:history' },
  section: { type: 'string', from: 'user_stats:section' },
  installed_size: { type: 'number', from: 'user_stats:installed_size' },
};

describe.skipIf(!hasPython)('feast serve', () => {
  let server: DataServer;
  let service: Service;
  const settings = (more: object = {}) => ({
    kind: 'feast' as const,
    url: server.url,
    entity: 'user_id',
    features: FEATURES,
    timeout_ms: 1000,
    max_age_s: 86_400,
    cache_ms: 0,
    ...more,
  });
  const open = (more: object = {}) =>
    new FeastStore(readFeatureStores({ feature_stores: { online: settings(more) } })[0] as never);
  beforeAll(async () => {
    server = await startFeast(temporaryFolder({ keep: true }), USERS);
    service = await startService(SAMPLE, { stores: { online: settings() } });
  }, 300_000);
  afterAll(async () => {
    await service?.close();
    await server?.stop();
  });

  it.each([
    ['views', {}],
    ['a feature service', { feature_service: 'retrieval' }],
  ])('answers many users at once, by %s', async (_, more) => {
    const store = open(more);
    const users = await store.lookup(['my-site', 'nobody', 'plain', 'old'], AbortSignal.timeout(5000));
    await store.close();
    expect(users[0]).toMatchObject({
      history: { value: ['nginx', 'php-fpm'] },
      section: { value: 'web' },
      installed_size: { value: 12.5 },
    });
    expect(users[1]).toBeUndefined();
    expect(users[2]!.section).toMatchObject({ value: null });
    expect(Date.now() - users[0]!.history!.writtenMs!).toBeLessThan(600_000);
    expect(Date.now() - users[3]!.history!.writtenMs!).toBeGreaterThan(29 * 86_400_000);
  });

  it('says no to a feature that it does not have', async () => {
    const store = open({ features: { history: { type: 'string_list', from: 'user_stats:nope' } } });
    await expect(store.lookup(['my-site'], AbortSignal.timeout(5000))).rejects.toThrow(/status 500.*nope/);
    await store.close();
  });

  it('makes the query of a request; what is old or unknown is said', async () => {
    const ask = async (body: object) => (await service.post('/retrieve', { k: 10, exact: true, ...body })).json();
    const idsOf = ({ items }: { items: { id: string }[] }) => items.map(({ id }) => id);
    const answer = await ask({ user_id: 'my-site' });
    expect(answer.degraded).toEqual([]);
    expect(idsOf(answer)).toEqual(idsOf(await ask({ features: USERS['my-site'] })));
    expect((await ask({ user_id: 'old' })).degraded).toEqual(['features_stale', 'features_default', 'cold_start']);
    expect((await ask({ user_id: 'nobody' })).degraded).toEqual(['features_default', 'cold_start']);
    await server.stop();
    const lost = await ask({ user_id: 'my-site' });
    expect(lost.degraded).toEqual(['features_stale', 'features_default']);
    expect(idsOf(lost)).toEqual(idsOf(answer));
  });
});
