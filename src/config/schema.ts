/** Every setting of the process: its type, bounds, default, environment variable and help text. Read nowhere else. */
import { type Static, Type } from 'typebox';
import { OVERLOAD_DEFAULTS, OVERLOAD_PROPERTIES, TIMEOUT_MS } from './overload.js';
import { FeatureStoresSchema } from './feature-stores.js';
import { ModelServersSchema } from './model-servers.js';
import { TrafficSchema } from './traffic.js';

import { RuleSets } from './rules.js';

/** Bounds of a request; the HTTP schemas and the docs read them here. */
export const LIMITS = {
  k: { default: 10, min: 1, max: 1000 },
  candidates: { default: 500, min: 1, max: 5000 },
  excludeIds: { max: 10_000 },
  excludeSets: { max: 16 },
  filterClauses: { max: 256 },
  filterDepth: { max: 16 },
  filterValues: { max: 1024 },
  queryItems: { max: 1000 },
  batchRequests: { max: 256 },
  ef: { min: 1, max: 4096 },
  timeoutMs: TIMEOUT_MS,
  idLength: { max: 256 },
  dims: { max: 4096 },
} as const;

export const SettingsSchema = Type.Object(
  {
    models: Type.String({
      minLength: 1,
      description: 'models folder (exported/, embeddings/, features/, registry.yaml), or s3://bucket/prefix of one',
    }),
    data: Type.String({
      minLength: 1,
      description: 'folder of the generations; default .belfry/<name of the models folder>',
    }),
    host: Type.String({ minLength: 1, description: 'address to listen on' }),
    port: Type.Integer({ minimum: 0, maximum: 65535, description: 'port to listen on; 0 takes a free one' }),
    metric: Type.Union([Type.Literal('ip'), Type.Literal('cosine'), Type.Literal('l2')], {
      description: 'how queries and items compare; default from export.json, else ip',
    }),
    threads: Type.Integer({ minimum: 1, maximum: 1024, description: 'search threads; default one per CPU' }),
    build_threads: Type.Integer({
      minimum: 1,
      maximum: 1024,
      description: 'threads of a build; default one per CPU, beside a server half of them',
    }),
    kernel: Type.Union(
      [
        Type.Literal('amx'),
        Type.Literal('avx512vnni'),
        Type.Literal('avxvnni'),
        Type.Literal('avx2'),
        Type.Literal('portable'),
      ],
      { description: 'instruction set of the search; default the best that this CPU has' },
    ),
    workers: Type.Integer({
      minimum: 1,
      maximum: 256,
      description: 'processes that answer requests, over one data folder; beyond 1 another one starts and watches them',
    }),
    model_workers: Type.Integer({
      minimum: 1,
      maximum: 64,
      description:
        'worker threads per model; default 1 for a tower, for a reranker one per CPU of the process, at most 4',
    }),
    rerank_module: Type.String({
      minLength: 1,
      description: 'JavaScript module that exports rerank(request, candidates, signal)',
    }),
    model_server: Type.String({
      minLength: 1,
      description: 'address of the KServe v2 server (Triton, KServe, MLServer) that runs rerankers of other formats',
    }),
    model_servers: ModelServersSchema,
    feature_stores: FeatureStoresSchema,
    mlflow_url: Type.String({
      minLength: 1,
      description: 'address of the MLflow server that registry.yaml takes models from',
    }),
    mlflow_token: Type.String({ minLength: 1, maxLength: 4096, description: 'bearer token for it' }),
    mlflow_username: Type.String({ minLength: 1, maxLength: 256, description: 'user of its basic authentication' }),
    mlflow_password: Type.String({ minLength: 1, maxLength: 4096, description: 'goes with mlflow_username' }),
    mlflow_file_root: Type.String({
      minLength: 1,
      description: 'folder below which artifacts of MLflow may be read that are files of this machine',
    }),
    on_bad_vector: Type.Union([Type.Literal('reject'), Type.Literal('skip')], {
      description: 'NaN, infinite or (cosine) zero rows in item_embeddings.npy: fail the build, or leave them out',
    }),
    swap: Type.Union([Type.Literal('beside'), Type.Literal('stop-then-load')], {
      description:
        'when the next generation does not fit into memory beside the one that serves: refuse it, or stop serving until it is loaded',
    }),
    upserts: Type.Boolean({ description: 'whether PUT and DELETE /items/{id} are there' }),
    upsert_fsync: Type.Union([Type.Literal('always'), Type.Literal('interval'), Type.Literal('off')], {
      description:
        'when a change of an item is on disk: before it is acknowledged, within a second, or when the system writes it',
    }),
    upsert_log_bytes: Type.Integer({
      minimum: 1024,
      maximum: 1 << 30,
      description: 'changes of items that wait for a rebuild, in bytes; more are refused',
    }),
    gate_skew_cosine: Type.Number({
      minimum: -1,
      maximum: 1,
      description: 'least cosine between what the user tower makes of a user and his row of user_embeddings.npy',
    }),
    gate_recall: Type.Number({ minimum: 0, maximum: 1, description: 'least recall of the tuned search' }),
    gate_recall_drop: Type.Number({
      minimum: 0,
      maximum: 1,
      description: 'recall that may be lost from one generation to the next',
    }),
    gate_agreement: Type.Number({
      minimum: 0,
      maximum: 1,
      description:
        'least share of pairs (an item answered by the generation before, any item) that keep their order; chance is 0.5',
    }),
    gate_count_drop: Type.Number({
      minimum: 0,
      maximum: 1,
      description: 'share of the items, and of the users, that may be gone from one generation to the next',
    }),
    gate_norm_change: Type.Number({
      minimum: 1,
      maximum: 1e6,
      description: 'factor by which the median length of vectors may change from one generation to the next',
    }),
    gate_zero_share: Type.Number({ minimum: 0, maximum: 1, description: 'largest share of vectors that are zero' }),
    watch_export: Type.Boolean({
      description: 'build when the models folder has a new export: a settled _SUCCESS file or a changed export.json',
    }),
    watch_settle_ms: Type.Integer({
      minimum: 100,
      maximum: 3_600_000,
      description: 'for how long the sizes and times of all files of a new export must hold still',
    }),
    rebuild_schedule: Type.String({
      minLength: 1,
      maxLength: 128,
      description: 'when a server builds: "every 30m", or cron with five fields in the time zone of the machine',
    }),
    admin: Type.Boolean({ description: 'routes under /admin: builds and generations' }),
    admin_host: Type.String({
      minLength: 1,
      description: 'address on which administrators and the page are listened to',
    }),
    admin_port: Type.Integer({
      minimum: 0,
      maximum: 65535,
      description:
        'port of the same; default port + 10000, or a free one where that is taken; that of port puts all on one',
    }),
    admin_key: Type.String({
      minLength: 16,
      maxLength: 256,
      description: 'one key with every scope, beside those of the keys file, or where there is none',
    }),
    keys: Type.String({
      minLength: 1,
      description: 'file of API keys (belfry keys); with it every request needs one, and a change is seen in a second',
    }),
    open_access: Type.Boolean({
      description:
        'whether other machines may retrieve without a key; else a server without keys listens on loopback only',
    }),
    cors_origins: Type.Array(Type.String({ pattern: '^https?://[^/\\s*]+$' }), {
      maxItems: 100,
      description: 'origins of web pages that may call from a browser, as https://shop.example; none by default',
    }),
    tls_cert: Type.String({
      minLength: 1,
      description: 'file with the certificate and its chain, PEM; goes with tls_key',
    }),
    tls_key: Type.String({ minLength: 1, description: 'file with the private key of tls_cert, PEM' }),
    tls_client_ca: Type.String({
      minLength: 1,
      description: 'file with the authorities, PEM, one of which must have signed the certificate of every client',
    }),
    body_limit_bytes: Type.Integer({ minimum: 1024, maximum: 1 << 30, description: 'largest request body' }),
    request_timeout_ms: Type.Integer({
      minimum: 100,
      maximum: 600_000,
      description: 'time for a request to arrive whole',
    }),
    max_connections: Type.Integer({ minimum: 1, maximum: 1_000_000, description: 'open sockets' }),
    ...OVERLOAD_PROPERTIES,
    rules: RuleSets,
    recall_sample_share: Type.Number({
      minimum: 0,
      maximum: 1,
      description: 'share of searches that are answered once more, exactly, when the process is idle; 0 is off',
    }),
    recall_sample_gap_ms: Type.Integer({
      minimum: 10,
      maximum: 3_600_000,
      description: 'least time between two such samples',
    }),
    traces: Type.Boolean({
      description:
        'OpenTelemetry traces, by the package @opentelemetry/api and the SDK that the process is started with',
    }),
    slow_request_ms: Type.Integer({
      minimum: 0,
      maximum: 3_600_000,
      description: 'requests that take so long are logged with their stages; 0 is off',
    }),
    access_log_share: Type.Number({ minimum: 0, maximum: 1, description: 'share of requests that are logged' }),
    traffic: TrafficSchema,
    push_to: Type.String({
      pattern: '^s3://',
      description: 's3://bucket/prefix that gets a copy of each generation that is built',
    }),
    pull_from: Type.String({
      pattern: '^s3://',
      description:
        's3://bucket/prefix of copies: the latest is pulled and served, nothing is built; goes before models',
    }),
    s3_endpoint: Type.String({
      pattern: '^https?://[^\\s/]+/?$',
      description: 'address of an S3-compatible store; default that of AWS in the region',
    }),
    s3_region: Type.String({ minLength: 1, description: 'region; default that of the AWS environment or profile' }),
    s3_access_key_id: Type.String({ minLength: 1, description: 'default: the standard chain of AWS credentials' }),
    s3_secret_access_key: Type.String({ minLength: 1, description: 'goes with s3_access_key_id' }),
    s3_session_token: Type.String({ minLength: 1, description: 'goes with temporary keys' }),
    s3_checksums: Type.Union([Type.Literal('when_supported'), Type.Literal('when_required')], {
      description: 'whether uploads carry a checksum of their own; some compatible stores refuse them',
    }),
    s3_etag: Type.Union([Type.Literal('md5'), Type.Literal('opaque')], {
      description: 'whether an ETag that looks like an MD5 is one, and is checked',
    }),
    s3_timeout_ms: Type.Integer({
      minimum: 100,
      maximum: 600_000,
      description: 'time for a connection, for an answer, and for the next 64 KB of one',
    }),
    s3_attempts: Type.Integer({ minimum: 1, maximum: 20, description: 'attempts before a request is given up' }),
    allow_link_local: Type.Boolean({
      description:
        'whether addresses of other services may be link-local, where clouds keep the credentials of a machine',
    }),
    log_level: Type.Union(
      [
        Type.Literal('trace'),
        Type.Literal('debug'),
        Type.Literal('info'),
        Type.Literal('warn'),
        Type.Literal('error'),
        Type.Literal('fatal'),
        Type.Literal('silent'),
      ],
      { description: 'least level that is logged' },
    ),
  },
  { additionalProperties: false },
);

