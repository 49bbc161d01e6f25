/** Listens and stops; owns nothing of what is served. */
import { type AddressInfo, createServer } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Settings } from '../config/schema.js';
import { BelfryError } from '../errors.js';

/** Listens and resolves to the address. Error: BELFRY_PORT_TAKEN, BELFRY_CONFIG_INVALID. */
export async function listen(
  app: FastifyInstance,
  settings: Pick<Settings, 'host' | 'port' | 'max_connections'>,
): Promise<string> {
  app.server.maxConnections = settings.max_connections;
  try {
    await app.listen({ host: settings.host, port: settings.port });
  } catch (error) {
    throw explainListen(error as NodeJS.ErrnoException, settings);
  }
  const { port } = app.server.address() as AddressInfo;
  const host = settings.host.includes(':') ? `[${settings.host}]` : settings.host;
  return `http://${host}:${port}`;
}

/** Says that a port is taken before the work of a build, not after it. Errors: as listen(). */
export async function assertPortFree(settings: Pick<Settings, 'host' | 'port'>): Promise<void> {
  if (settings.port === 0) return;
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', (error) => reject(explainListen(error, settings)));
    probe.listen(settings.port, settings.host, () => probe.close(() => resolve()));
  });
}

function explainListen(error: NodeJS.ErrnoException, { host, port }: Pick<Settings, 'host' | 'port'>): Error {
  if (error.code === 'EADDRINUSE') {
    return new BelfryError(
      'BELFRY_PORT_TAKEN',
      `port ${port} on ${host} is taken by another program; choose one with --port ${port + 1}, or PORT=${port + 1}`,
      {
        field: 'port',
        cause: error,
      },
    );
  }
  if (error.code === 'EACCES') {
    return new BelfryError(
      'BELFRY_CONFIG_INVALID',
      `port ${port}: this user may not listen below 1024; choose one with --port 8080`,
      { field: 'port', cause: error },
    );
  }
  if (error.code === 'EADDRNOTAVAIL' || error.code === 'ENOTFOUND') {
    return new BelfryError(
      'BELFRY_CONFIG_INVALID',
      `host ${host}: not an address of this machine; use 127.0.0.1 or 0.0.0.0`,
      { field: 'host', cause: error },
    );
  }
  return error;
}
