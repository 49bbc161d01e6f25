/** A span for each request, where traces are on; spans of its stages come from the retriever. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { isTracing, ServerSpan } from '../telemetry/tracing.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Undefined where traces are off. */
    span?: ServerSpan | null;
  }
}

/** Nothing is added where traces are off. */
export function installTracing(app: FastifyInstance): void {
  if (!isTracing()) return;
  app.decorateRequest('span', null);
  app.addHook('onRequest', (request, _reply, done) => {
    const route = request.routeOptions.url ?? 'none';
    request.span =
      ServerSpan.start(`${request.method} ${route}`, request.headers, {
        'http.request.method': request.method,
        'http.route': route,
        'belfry.request_id': request.id,
      }) ?? null;
    done();
  });
  // Not earlier: reading the body comes back from the socket, and leaves whatever context was set before.
  app.addHook('preHandler', (request, _reply, done) => {
    if (request.span instanceof ServerSpan) request.span.run(done);
    else done();
  });
}

/** For the hooks that know when a request ends. */
export function endSpan(request: FastifyRequest, status: number): void {
  request.span?.end(status);
}
