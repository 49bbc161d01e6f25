/** What stands between a server and its callers: keys, certificates, the administrators' listener; and what is said about them. */
import cluster from 'node:cluster';
import { join } from 'node:path';
import { Server as SecureServer } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { KeyRing } from '../access/key-ring.js';
import { isLoopback } from '../config/addresses.js';
import type { Settings } from '../config/schema.js';
import { BelfryError } from '../errors.js';
import { AdminDoor } from '../http/admin-door.js';
import { followTls, readTls, type TlsFiles } from '../http/tls.js';
import { assertPortFree } from '../http/server.js';

export class ServerAccess {
  #stopTls: (() => void) | undefined;

  private constructor(
    private readonly settings: Settings,
    readonly keys: KeyRing | undefined,
    readonly tls: TlsFiles | undefined,
    readonly adminDoor: AdminDoor | undefined,
  ) {}

  /**
   * To be called before the work of a build. Errors: BELFRY_KEYS_INVALID, BELFRY_CONFIG_INVALID for certificates, and for
   * an address that other machines reach without any key; BELFRY_PORT_TAKEN; those of KeyUsage.open. `data` is the data folder.
   */
  static async open(settings: Settings, data: string, logger: Logger): Promise<ServerAccess> {
    assertClosed(settings);
    const tls = readTls(settings);
    const door = AdminDoor.of(settings, tls);
    const { admin_host: host, admin_port: port } = settings;
    // The port of a worker is shared by all of them.
    if (door !== undefined && port !== undefined && !cluster.isWorker) await assertPortFree({ host, port }, 'admin');
    const keys =
      settings.keys === undefined
        ? undefined
        : KeyRing.open(settings.keys, {
            usage: join(data, 'key-usage'),
            onReload: (outcome) => {
              if ('error' in outcome)
                logger.error(
                  { err: outcome.error.message },
                  'the changed keys file is not in use; the keys before are',
                );
              else logger.info(outcome, 'keys file read again');
            },
          });
    for (const { message } of accessFindings(settings, tls)) logger.warn(message);
    return new ServerAccess(settings, keys, tls, door);
  }

  /** Listens for administrators, and follows the certificates. Resolves to the address, where there is one. */
  async start(app: FastifyInstance, logger: Logger): Promise<string | undefined> {
    await app.ready();
    const address = await this.adminDoor?.listen(app);
    if (this.tls !== undefined) {
      const servers = [app.server, this.adminDoor?.server].filter((server) => server instanceof SecureServer);
      this.#stopTls = followTls(this.settings, servers, (outcome) => {
        if ('error' in outcome)
          logger.error({ err: outcome.error.message }, 'the changed certificate is not in use; the one before is');
        else logger.info(outcome, 'certificate read again');
      });
    }
    return address;
  }

  close(): void {
    this.#stopTls?.();
    this.keys?.close();
  }
}

/** What `belfry doctor` and the log of a server warn of. */
export function accessFindings(settings: Settings, tls: TlsFiles | undefined): { readonly message: string }[] {
  const found: string[] = [];
  const { host, admin_host, keys, admin_key, open_access } = settings;
  const isOpen = [host, ...(settings.admin ? [admin_host] : [])].some((one) => !isLoopback(one));
  if (isOpen && keys === undefined && open_access)
    found.push(
      'open_access: everybody who reaches this server may retrieve, and read what it answers; belfry keys add makes a key, the setting keys asks for it',
    );
  if (isOpen && tls === undefined)
    found.push(
      'no TLS: keys and answers cross the network in clear; set tls_cert and tls_key, or put a proxy before it',
    );
  if (tls !== undefined) {
    const days = (tls.expires.getTime() - Date.now()) / 86_400_000;
    if (days < 0) found.push(`tls_cert: expired on ${tls.expires.toISOString()}; clients will refuse it`);
    else if (days < 14) found.push(`tls_cert: expires on ${tls.expires.toISOString()}`);
  }
  if (admin_key !== undefined && keys !== undefined)
    found.push('admin_key: has every scope and never expires; replace it by belfry keys add --scopes admin');
  if (keys !== undefined) found.push(...keysFindings(keys));
  return found.map((message) => ({ message }));
}

/** For `belfry doctor`: what is open, with its cure. Errors: as open(). */
export function accessState(settings: Settings): string | readonly ['warning', string] {
  assertClosed(settings);
  const found = accessFindings(settings, readTls(settings));
  if (found.length > 0) return ['warning', found.map(({ message }) => message).join('; ')];
  const who = settings.keys === undefined ? 'this machine only, without keys' : `keys of ${settings.keys}`;
  return `${who}, ${settings.tls_cert === undefined ? 'plain HTTP' : 'TLS'}`;
}

function keysFindings(path: string): string[] {
  const ring = KeyRing.open(path);
  ring.close();
  const permission = ring.permissionProblem();
  return [
    ...(permission === undefined ? [] : [permission]),
    ...(ring.size === 0 ? [`${path}: holds no key, so that every request is refused; belfry keys add`] : []),
  ];
}

/** Secure by default: who wants a server for everybody says so. */
function assertClosed({ host, admin, admin_host, keys, admin_key, open_access }: Settings): void {
  if (keys !== undefined || open_access) return;
  const open = isLoopback(host) ? (admin && !isLoopback(admin_host) ? 'admin_host' : undefined) : 'host';
  if (open === undefined || (open === 'admin_host' && admin_key !== undefined)) return;
  throw new BelfryError(
    'BELFRY_CONFIG_INVALID',
    `${open}: other machines reach ${open === 'host' ? host : admin_host} and nothing asks them for a key; make keys (belfry keys add --keys keys.json --name app --scopes retrieve) and serve with --keys keys.json, or let everybody retrieve with --open-access (open_access: true)`,
    { field: open },
  );
}
