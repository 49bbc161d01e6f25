/** What the application is put together from. */
import type { FastifyBaseLogger } from 'fastify';
import type { Settings } from '../config/schema.js';
import type { Retriever } from '../retrieval/retriever.js';
import type { ItemUpserts } from '../upserts/item-upserts.js';
import type { Metrics } from '../telemetry/metrics.js';

export type HttpSettings = Pick<Settings, 'body_limit_bytes' | 'request_timeout_ms' | 'timeout_ms'>;

export interface AppParts {
  readonly retriever: Retriever;
  readonly metrics: Metrics;
  /** Without it there are no routes that change items. */
  readonly upserts?: ItemUpserts;
  readonly settings: HttpSettings;
  readonly logger?: FastifyBaseLogger;
  readonly version: string;
}
