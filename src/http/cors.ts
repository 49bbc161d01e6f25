/** Which web pages may call from a browser: those of the setting `cors_origins`, and none may administer. */
import type { FastifyCorsOptionsDelegate } from '@fastify/cors';

const PREFLIGHT_SECONDS = 600;

/** Exact origins, no wildcard, no cookies: Belfry has none. */
export function corsOf(origins: readonly string[]): FastifyCorsOptionsDelegate {
  const allowed = {
    origin: [...origins],
    methods: ['GET', 'POST', 'PUT', 'DELETE'],
    allowedHeaders: ['authorization', 'x-api-key', 'content-type', 'x-deadline-ms'],
    exposedHeaders: ['x-request-id', 'server-timing', 'retry-after'],
    maxAge: PREFLIGHT_SECONDS,
  };
  return (request, done) => {
    done(null, request.url.startsWith('/admin/') ? { origin: false } : allowed);
  };
}
