/** What happens around every request. Callbacks, not promises: /retrieve is so short that each promise can be measured. */
import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { BelfryError } from '../errors.js';
import type { AppParts } from './parts.js';
import { endSpan } from './request-trace.js';

/** In metrics and traces, as in the logs of other servers: the client closed the connection before the answer was out. */
const CLIENT_CLOSED = 499;

/** To be called before any other hook is added. `headers`, with names in lower case, are of every answer; a route may set its own instead. */
export function installRequestHooks(
  app: FastifyInstance,
  { retriever, metrics }: Pick<AppParts, 'retriever' | 'metrics'>,
  headers: Readonly<Record<string, string>>,
): void {
  const end = (request: FastifyRequest, reply: FastifyReply, status: number): void => {
    metrics.searches.inFlight--;
    const route = request.routeOptions.url ?? 'none';
    metrics.requestSeconds.observe(reply.elapsedTime / 1000, route, String(status));
    endSpan(request, status);
  };
  // No onResponse comes where the socket closes first. Heard of the socket, because an answer that waits behind others
  // hears nothing itself; and one listener serves all requests of a connection.
  const unanswered = new WeakMap<Socket, Map<FastifyReply, FastifyRequest>>();
  const unansweredOn = (socket: Socket): Map<FastifyReply, FastifyRequest> => {
    const known = unanswered.get(socket);
    if (known !== undefined) return known;
    const requests = new Map<FastifyReply, FastifyRequest>();
    unanswered.set(socket, requests);
    socket.once('close', () => {
      for (const [reply, request] of requests) end(request, reply, CLIENT_CLOSED);
      requests.clear();
    });
    return requests;
  };
  app.addHook('onRequest', (request, reply, done) => {
    metrics.searches.inFlight++;
    unansweredOn(request.raw.socket).set(reply, request);
    reply.headers(headers);
    const encoding = request.headers['content-encoding'];
    if (encoding === undefined) return done();
    done(
      new BelfryError(
        'BELFRY_UNSUPPORTED_MEDIA_TYPE',
        `content-encoding: compressed bodies are not accepted, received ${JSON.stringify(encoding)}`,
        { field: 'content-encoding' },
      ),
    );
  });
  app.addHook('onSend', (request, reply, _payload, done) => {
    reply.header('x-request-id', request.id);
    if (retriever.isDraining) reply.header('connection', 'close');
    done();
  });
  app.addHook('onResponse', (request, reply, done) => {
    if (unanswered.get(request.raw.socket)?.delete(reply) === true) end(request, reply, reply.statusCode);
    done();
  });
}
