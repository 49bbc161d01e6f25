/** The setting `traffic`: who gets which reranker, and what is scored in the shadow (docs/traffic.md). */
import { type Static, Type } from 'typebox';

const strict = { additionalProperties: false } as const;

export const TrafficSchema = Type.Object(
  {
    salt: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    shares: Type.Optional(Type.Record(Type.String({ minLength: 1 }), Type.Number({ minimum: 0, maximum: 1 }))),
    shadow_share: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    shadow_queue: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
    shadow_timeout_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: 60_000 })),
    shadow_log: Type.Optional(Type.Boolean()),
    shadow_log_items: Type.Optional(Type.Integer({ minimum: 1, maximum: 5000 })),
    shadow_log_file_bytes: Type.Optional(Type.Integer({ minimum: 1024, maximum: 1 << 30 })),
    shadow_log_total_bytes: Type.Optional(Type.Integer({ minimum: 2048, maximum: 2 ** 40 })),
  },
  {
    ...strict,
    description:
      'shares of ab-test rerankers by name (in place of those of the registry), salt of the hash of user ids, shadow_share, shadow_queue, shadow_timeout_ms, shadow_log, shadow_log_items, shadow_log_file_bytes, shadow_log_total_bytes',
  },
);

export type TrafficSettings = Required<Omit<Static<typeof TrafficSchema>, 'shares'>> & {
  readonly shares?: Readonly<Record<string, number>> | undefined;
};

export const TRAFFIC_DEFAULTS: TrafficSettings = {
  salt: 'belfry',
  /** Share of the re-ranked requests that shadow rerankers score too. */
  shadow_share: 1,
  /** Requests that wait for a shadow; more are dropped. */
  shadow_queue: 64,
  shadow_timeout_ms: 1000,
  shadow_log: true,
  /** Candidates of a request that the log keeps, the first of the answer. */
  shadow_log_items: 100,
  shadow_log_file_bytes: 64 * 1024 * 1024,
  shadow_log_total_bytes: 1024 * 1024 * 1024,
};

export function trafficSettings(setting: Static<typeof TrafficSchema> | undefined): TrafficSettings {
  return { ...TRAFFIC_DEFAULTS, ...setting };
}
