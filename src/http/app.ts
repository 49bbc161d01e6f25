/** The HTTP application: it never listens (server.ts does), so that tests can call it without a socket. */
import cors from '@fastify/cors';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import underPressure from '@fastify/under-pressure';
import Fastify, { type FastifyInstance, LogController } from 'fastify';
import { LIMITS } from '../config/schema.js';
import { installAccess } from './access.js';
import { corsOf } from './cors.js';
import { SECURITY_SCHEMES } from './decisions.js';
import { answerBrokenClient, installErrorHandlers, sendError } from './errors.js';
import type { AppParts } from './parts.js';
import { installRequestHooks } from './request-hooks.js';
import { installRequestLog, requestIdOf } from './request-log.js';
import { installTracing } from './request-trace.js';
import { adminRoutes } from './routes/admin.js';
import { benchReportRoutes } from './routes/bench-reports.js';
import { consoleRoutes } from './routes/console.js';
import { healthRoutes } from './routes/health.js';
import { modelRoutes } from './routes/models.js';
import { itemRoutes } from './routes/items.js';
import { retrieveRoutes } from './routes/retrieve.js';
import { similarRoutes } from './routes/similar.js';
import { acceptMore } from './accept-more.js';
import { pressureLimits } from './pressure.js';
import { securityHeaders } from './security-headers.js';
import { shedEarly } from './shed-early.js';
import { backlogOf, timeoutsOf } from './server.js';
import { secureOptions } from './tls.js';

/** Of one character in an address: up to four, each as %xx. */
const ENCODED_BYTES = 12;

export async function buildApp(parts: AppParts): Promise<FastifyInstance> {
  const { settings, metrics, tls } = parts;
  const headers = await securityHeaders({ isTls: tls !== undefined });
  const app = Fastify({
    ...(parts.logger === undefined ? { logger: false } : { loggerInstance: parts.logger }),
    // A line a request would cost more than the search; metrics count requests, errors are logged.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: settings.body_limit_bytes,
    requestTimeout: settings.request_timeout_ms,
    ...(tls === undefined
      ? { http: timeoutsOf(settings) }
      : { https: { ...timeoutsOf(settings), ...secureOptions(tls) } }),
    genReqId: ({ headers }) => requestIdOf(headers),
    // Ids stand in addresses; the schema counts their characters, the router their encoded bytes.
    routerOptions: { maxParamLength: LIMITS.idLength.max * ENCODED_BYTES },
    // No hook runs before these.
    frameworkErrors: (error, request, reply) => sendError(error, request, reply.headers(headers), metrics),
    clientErrorHandler: (error, socket) => answerBrokenClient(error, socket, metrics),
    // Ajv's defaults turn null into 0 and drop unknown keys: a wrong vector would be served without an error.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
  });
  app.removeContentTypeParser('text/plain');
  installErrorHandlers(app, metrics);
  installRequestHooks(app, parts, headers);
  installAccess(app, parts);

  installRequestLog(app, settings);
  installTracing(app);

  await app.register(underPressure, pressureLimits(settings));
  shedEarly(app, settings.timeout_ms, metrics);
  acceptMore(app, backlogOf(settings));
  if (settings.cors_origins.length > 0) await app.register(cors, { delegator: corsOf(settings.cors_origins) });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Belfry',
        version: parts.version,
        description: 'Candidate retrieval for two-tower recommenders: top-k items for a user, optionally re-ranked.',
      },
      components: { securitySchemes: SECURITY_SCHEMES },
    },
  });
  await app.register(swaggerUi, { routePrefix: '/docs' });
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());

  await app.register(retrieveRoutes, parts);
  await app.register(similarRoutes, parts);
  if (parts.upserts !== undefined) await app.register(itemRoutes, { upserts: parts.upserts });
  await app.register(healthRoutes, parts);
  await app.register(modelRoutes, parts);
  await app.register(adminRoutes, parts);
  await app.register(consoleRoutes, parts);
  await app.register(benchReportRoutes, parts);
  return app;
}
