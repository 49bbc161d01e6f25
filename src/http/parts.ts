/** What the application is put together from. */
import type { FastifyBaseLogger } from 'fastify';
import type { KeyRing } from '../access/key-ring.js';
import type { Settings } from '../config/schema.js';
import type { DataFolder } from '../generation/data-folder.js';
import type { GenerationFollower } from '../generation/follower.js';
import type { Rebuilds } from '../rebuild/rebuilder.js';
import type { Retriever } from '../retrieval/retriever.js';
import type { ItemUpserts } from '../upserts/item-upserts.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { AdminDoor } from './admin-door.js';
import type { TlsFiles } from './tls.js';

export type HttpSettings = Pick<
  Settings,
  | 'rules'
  | 'slow_request_ms'
  | 'access_log_share'
  | 'timeout_max_ms'
  | 'loop_delay_max_ms'
  | 'body_limit_bytes'
  | 'max_connections'
  | 'request_timeout_ms'
  | 'timeout_ms'
  | 'admin_key'
  | 'host'
  | 'cors_origins'
>;

/** What /admin acts on. */
export interface AdminParts {
  readonly data: DataFolder;
  readonly rebuilder: Rebuilds;
  readonly follower: Pick<GenerationFollower, 'check' | 'problem'>;
  readonly nextScheduled?: () => Date | null;
}

export interface AppParts {
  readonly retriever: Retriever;
  readonly metrics: Metrics;
  /** Without it there are no routes that change items. */
  readonly upserts?: ItemUpserts;
  readonly settings: HttpSettings;
  /** Without it there is no /admin. */
  readonly admin?: AdminParts;
  /** The build beside what serves, for /readyz. */
  readonly rebuilder?: Pick<Rebuilds, 'view'>;
  /** Where more than one process serves: how many there are, and how many of them are ready. */
  readonly workers?: () => { readonly count: number; readonly ready: number };
  /** Without them there are no keys, and requests are taken from everybody who reaches the server. */
  readonly keys?: KeyRing | undefined;
  /** Without it, what is for administrators stands beside the rest. */
  readonly adminDoor?: AdminDoor | undefined;
  /** Without them the application speaks plain HTTP. */
  readonly tls?: TlsFiles | undefined;
  readonly logger?: FastifyBaseLogger;
  readonly version: string;
}
