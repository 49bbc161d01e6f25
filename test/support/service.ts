/** A whole service without a socket: a models folder built, loaded and behind the HTTP application. */
import { rmSync } from 'node:fs';
import type { FastifyInstance, LightMyRequestResponse } from 'fastify';
import type { WrittenStores } from '../../src/config/feature-stores.js';
import { openTraffic } from '../../src/cli/open-traffic.js';
import { DEFAULTS, type Settings } from '../../src/config/schema.js';
import type { BelfryError } from '../../src/errors.js';
import { type BuildOptions, ensureGeneration } from '../../src/generation/build.js';
import { Generation, type LoadOptions } from '../../src/generation/generation.js';
import { GenerationStore } from '../../src/generation/store.js';
import { buildApp } from '../../src/http/app.js';
import type { AppParts, HttpSettings } from '../../src/http/parts.js';
import { Retriever } from '../../src/retrieval/retriever.js';
import { openUserStores } from '../../src/retrieval/user-stores.js';
import { Metrics } from '../../src/telemetry/metrics.js';
import { ItemUpserts, type UpsertOptions } from '../../src/upserts/item-upserts.js';
import { temporaryFolder } from './folders.js';

export interface Service {
  readonly app: FastifyInstance;
  readonly generation: Generation;
  readonly store: GenerationStore;
  readonly upserts: ItemUpserts | undefined;
  readonly metrics: Metrics;
  /** The data folder. */
  readonly data: string;
  /** What went wrong in the shadow. */
  readonly heard: readonly (readonly [what: string, error: BelfryError])[];
  post(url: string, body: unknown, headers?: Record<string, string>): Promise<LightMyRequestResponse>;
  close(): Promise<void>;
}

export async function startService(
  models: string,
  options: {
    build?: Partial<BuildOptions>;
    load?: LoadOptions;
    settings?: Partial<HttpSettings>;
    upserts?: Partial<UpsertOptions>;
    stores?: WrittenStores['feature_stores'];
    traffic?: NonNullable<Settings['traffic']>;
    parts?: Partial<AppParts>;
  } = {},
): Promise<Service> {
  const data = temporaryFolder({ keep: true });
  const { published } = await ensureGeneration({ models, data, ...options.build });
  const generation = await Generation.load(published, options.load);
  const store = new GenerationStore(generation);
  const metrics = new Metrics();
  // Tests assert what is answered, not how fast: a busy machine must not turn an answer into a 504.
  const settings = { ...DEFAULTS, timeout_ms: 1000, loop_delay_max_ms: 60_000, ...options.settings };
  const upserts =
    options.upserts === undefined
      ? undefined
      : await ItemUpserts.open({ data, store, metrics, fsync: 'off', logBytes: 1 << 30, ...options.upserts });
  const userFeatures = await openUserStores({ feature_stores: options.stores }, metrics);
  const heard: [what: string, error: BelfryError][] = [];
  const traffic = openTraffic(options, data, store, metrics, (what, error) => {
    heard.push([what, error]);
  });
  const retriever = new Retriever(store, metrics, undefined, upserts, userFeatures, undefined, traffic);
  const app = await buildApp({
    retriever,
    metrics,
    settings,
    version: 'test',
    ...(upserts === undefined ? {} : { upserts }),
    ...options.parts,
  });
  return {
    app,
    generation,
    store,
    upserts,
    metrics,
    data,
    heard,
    post: (url, body, headers = {}) =>
      app.inject({
        method: 'POST',
        url,
        headers: { 'content-type': 'application/json', ...headers },
        payload: typeof body === 'string' ? body : JSON.stringify(body),
      }),
    async close() {
      await app.close();
      await upserts?.close();
      await userFeatures.close();
      await traffic.shadows.close();
      await store.close();
      rmSync(data, { recursive: true, force: true });
    },
  };
}
