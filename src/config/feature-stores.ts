/** The setting `feature_stores`: where features of users are looked up while a request waits (docs/feature-stores.md). */
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { BelfryError } from '../errors.js';
import { serviceAddress } from './addresses.js';
import { explain, type SchemaError } from './explain.js';

const strict = { additionalProperties: false } as const;

export const FEATURE_TYPES = ['number', 'boolean', 'string', 'string_list', 'number_list'] as const;
export type FeatureType = (typeof FEATURE_TYPES)[number];

const Scalar = Type.Union([Type.String(), Type.Number(), Type.Boolean()]);

const FeatureSpecSchema = Type.Object(
  {
    type: Type.Enum(FEATURE_TYPES),
    /** Feast: `view:column`. Redis: the field of the hash; default the name of the feature. */
    from: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    default: Type.Optional(Type.Union([Scalar, Type.Array(Type.Union([Type.String(), Type.Number()]))])),
    /** Redis: a list is split at it; without one it is a JSON array. */
    separator: Type.Optional(Type.String({ minLength: 1, maxLength: 8 })),
  },
  strict,
);

/** Defaults stand in `STORE_DEFAULTS`. */
const common = {
  url: Type.String({ minLength: 1 }),
  features: Type.Record(Type.String({ minLength: 1, maxLength: 256 }), FeatureSpecSchema, {
    minProperties: 1,
    maxProperties: 256,
  }),
  timeout_ms: Type.Integer({ minimum: 1, maximum: 1000 }),
  max_age_s: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  stale: Type.Enum(['default', 'use']),
  cache_ms: Type.Integer({ minimum: 0, maximum: 3_600_000 }),
  cache_bytes: Type.Integer({ minimum: 0, maximum: 1 << 30 }),
  batch_max: Type.Integer({ minimum: 1, maximum: 1024 }),
  connections: Type.Integer({ minimum: 1, maximum: 256 }),
  queue_max: Type.Integer({ minimum: 1, maximum: 100_000 }),
  answer_bytes: Type.Integer({ minimum: 1024, maximum: 1 << 28 }),
  breaker_failures: Type.Integer({ minimum: 1, maximum: 1000 }),
  breaker_open_ms: Type.Integer({ minimum: 10, maximum: 60_000 }),
};

export const STORE_DEFAULTS = {
  timeout_ms: 20,
  stale: 'default',
  cache_ms: 1000,
  cache_bytes: 16 * 1024 * 1024,
  batch_max: 64,
  connections: 8,
  queue_max: 1024,
  answer_bytes: 1024 * 1024,
  breaker_failures: 5,
  breaker_open_ms: 1000,
} as const;

const FeastSchema = Type.Object(
  {
    ...common,
    kind: Type.Literal('feast'),
    /** Join key of the entity. */
    entity: Type.String({ minLength: 1, maxLength: 256 }),
    /** As the entity is declared in Feast; ids of the other kind are not asked for. */
    entity_type: Type.Enum(['string', 'integer']),
    feature_service: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    /** Header of that name, for example `Bearer …`. */
    authorization: Type.Optional(Type.String({ pattern: '^[\\x20-\\x7e]+$', maxLength: 4096 })),
  },
  strict,
);

const RedisSchema = Type.Object(
  {
    ...common,
    kind: Type.Literal('redis'),
    /** Of the hash of a user: `user:{id}`. */
    key: Type.String({ pattern: '\\{id\\}', maxLength: 256 }),
    /** Field that holds when the hash was written: Unix seconds or milliseconds, or ISO 8601. */
    written: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    username: Type.Optional(Type.String({ minLength: 1, maxLength: 256 })),
    password: Type.Optional(Type.String({ minLength: 1, maxLength: 4096 })),
  },
  strict,
);

export type FeatureSpec = Static<typeof FeatureSpecSchema>;
/** A store with its defaults filled in, its address checked and its secrets read. */
interface Known {
  readonly name: string;
  readonly allowLinkLocal: boolean;
}
export type FeastSettings = Static<typeof FeastSchema> & Known;
export type RedisSettings = Static<typeof RedisSchema> & Known;
export type FeatureStoreSettings = FeastSettings | RedisSettings;

/** The form of the setting; what each kind takes is checked by readFeatureStores. */
export const FeatureStoresSchema = Type.Record(
  Type.String({ pattern: '^[a-z0-9][a-z0-9_-]{0,31}$' }),
  Type.Unsafe<{ readonly kind: 'feast' | 'redis'; readonly [setting: string]: unknown }>(
    Type.Object({ kind: Type.Enum(['feast', 'redis']) }, { additionalProperties: true }),
  ),
  { maxProperties: 16, description: 'Feast servers and Redis by name: features of users of now; settings file' },
);

