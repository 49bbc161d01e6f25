/**
 * Accepts several connections in a turn of the event loop. Node accepts one (libuv since 1.45): where turns take 15 ms, 66 new
 * clients a second get in, and the others wait for seconds with what they ask, beside some that are answered in milliseconds.
 * Each further handle on the same listening socket takes one more.
 */
import cluster from 'node:cluster';
import { createServer, type Server } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { loadAddon } from '../ann/addon.js';

/** A connection costs the event loop 0.1 ms, so that a turn grows by 1.5 ms at most. */
const ACCEPTS = 16;

/** Node's own handle of a server that listens. */
interface ListeningHandle {
  readonly fd?: number;
  onconnection?(error: number, client: unknown): void;
}

const handleOf = (server: Server) => (server as unknown as { _handle: ListeningHandle | null })._handle;

/** From the moment at which the application listens until it stops. Each handle asks for `backlog` anew, for all of them. */
export function acceptMore(app: FastifyInstance, backlog: number): void {
  const helpers: Server[] = [];
  app.addHook('onListen', (done) => {
    const main = handleOf(app.server);
    if (cluster.isWorker) return done(); // the primary accepts, and has nothing else to do
    if (main === null || main.fd === undefined || main.fd < 0 || main.onconnection === undefined) return done();
    while (helpers.length < ACCEPTS - 1) {
      const fd = loadAddon().duplicateDescriptor(main.fd);
      if (fd < 0) break; // one a turn is what Node does
      const helper = createServer().listen({ fd }, backlog);
      // To the server it is a connection like any other: it counts it, and gives it its options.
      handleOf(helper)!.onconnection = (error, client) => main.onconnection!(error, client);
      helpers.push(helper);
    }
    done();
  });
  app.addHook('preClose', (done) => {
    for (const helper of helpers.splice(0)) helper.close();
    done();
  });
}