type All = Static<typeof SettingsSchema>;
/** Settings that are found from the models folder or the machine when nobody sets them. */
type Derived =
  | 'model_workers'
  | 'traffic'
  | 'data'
  | 'metric'
  | 'threads'
  | 'build_threads'
  | 'rebuild_schedule'
  | 'admin_port'
  | 'admin_key'
  | 'keys'
  | 'tls_cert'
  | 'tls_key'
  | 'tls_client_ca'
  | 'kernel'
  | 'rerank_module'
  | 'model_server'
  | 'model_servers'
  | 'feature_stores'
  | 'mlflow_url'
  | 'mlflow_token'
  | 'mlflow_username'
  | 'mlflow_password'
  | 'mlflow_file_root'
  | 'rules'
  | 'push_to'
  | 'pull_from'
  | 's3_endpoint'
  | 's3_region'
  | 's3_access_key_id'
  | 's3_secret_access_key'
  | 's3_session_token';
export type Settings = Omit<All, Derived> & { [K in Derived]?: All[K] | undefined };

/** Thresholds of the gates that a generation must pass. */
export type GateSettings = Pick<Settings, Extract<keyof Settings, `gate_${string}`>>;

export const DEFAULTS: Omit<Settings, 'models'> = {
  host: '127.0.0.1',
  port: 8080,
  workers: 1,
  on_bad_vector: 'reject',
  swap: 'beside',
  upserts: true,
  upsert_fsync: 'always',
  upsert_log_bytes: 512 * 1024 * 1024,
  gate_skew_cosine: 0.99,
  gate_recall: 0.95,
  gate_recall_drop: 0.005,
  gate_agreement: 0.85,
  gate_count_drop: 0.5,
  gate_norm_change: 10,
  gate_zero_share: 0.25,
  watch_export: false,
  watch_settle_ms: 5000,
  admin: true,
  admin_host: '127.0.0.1',
  open_access: false,
  cors_origins: [],
  body_limit_bytes: 2 * 1024 * 1024,
  request_timeout_ms: 10_000,
  max_connections: 10_000,
  timeout_ms: LIMITS.timeoutMs.default,
  ...OVERLOAD_DEFAULTS,
  s3_checksums: 'when_supported',
  s3_etag: 'md5',
  s3_timeout_ms: 30_000,
  s3_attempts: 5,
  allow_link_local: false,
  recall_sample_share: 0.01,
  recall_sample_gap_ms: 1000,
  traces: false,
  slow_request_ms: 500,
  access_log_share: 0,
  log_level: 'info',
};

/** What a client of an object store is made of. */
export type ObjectStoreSettings = Pick<Settings, Extract<keyof Settings, `s3_${string}`>>;

export function objectStoreSettings(settings: Settings): ObjectStoreSettings {
  const entries = Object.entries(settings).filter(([name]) => name.startsWith('s3_'));
  return Object.fromEntries(entries) as unknown as ObjectStoreSettings;
}

/** `BELFRY_<SETTING>` sets any of them; PORT is what container platforms set. */
export function environmentNames(setting: keyof All): string[] {
  const own = `BELFRY_${setting.toUpperCase()}`;
  return setting === 'port' ? [own, 'PORT'] : [own];
}
