/**
 * Redis: one hash per user, one HMGET per lookup, all of a batch in one write. The client is an optional peer, loaded with
 * the first store. It connects in the background and again after every loss; a lookup meanwhile fails at once.
 */
import type * as Redis from 'redis';
import { guardedLookup } from '../../config/addresses.js';
import type { RedisSettings } from '../../config/feature-stores.js';
import { BelfryError } from '../../errors.js';
import type { Id } from '../../types.js';
import type { FeatureStore, OnInvalid, StoredFeature, StoredUser } from './feature-store.js';
import { parsedValue } from './typed-value.js';

const CONNECT_MS = 1_000;
const RECONNECT_MAX_MS = 1_000;
/** A connection over which nothing comes back, not even the answer to a PING, is closed and made anew. */
const PING_MS = 500;
const SILENCE_MS = 2_000;

export class RedisStore implements FeatureStore {
  private readonly fields: string[];

  private constructor(
    private readonly settings: RedisSettings,
    private readonly client: Redis.RedisClientType,
    private readonly onInvalid: OnInvalid,
  ) {
    const names = Object.entries(settings.features).map(([name, { from = name }]) => from);
    this.fields = settings.written === undefined ? names : [...names, settings.written];
  }

  /** Does not wait for the connection. Error: BELFRY_FEATURE_STORE_CLIENT. */
  static async open(settings: RedisSettings, onInvalid: OnInvalid = () => undefined): Promise<RedisStore> {
    const url = new URL(settings.url);
    const { createClient } = await loadClient();
    const { username, password, batch_max, connections, allowLinkLocal } = settings;
    const socket = {
      connectTimeout: CONNECT_MS,
      socketTimeout: SILENCE_MS,
      reconnectStrategy: (retries: number) => Math.min(50 * 2 ** Math.min(retries, 10), RECONNECT_MAX_MS),
      lookup: guardedLookup({ allowLinkLocal }),
    };
    const client = createClient({
      url: url.href,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      RESP: 2,
      disableOfflineQueue: true,
      commandsQueueMaxLength: batch_max * connections * 2,
      pingInterval: PING_MS,
      socket: url.protocol === 'rediss:' ? { ...socket, tls: true } : socket,
    }) as unknown as Redis.RedisClientType;
    client.on('error', () => undefined); // lookups fail and say so; an event without a listener would end the process
    client.connect().catch(() => undefined);
    return new RedisStore(settings, client, onInvalid);
  }

  async lookup(ids: readonly Id[]): Promise<(StoredUser | undefined)[]> {
    if (!this.client.isReady) throw new Error('there is no connection');
    const replies = await Promise.allSettled(
      ids.map((id) =>
        this.client.hmGet(
          this.settings.key.replaceAll('{id}', () => String(id)),
          this.fields,
        ),
      ),
    );
    return replies.map((reply) => {
      if (reply.status === 'fulfilled') return this.read(reply.value);
      const reason = reply.reason as Error;
      if (!reason.message.startsWith('WRONGTYPE')) throw reason;
      this.onInvalid('key', 'expected a hash');
      return {};
    });
  }

  async close(): Promise<void> {
    if (this.client.isOpen) this.client.destroy();
  }

  private read(reply: readonly unknown[]): StoredUser | undefined {
    const { features, written, answer_bytes: limit } = this.settings;
    if (reply.length !== this.fields.length)
      throw new Error(`expected ${this.fields.length} fields, received ${reply.length}`);
    if (reply.every((field) => field === null)) return undefined;
    const bytes = reply.reduce<number>((sum, field) => sum + (typeof field === 'string' ? field.length : 0), 0);
    if (bytes > limit) {
      this.onInvalid('key', `the hash is larger than answer_bytes, ${limit}`);
      return {};
    }
    const writtenMs = written === undefined ? undefined : timeOf(reply.at(-1));
    const user: Record<string, StoredFeature> = {};
    for (const [at, [name, spec]] of Object.entries(features).entries()) {
      const text = reply[at];
      try {
        const value = text === null ? null : parsedValue(spec, String(text));
        user[name] = { value, ...(writtenMs === undefined ? {} : { writtenMs }) };
      } catch (error) {
        this.onInvalid(name, (error as Error).message);
      }
    }
    return user;
  }
}

/** Unix seconds, or milliseconds, or ISO 8601. */
function timeOf(text: unknown): number | undefined {
  if (typeof text !== 'string' || text === '') return undefined;
  const number = Number(text);
  const time = Number.isNaN(number) ? Date.parse(text) : number < 1e11 ? number * 1000 : number;
  return Number.isFinite(time) && time > 0 ? time : undefined;
}

async function loadClient(): Promise<typeof Redis> {
  try {
    return await import('redis');
  } catch (error) {
    throw new BelfryError(
      'BELFRY_FEATURE_STORE_CLIENT',
      `the client of Redis cannot be loaded (${(error as Error).message.split('\n')[0]}); install it beside Belfry: npm i redis@6`,
      { cause: error },
    );
  }
}
