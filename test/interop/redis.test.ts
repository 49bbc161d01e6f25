/** A real Redis: hashes of users in the path of a request, a server that is stopped, killed, and comes back. */
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SAMPLE, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';
import { type DataServer, hasRedis, startRedis } from './data-servers.js';

const PASSWORD = 'not-a-secret';

describe.skipIf(!hasRedis())('features of users in Redis', () => {
  let server: DataServer;
  let service: Service;
  let client: ReturnType<typeof createClient>;
  const folder = temporaryFolder({ keep: true });
  const connect = async () => {
    client = createClient({ url: server.url, password: PASSWORD });
    client.on('error', () => undefined);
    await client.connect();
  };
  beforeAll(async () => {
    server = await startRedis(folder, undefined, ['--requirepass', PASSWORD]);
    await connect();
    service = await startService(SAMPLE, {
      stores: {
        sessions: {
          kind: 'redis',
          url: server.url,
          password: PASSWORD,
          key: 'user:{id}',
          written: 'written',
          features: {
            history: { type: 'string_list', separator: ',' },
            section: { type: 'string' },
            tags: { type: 'string_list' },
            installed_size: { type: 'number', from: 'size' },
          },
          timeout_ms: 200, // of 1000 that a request has: a search on a busy machine needs the rest
          max_age_s: 3600,
          cache_ms: 0,
          breaker_open_ms: 100,
        },
      },
    });
    await client.hSet('user:first', { history: 'nginx', written: String(Date.now()) });
    // It connects in the background.
    while ((await ask({ user_id: 'first' })).degraded.length > 0) await sleep(20);
  });
  afterAll(async () => {
    client.destroy();
    await service.close();
    await server.stop();
  });
  const ask = async (body: object) => {
    const response = await service.post('/retrieve', { k: 10, exact: true, ...body });
    expect(response.statusCode, response.body).toBe(200);
    return response.json() as { items: { id: string }[]; degraded: string[] };
  };
  const idsOf = ({ items }: { items: { id: string }[] }) => items.map(({ id }) => id);

  it('make the query: numbers, lists as JSON and with a separator, an absent field is a null', async () => {
    const now = String(Date.now() / 1000);
    const hash = { history: 'nginx,php-fpm', tags: '["role::program"]', size: '12.5', written: now };
    await client.hSet('user:my-site', hash);
    const answer = await ask({ user_id: 'my-site' });
    expect(answer.degraded).toEqual([]);
    const features = { history: ['nginx', 'php-fpm'], tags: ['role::program'], installed_size: 12.5 };
    expect(idsOf(answer)).toEqual(idsOf(await ask({ features })));
  });

  it('64 users at once get each their own', async () => {
    const users = Array.from({ length: 64 }, (_, i) => `load-${i}`);
    const histories = ['nginx', 'gimp', 'python3-numpy', 'vlc'];
    await Promise.all(
      users.map((user, i) => client.hSet(`user:${user}`, { history: histories[i % 4]!, written: String(Date.now()) })),
    );
    const wanted = await Promise.all(histories.map((item) => ask({ features: { history: [item] } })));
    const answers = await Promise.all(users.map((user_id) => ask({ user_id })));
    for (const [i, answer] of answers.entries()) {
      expect(answer.degraded).toEqual([]);
      expect(idsOf(answer)).toEqual(idsOf(wanted[i % 4]!));
    }
  });

  it('that are old, of another type, or no hash, give way', async () => {
    await client.hSet('user:old', { history: 'nginx', written: '1000000000' });
    expect((await ask({ user_id: 'old' })).degraded).toEqual(['features_stale', 'features_default', 'cold_start']);
    await client.set('user:text', 'no hash');
    expect((await ask({ user_id: 'text' })).degraded).toEqual(['features_default', 'cold_start']);
    await client.hSet('user:odd', { history: 'nginx', size: 'large', written: String(Date.now()) });
    expect((await ask({ user_id: 'odd' })).degraded).toEqual(['features_default']);
  });

  it('S3: a server that hangs, is killed and comes back costs no request', async () => {
    await client.hSet('user:known', { history: 'nginx', written: String(Date.now()) });
    expect((await ask({ user_id: 'known' })).degraded).toEqual([]);
    server.child.kill('SIGSTOP');
    for (let i = 0; i < 8; i++)
      expect((await ask({ user_id: 'known' })).degraded).toEqual(['features_stale', 'features_default']);
    server.child.kill('SIGCONT');
    await expect.poll(async () => (await ask({ user_id: 'known' })).degraded, { timeout: 10_000 }).toEqual([]);
    const port = Number(new URL(server.url).port);
    await server.stop();
    expect((await ask({ user_id: 'known' })).degraded).toEqual(['features_stale', 'features_default']);
    client.destroy();
    server = await startRedis(folder, port, ['--requirepass', PASSWORD]);
    await connect();
    await client.hSet('user:known', { history: 'nginx', written: String(Date.now()) });
    await expect.poll(async () => (await ask({ user_id: 'known' })).degraded, { timeout: 10_000 }).toEqual([]);
  });
});