export interface WrittenStores {
  readonly feature_stores?: Static<typeof FeatureStoresSchema> | undefined;
  readonly allow_link_local?: boolean | undefined;
}

type Environment = Readonly<Record<string, string | undefined>>;

const KINDS = {
  feast: { schema: FeastSchema, protocols: ['http', 'https'], more: { entity_type: 'string' } },
  redis: { schema: RedisSchema, protocols: ['redis', 'rediss'], more: {} },
} as const;
/** Of these, `$NAME` is the environment variable NAME. */
const SECRETS = ['authorization', 'username', 'password'] as const;

/**
 * Defaults filled in, secrets read, every value checked. Error: BELFRY_CONFIG_INVALID, which names the store and the
 * setting, and never a secret.
 */
export function readFeatureStores(
  { feature_stores = {}, allow_link_local = false }: WrittenStores,
  environment: Environment = process.env,
): FeatureStoreSettings[] {
  const owners = new Map<string, string>();
  return Object.entries(feature_stores).map(([name, written]) => {
    const store = { ...readStore(written, name, environment), name, allowLinkLocal: allow_link_local };
    const { protocols } = KINDS[store.kind];
    const url = serviceAddress(store.url, `feature_stores.${name}.url`, {
      protocols,
      allowLinkLocal: allow_link_local,
    });
    if (url.username !== '' || url.password !== '')
      throw refuse(
        `feature_stores.${name}.url`,
        `has a user name or password; set ${store.kind === 'feast' ? 'authorization' : 'username and password'}`,
      );
    for (const feature of Object.keys(store.features)) {
      const owner = owners.get(feature);
      const field = `feature_stores.${name}.features.${feature}`;
      if (owner !== undefined) throw refuse(field, `store ${owner} has this feature, too; one store may hold it`);
      if (feature === 'id') throw refuse(field, 'id is the id of the user');
      owners.set(feature, name);
    }
    return store;
  });
}

function readStore(
  written: { readonly kind: keyof typeof KINDS },
  name: string,
  environment: Environment,
): Static<typeof FeastSchema> | Static<typeof RedisSchema> {
  const field = `feature_stores.${name}`;
  if (!Object.hasOwn(KINDS, written.kind)) throw refuse(`${field}.kind`, `expected ${Object.keys(KINDS).join(' or ')}`);
  const { schema, more } = KINDS[written.kind];
  const filled: Record<string, unknown> = { ...STORE_DEFAULTS, ...more, ...written };
  for (const secret of SECRETS) {
    const value = filled[secret];
    if (typeof value !== 'string' || !value.startsWith('$')) continue;
    filled[secret] = environment[value.slice(1)];
    if (filled[secret] === undefined) throw refuse(`${field}.${secret}`, `the environment has no ${value.slice(1)}`);
  }
  if (!Value.Check(schema, filled)) {
    const hidden = Object.fromEntries(SECRETS.filter((one) => one in filled).map((one) => [one, '[redacted]']));
    const errors = [...Value.Errors(schema, filled)] as SchemaError[];
    const { field: inner, message } = explain(errors, { ...filled, ...hidden });
    throw new BelfryError('BELFRY_CONFIG_INVALID', `${field}.${message}`, { field: `${field}.${inner}` });
  }
  const store = filled as unknown as Static<typeof FeastSchema> | Static<typeof RedisSchema>;
  for (const [feature, spec] of Object.entries(store.features))
    checkSpec(store.kind, spec, `${field}.features.${feature}`);
  return store;
}

function checkSpec(kind: FeatureStoreSettings['kind'], spec: FeatureSpec, field: string): void {
  if (kind === 'feast' && !/^[^:]+:[^:]+$/.test(spec.from ?? ''))
    throw refuse(`${field}.from`, 'expected view:column, as Feast names it');
  if (spec.separator !== undefined && (kind === 'feast' || !spec.type.endsWith('_list')))
    throw refuse(`${field}.separator`, 'is for lists in Redis');
  if (spec.default !== undefined && !isOfType(spec.default, spec.type))
    throw refuse(`${field}.default`, `expected a ${spec.type}`);
}

/** Whether a JSON value is one of a feature's type: finite numbers, lists of one kind. */
export function isOfType(value: unknown, type: FeatureType): boolean {
  switch (type) {
    case 'number':
      return typeof value === 'number' && Number.isFinite(value);
    case 'boolean':
      return typeof value === 'boolean';
    case 'string':
      return typeof value === 'string';
    case 'string_list':
      return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
    case 'number_list':
      return Array.isArray(value) && value.every((entry) => typeof entry === 'number' && Number.isFinite(entry));
  }
}

function refuse(field: string, expected: string): BelfryError {
  return new BelfryError('BELFRY_CONFIG_INVALID', `${field}: ${expected}`, { field });
}
