/** A Feast feature server over HTTP (`feast serve`): POST /get-online-features for many users at once. */
import { Pool } from 'undici';
import { guardedLookup } from '../../config/addresses.js';
import type { FeastSettings } from '../../config/feature-stores.js';
import { traceHeaders } from '../../telemetry/tracing.js';
import type { Id } from '../../types.js';
import { readFeastAnswer } from './feast-answer.js';
import type { FeatureStore, OnInvalid, StoredUser } from './feature-store.js';

const CONNECT_MS = 1_000;
/** What undici calls a connection that the other side had closed before the request arrived. */
const STALE_CONNECTION = ['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'];

export class FeastStore implements FeatureStore {
  private readonly pool: Pool;
  private readonly path: string;

  constructor(
    private readonly settings: FeastSettings,
    private readonly onInvalid?: OnInvalid,
  ) {
    const { allowLinkLocal } = settings;
    const url = new URL(settings.url);
    this.path = `${url.pathname.replace(/\/$/, '')}/get-online-features`;
    this.pool = new Pool(url.origin, {
      connections: settings.connections,
      connect: { timeout: CONNECT_MS, lookup: guardedLookup({ allowLinkLocal }) },
    });
  }

  async lookup(ids: readonly Id[], signal: AbortSignal): Promise<(StoredUser | undefined)[]> {
    const { entity, entity_type, features } = this.settings;
    // An id of the other kind would spoil the answer of all others.
    const asked = ids.filter((id) => entity_type === 'string' || typeof id === 'number');
    if (asked.length === 0) return ids.map(() => undefined);
    const sent = asked.map((id) => (entity_type === 'string' ? String(id) : id));
    const found = readFeastAnswer(await this.ask(sent, signal), { entity, ids: sent, features }, this.onInvalid);
    const users = new Map(asked.map((id, at) => [id, found[at]]));
    return ids.map((id) => users.get(id));
  }

  async close(): Promise<void> {
    await this.pool.destroy();
  }

  private async ask(ids: readonly Id[], signal: AbortSignal): Promise<unknown> {
    const { entity, feature_service, features } = this.settings;
    const body = JSON.stringify({
      ...(feature_service === undefined
        ? { features: [...new Set(Object.values(features).map(({ from }) => from))] }
        : { feature_service }),
      entities: { [entity]: ids },
      full_feature_names: true,
    });
    try {
      return await this.post(body, signal);
    } catch (error) {
      // Asking twice changes nothing over there, and this is a connection that was idle, not a server that is down.
      if (!STALE_CONNECTION.includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
      return this.post(body, signal);
    }
  }

  private async post(body: string, signal: AbortSignal): Promise<unknown> {
    const { authorization, answer_bytes: limit } = this.settings;
    const { statusCode, body: answer } = await this.pool.request({
      method: 'POST',
      path: this.path,
      headers: {
        'content-type': 'application/json',
        accept: 'application/json',
        ...traceHeaders(),
        ...(authorization === undefined ? {} : { authorization }),
      },
      body,
      signal,
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > limit) throw new Error(`the answer is larger than answer_bytes, ${limit}`);
      chunks.push(chunk);
    }
    const text = Buffer.concat(chunks).toString('utf8');
    if (statusCode !== 200) throw new Error(`status ${statusCode}: ${text.slice(0, 200)}`);
    try {
      return JSON.parse(text);
    } catch {
      throw new Error(`the answer is no JSON: ${text.slice(0, 80)}`);
    }
  }
}
