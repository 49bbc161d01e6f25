/** Settings and texts as they may be shown: in messages, logs and dumps. */

/** Settings that are secrets as a whole. */
const SECRET = /(^|_)(key|secret|token|password|authorization)$|^s3_(access_key_id|secret_access_key|session_token)$/;
/** Files are named, not held: their paths are no secrets. */
const NAMES_A_FILE = /^tls_key$/;

const HIDDEN = '(not shown)';
const API_KEY = /(belfry_[a-z0-9]{10}_)[A-Za-z0-9_-]{8,}/g;
const BEARER = /\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}/gi;
const USER_INFO = /(\b[a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi;

/** A copy in which secrets are replaced, at any depth: a table of settings may hold tables. */
export function withoutSecrets<T>(value: T, hide: (secret: unknown) => string = () => HIDDEN, name = ''): T {
  if (value === undefined || value === null) return value;
  if (SECRET.test(name) && !NAMES_A_FILE.test(name)) return hide(value) as T;
  if (typeof value === 'string') return redacted(value) as T;
  if (Array.isArray(value)) return value.map((one) => withoutSecrets<unknown>(one, hide)) as T;
  if (typeof value !== 'object' || value instanceof Error) return value; // an error is written by its serializer
  const entries = Object.entries(value).map(([key, one]) => [key, withoutSecrets<unknown>(one, hide, key)] as const);
  return Object.fromEntries(entries) as T;
}

/** For messages that say how long a value is, and not what it is. */
export function sameLength(secret: unknown): string {
  return typeof secret === 'string' ? '*'.repeat(secret.length) : HIDDEN;
}

/** Absolute paths, but not those of our own routes. */
const PATH = /(^|[\s"'(=])(?:[A-Za-z]:)?[\\/](?!admin\/|retrieve\/|similar\/|items\/)(?:[^\s"'(),;:\\/]+[\\/])+/g;

/** A copy whose texts name files without the folders that they are in: for callers who need not know the machine. */
export function withoutFolders<T>(value: T): T {
  if (typeof value === 'string') return value.replace(PATH, '$1') as T;
  if (Array.isArray(value)) return value.map((one) => withoutFolders<unknown>(one)) as T;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, withoutFolders<unknown>(one)])) as T;
}

/** A text without API keys, authorization values, and passwords in addresses. */
export function redacted(text: string): string {
  return text.replace(BEARER, '$1 …').replace(API_KEY, '$1…').replace(USER_INFO, '$1…@');
}
