/** Listens and stops; owns nothing of what is served. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Settings } from '../config/schema.js';
import { BelfryError } from '../errors.js';

/** What Node asks the system for. */
const NODE_BACKLOG = 511;

/** Listens and resolves to the address. Error: BELFRY_PORT_TAKEN, BELFRY_CONFIG_INVALID. */
export async function listen(
  app: FastifyInstance,
  settings: Pick<Settings, 'host' | 'port' | 'max_connections'>,
): Promise<string> {
  capConnections(app.server, settings.max_connections);
  try {
    await app.listen({ host: settings.host, port: settings.port, backlog: backlogOf(settings) });
  } catch (error) {
    throw explainListen(error as NodeJS.ErrnoException, settings, 'public');
  }
  const { port } = app.server.address() as AddressInfo;
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  return `${'setSecureContext' in app.server ? 'https' : 'http'}://${host}:${port}`;
}

/**
 * Room for all that may be open: with Node's default, connections of a burst that come during a long turn are dropped, and
 * tried again after 1, 3 and 7 s. The system has a limit of its own (on Linux net.core.somaxconn, 4096).
 */
export function backlogOf({ max_connections }: Pick<Settings, 'max_connections'>): number {
  return Math.max(NODE_BACKLOG, max_connections);
}

/**
 * Closes what comes beyond. Node's own `maxConnections` refuses it in a worker, and the primary offers it to the workers again and
 * again, until one has room.
 */
export function capConnections(server: Server, most: number): void {
  let open = 0;
  server.on('connection', (socket: Socket) => {
    socket.once('close', () => open--);
    if (++open > most) socket.destroy();
  });
}

/** Often, so that each look finds few that are late; it costs a walk over the unfinished requests, in C++. */
const CHECK_MS = 100;

/** Without these a stalled upload lives for a minute: Node's own header limit is larger and checked seldom. */
export function timeoutsOf({ request_timeout_ms }: Pick<Settings, 'request_timeout_ms'>) {
  return {
    requestTimeout: request_timeout_ms,
    headersTimeout: Math.min(request_timeout_ms, 5000),
    connectionsCheckingInterval: CHECK_MS,
  };
}

/** Says that a port is taken before the work of a build, not after it. Errors: as listen(). */
export async function assertPortFree(
  settings: Pick<Settings, 'host' | 'port'>,
  which: 'public' | 'admin' = 'public',
): Promise<void> {
  if (settings.port === 0) return;
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', (error) => reject(explainListen(error, settings, which)));
    probe.listen(settings.port, settings.host, () => probe.close(() => resolve()));
  });
}

/** `which` of the two listeners it is: that for requests, or that for administrators. */
export function explainListen(
  error: NodeJS.ErrnoException,
  { host, port }: Pick<Settings, 'host' | 'port'>,
  which: 'public' | 'admin',
): Error {
  const [hostField, portField] = which === 'public' ? ['host', 'port'] : ['admin_host', 'admin_port'];
  const flag = `--${portField.replace('_', '-')}`;
  if (error.code === 'EADDRINUSE') {
    const other = which === 'public' ? `, or PORT=${port + 1}` : '';
    return new BelfryError(
      'BELFRY_PORT_TAKEN',
      `port ${port} on ${host} is taken by another program; choose one with ${flag} ${port + 1}${other}`,
      { field: portField, cause: error },
    );
  }
  if (error.code === 'EACCES') {
    return new BelfryError(
      'BELFRY_CONFIG_INVALID',
      `${portField} ${port}: this user may not listen below 1024; choose one with ${flag} ${which === 'public' ? 8080 : 18080}`,
      { field: portField, cause: error },
    );
  }
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND') {
    return new BelfryError(
      'BELFRY_CONFIG_INVALID',
      `${hostField} ${host}: not an address of this machine; use 127.0.0.1 or 0.0.0.0`,
      { field: hostField, cause: error },
    );
  }
  return error;
}
