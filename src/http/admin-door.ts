/**
 * The second listener. It leads to the same application; what is for administrators is asked through it only. By default
 * it is on loopback, whatever address the first one has.
 */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { isLoopback } from '../config/addresses.js';
import type { Settings } from '../config/schema.js';
import { capConnections, explainListen, timeoutsOf } from './server.js';
import { secureOptions, type TlsFiles } from './tls.js';

export type AdminDoorSettings = Pick<
  Settings,
  'port' | 'admin' | 'admin_host' | 'admin_port' | 'request_timeout_ms' | 'max_connections'
>;

/** Far from the next ports, which other servers of the same machine have. */
const PORT_DISTANCE = 10_000;

export class AdminDoor {
  readonly #through = new WeakSet<IncomingMessage>();
  readonly #settings: AdminDoorSettings;
  readonly #tls: TlsFiles | undefined;
  /** Undefined before it listens. */
  #server: Server | undefined;
  #address = '';

  private constructor(settings: AdminDoorSettings, tls: TlsFiles | undefined) {
    this.#settings = settings;
    // A certificate is for the name of the service: on loopback it would only be wrong.
    this.#tls = isLoopback(settings.admin_host) ? undefined : tls;
  }

  /** Undefined where the settings ask for one listener. */
  static of(settings: AdminDoorSettings, tls?: TlsFiles): AdminDoor | undefined {
    const isOne = settings.admin_port === settings.port && settings.port !== 0;
    return settings.admin && !isOne ? new AdminDoor(settings, tls) : undefined;
  }

  /** `http://127.0.0.1:18080`, once it listens. */
  get address(): string {
    return this.#address;
  }

  /** What new certificates are set on. */
  get server(): Server | undefined {
    return this.#server;
  }

  isThrough(request: IncomingMessage): boolean {
    return this.#through.has(request);
  }

  /** Listens for an application that is ready. Errors: BELFRY_PORT_TAKEN for a port that was asked for, BELFRY_CONFIG_INVALID. */
  async listen(app: FastifyInstance): Promise<string> {
    const { admin_host: host, admin_port: port, max_connections } = this.#settings;
    const options = timeoutsOf(this.#settings);
    const handle = (request: IncomingMessage, response: Parameters<FastifyInstance['routing']>[1]) => {
      this.#through.add(request);
      app.routing(request, response);
    };
    const server =
      this.#tls === undefined
        ? createServer(options, handle)
        : createSecureServer({ ...options, ...secureOptions(this.#tls) }, handle);
    capConnections(server, max_connections);
    server.keepAliveTimeout = app.server.keepAliveTimeout;
    for (const listener of app.server.listeners('clientError')) server.on('clientError', listener as () => void);
    this.#server = server;
    for (const one of port === undefined ? [usualPort(this.#settings.port), 0] : [port]) {
      try {
        await listening(server, host, one);
        break;
      } catch (error) {
        const isTaken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
        if (one === 0 || port !== undefined || !isTaken)
          throw explainListen(error as NodeJS.ErrnoException, { host, port: one }, 'admin');
      }
    }
    const { port: actual } = server.address() as AddressInfo;
    this.#address = `${this.#tls === undefined ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${actual}`;
    return this.#address;
  }

  /** Requests under way are answered. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined || !server.listening) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeIdleConnections();
    });
  }
}

function usualPort(port: number): number {
  if (port === 0) return 0;
  return port + PORT_DISTANCE <= 65_535 ? port + PORT_DISTANCE : port - PORT_DISTANCE;
}

function listening(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(error);
    server.once('error', fail);
    server.listen(port, host, () => {
      server.off('error', fail);
      resolve();
    });
  });
}
