/**
 * What an API key is, and what the keys file keeps of it.
 *
 * `belfry_<id>_<secret>`: the id (10 characters) is public and finds the record in one look-up; the secret is 32 random
 * bytes. The file holds SHA-256 of the whole key. A slow hash (scrypt) and a pepper protect what people make up; 256 random
 * bits cannot be guessed from their hash, the id makes hashes of equal secrets differ, and a fast hash costs a request
 * microseconds.
 */
import { hash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto';
import { type Static, Type } from 'typebox';

export const SCOPES = ['retrieve', 'write', 'metrics', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];

const PREFIX = 'belfry_';
const ID_LENGTH = 10;
const SECRET_LENGTH = 43; // 32 bytes as base64url
const KEY_LENGTH = PREFIX.length + ID_LENGTH + 1 + SECRET_LENGTH;
const ID_CHARACTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** A key anywhere in a text, whole or cut short. */
export const KEY_PATTERN = /belfry_[a-z0-9]{10}_[A-Za-z0-9_-]{8,}/;

const Time = Type.String({ pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d+)?Z$' });

export const KeyRecordSchema = Type.Object(
  {
    id: Type.String({ pattern: `^[a-z0-9]{${ID_LENGTH}}$` }),
    name: Type.String({ minLength: 1, maxLength: 128 }),
    scopes: Type.Array(Type.Enum(SCOPES), { minItems: 1, uniqueItems: true }),
    sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }),
    created: Time,
    /** From then on the key is refused. */
    expires: Type.Optional(Time),
    requests_per_second: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1e9 })),
    requests_per_day: Type.Optional(Type.Integer({ minimum: 1, maximum: 1e15 })),
    /** The key may name and see only users whose ids begin with it. */
    user_prefix: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
  },
  { additionalProperties: false },
);
export type KeyRecord = Static<typeof KeyRecordSchema>;

export const KeysFileSchema = Type.Object(
  { version: Type.Literal(1), keys: Type.Array(KeyRecordSchema, { maxItems: 100_000 }) },
  { additionalProperties: false },
);
export type KeysFile = Static<typeof KeysFileSchema>;

/** A new key: the text is shown once and kept nowhere. */
export function makeKey(): { readonly key: string; readonly id: string; readonly sha256: string } {
  const id = Array.from({ length: ID_LENGTH }, () => ID_CHARACTERS[randomInt(ID_CHARACTERS.length)]).join('');
  const key = `${PREFIX}${id}_${randomBytes(32).toString('base64url')}`;
  return { key, id, sha256: digestOf(key).toString('hex') };
}

/** Undefined where the text has not the form of a key. */
export function idOfKey(text: string): string | undefined {
  if (text.length !== KEY_LENGTH || !text.startsWith(PREFIX)) return undefined;
  return text.slice(PREFIX.length, PREFIX.length + ID_LENGTH);
}

export function digestOf(text: string): Buffer {
  return hash('sha256', text, 'buffer');
}

/** In the same time wherever they differ, and whatever their lengths. */
export function isSameSecret(sent: string, expected: Buffer): boolean {
  return timingSafeEqual(digestOf(sent), expected);
}
