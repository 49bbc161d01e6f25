/** Addresses in an object store: `s3://bucket/prefix`. They come from settings and the command line, never from a request. */
import { createHash } from 'node:crypto';
import { BelfryError } from '../errors.js';

const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$/;
const PREFIX_MAX = 512;

export interface ObjectAddress {
  readonly bucket: string;
  /** Without slashes at its ends; empty for the whole bucket. */
  readonly prefix: string;
}

export function isObjectAddress(text: string): boolean {
  return text.startsWith('s3://');
}

/** Error: BELFRY_CONFIG_INVALID. */
export function parseObjectAddress(text: string, field: string): ObjectAddress {
  const [, bucket = '', path = ''] = /^s3:\/\/([^/]*)(.*)$/s.exec(text) ?? [];
  const prefix = path.replace(/^\/+|\/+$/g, '');
  const isClean = prefix === '' || isPlainKey(prefix);
  if (!BUCKET.test(bucket) || bucket.includes('..') || !isClean || prefix.length > PREFIX_MAX) {
    throw new BelfryError('BELFRY_CONFIG_INVALID', `${field}: expected s3://bucket/prefix, received ${text}`, {
      field,
    });
  }
  return { bucket, prefix };
}

/** A key that can be a relative path: no empty, `.` or `..` step, no backslash, nothing that cannot be printed. */
export function isPlainKey(key: string): boolean {
  if (/[\x00-\x1f\x7f\\]/.test(key)) return false;
  return key.split('/').every((step) => step !== '' && step !== '.' && step !== '..' && Buffer.byteLength(step) <= 255);
}

export function showAddress({ bucket, prefix }: ObjectAddress): string {
  return prefix === '' ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
}

/** What a local folder of this address is called: its last step for people, a hash so that no two share one. */
export function folderNameOf(address: ObjectAddress): string {
  const last = (address.prefix.split('/').pop() || address.bucket).replace(/[^A-Za-z0-9._-]+/g, '-').slice(0, 40);
  return `${last}-${createHash('sha256').update(showAddress(address)).digest('hex').slice(0, 8)}`;
}
