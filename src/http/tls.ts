/** Certificates: read and checked before anything listens, taken over while running when their files change. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { watchFiles } from '../access/watched-files.js';
import type { Settings } from '../config/schema.js';
import { asBelfryError, BelfryError } from '../errors.js';

export type TlsSettings = Pick<Settings, 'tls_cert' | 'tls_key' | 'tls_client_ca'>;

export interface TlsFiles {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
  readonly expires: Date;
}

/** What certificates are set on: a server, or two. */
interface SecureServer {
  setSecureContext(files: { cert: Buffer; key: Buffer; ca?: Buffer }): void;
}

/** Undefined where no certificate is set. Error: BELFRY_CONFIG_INVALID. */
export function readTls({ tls_cert, tls_key, tls_client_ca }: TlsSettings): TlsFiles | undefined {
  if (tls_cert === undefined && tls_key === undefined) {
    if (tls_client_ca !== undefined) throw refuse('tls_client_ca', 'goes with tls_cert and tls_key');
    return undefined;
  }
  if (tls_cert === undefined) throw refuse('tls_cert', 'goes with tls_key');
  if (tls_key === undefined) throw refuse('tls_key', 'goes with tls_cert');
  const cert = read('tls_cert', tls_cert);
  const key = read('tls_key', tls_key);
  const certificate = parsed('tls_cert', tls_cert, 'a certificate in PEM', () => new X509Certificate(cert));
  const own = parsed('tls_key', tls_key, 'a private key in PEM, without a password', () => createPrivateKey(key));
  if (!certificate.checkPrivateKey(own)) throw refuse('tls_key', `${tls_key}: is not the key of ${tls_cert}`);
  const expires = new Date(certificate.validTo);
  if (tls_client_ca === undefined) return { cert, key, expires };
  const ca = read('tls_client_ca', tls_client_ca);
  parsed('tls_client_ca', tls_client_ca, 'certificates in PEM', () => new X509Certificate(ca));
  return { cert, key, ca, expires };
}

/** Options of a listener; a client authority makes every client show a certificate. */
export function secureOptions({ cert, key, ca }: TlsFiles) {
  return { cert, key, minVersion: 'TLSv1.2' as const, ...(ca === undefined ? {} : { ca, requestCert: true }) };
}

/** Takes new files over for new connections. What cannot be used is told, and the old ones stay. */
export function followTls(
  settings: TlsSettings,
  servers: readonly SecureServer[],
  onReload: (outcome: { readonly expires: Date } | { readonly error: BelfryError }) => void,
  everyMs?: number,
): () => void {
  const paths = [settings.tls_cert, settings.tls_key, settings.tls_client_ca].filter((path) => path !== undefined);
  const reload = () => {
    try {
      const files = readTls(settings) as TlsFiles;
      for (const server of servers) server.setSecureContext(secureOptions(files));
      onReload({ expires: files.expires });
    } catch (thrown) {
      onReload({ error: asBelfryError(thrown, 'BELFRY_CONFIG_INVALID') });
    }
  };
  return watchFiles(paths, reload, everyMs);
}

function read(setting: keyof TlsSettings, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw refuse(setting, (error as Error).message, error);
  }
}

function parsed<T>(setting: keyof TlsSettings, path: string, what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw refuse(setting, `${path}: expected ${what} (${(error as Error).message})`, error);
  }
}

function refuse(setting: keyof TlsSettings, message: string, cause?: unknown): BelfryError {
  return new BelfryError('BELFRY_CONFIG_INVALID', `${setting}: ${message}`, { field: setting, cause });
}
