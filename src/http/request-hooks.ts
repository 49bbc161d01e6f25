/** What happens around every request. Callbacks, not promises: /retrieve is so short that each promise can be measured. */
import type { FastifyInstance } from 'fastify';
import { BelfryError } from '../errors.js';
import type { AppParts } from './parts.js';

/** `headers`, with names in lower case, are of every answer; a route may set its own instead. */
export function installRequestHooks(
  app: FastifyInstance,
  { retriever, metrics }: Pick<AppParts, 'retriever' | 'metrics'>,
  headers: Readonly<Record<string, string>>,
): void {
  app.addHook('onRequest', (request, reply, done) => {
    metrics.searches.inFlight++;
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
    metrics.searches.inFlight--;
    const route = request.routeOptions.url ?? 'none';
    metrics.requestSeconds.observe({ route, status: String(reply.statusCode) }, reply.elapsedTime / 1000);
    done();
  });
}
