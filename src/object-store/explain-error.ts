/** What goes wrong with an object store, as our codes: who can mend it and how. */
import type { ObjectStoreSettings } from '../config/schema.js';
import { BelfryError } from '../errors.js';

interface StoreError {
  readonly name?: string;
  readonly code?: string;
  readonly message?: string;
  readonly $metadata?: { readonly httpStatusCode?: number; readonly attempts?: number };
  /** An AggregateError of several addresses of one host. */
  readonly errors?: readonly StoreError[];
}

const NO_KEYS = /^(CredentialsProviderError|TokenProviderError)$/;

/** `what` is the address that was asked for. A BelfryError passes unchanged. */
export function explainStoreError(error: unknown, what: string, settings: ObjectStoreSettings): unknown {
  if (error instanceof BelfryError) return error;
  const { name = '', message = '', $metadata, errors } = error as StoreError;
  const status = $metadata?.httpStatusCode;
  const code = (error as StoreError).code ?? errors?.[0]?.code;
  const make = (
    kind: 'BELFRY_OBJECT_STORE_DENIED' | 'BELFRY_OBJECT_STORE_NOT_FOUND' | 'BELFRY_OBJECT_STORE_UNREACHABLE',
    text: string,
  ) => new BelfryError(kind, `${what}: ${text}`, { field: what, cause: error });

  if (name === 'NoSuchBucket')
    return make('BELFRY_OBJECT_STORE_NOT_FOUND', 'there is no such bucket; look at the address and s3_endpoint');
  if (name === 'NoSuchKey' || status === 404)
    return make('BELFRY_OBJECT_STORE_NOT_FOUND', 'there is no such object or bucket');
  if (status === 412 || name === 'PreconditionFailed' || name === 'InvalidRange') {
    return new BelfryError('BELFRY_FILE_CHANGED', `${what} changed while it was read; fetch again`, {
      field: what,
      cause: error,
    });
  }
  if (NO_KEYS.test(name)) {
    return make(
      'BELFRY_OBJECT_STORE_DENIED',
      `no credentials (${message}); set s3_access_key_id and s3_secret_access_key, or those of AWS`,
    );
  }
  if (message === 'Region is missing') return make('BELFRY_OBJECT_STORE_DENIED', 'no region is known; set s3_region');
  if (status === 401 || status === 403)
    return make('BELFRY_OBJECT_STORE_DENIED', `the store refuses it (${status} ${name}); look at the keys and rights`);
  if (status !== undefined && status >= 300 && status < 500 && status !== 429)
    return make(
      'BELFRY_OBJECT_STORE_DENIED',
      `the store refuses it (${status} ${name}: ${message}); look at s3_region`,
    );
  const where = settings.s3_endpoint ?? 'the store';
  const reason = status === undefined ? (code ?? (message || name)) : `status ${status} ${name}`;
  return make(
    'BELFRY_OBJECT_STORE_UNREACHABLE',
    `${where} does not answer as it should (${reason}) after ${settings.s3_attempts} attempts; try again later`,
  );
}
