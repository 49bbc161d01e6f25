/** The HTTP application: it never listens (server.ts does), so that tests can call it without a socket. */
import { randomUUID } from 'node:crypto';
import helmet from '@fastify/helmet';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import underPressure from '@fastify/under-pressure';
import Fastify, { type FastifyInstance, LogController } from 'fastify';
import { BelfryError } from '../errors.js';
import { installAccess } from './access.js';
import { SECURITY_SCHEMES } from './decisions.js';
import { answerBrokenClient, installErrorHandlers, sendError } from './errors.js';
import type { AppParts } from './parts.js';
import { adminRoutes } from './routes/admin.js';
import { benchReportRoutes } from './routes/bench-reports.js';
import { consoleRoutes } from './routes/console.js';
import { healthRoutes } from './routes/health.js';
import { itemRoutes } from './routes/items.js';
import { retrieveRoutes } from './routes/retrieve.js';
import { similarRoutes } from './routes/similar.js';

export async function buildApp(parts: AppParts): Promise<FastifyInstance> {
  const { settings, metrics } = parts;
  const app = Fastify({
    ...(parts.logger === undefined ? { logger: false } : { loggerInstance: parts.logger }),
    // A line a request would cost more than the search; metrics count requests, errors are logged.
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: settings.body_limit_bytes,
    requestTimeout: settings.request_timeout_ms,
    // Without these three a stalled upload lives for a minute: Node's own header limit is larger and checked seldom.
    http: {
      headersTimeout: Math.min(settings.request_timeout_ms, 5000),
      connectionsCheckingInterval: Math.max(100, Math.min(1000, settings.request_timeout_ms / 4)),
    },
    genReqId: () => randomUUID(),
    frameworkErrors: (error, request, reply) => sendError(error, request, reply, metrics),
    clientErrorHandler: (error, socket) => answerBrokenClient(error, socket, metrics),
    // Ajv's defaults turn null into 0 and drop unknown keys: a wrong vector would be served without an error.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
  });
  app.removeContentTypeParser('text/plain');
  installErrorHandlers(app, metrics);
  installAccess(app, parts);

  app.addHook('onRequest', async (request) => {
    if (request.headers['content-encoding'] !== undefined) {
      throw new BelfryError(
        'BELFRY_UNSUPPORTED_MEDIA_TYPE',
        `content-encoding: compressed bodies are not accepted, received ${JSON.stringify(request.headers['content-encoding'])}`,
        { field: 'content-encoding' },
      );
    }
  });
  app.addHook('onSend', async (request, reply) => {
    reply.header('x-request-id', request.id);
    if (parts.retriever.isDraining) reply.header('connection', 'close');
  });
  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'none';
    metrics.requestSeconds.observe({ route, status: String(reply.statusCode) }, reply.elapsedTime / 1000);
  });

  await app.register(underPressure, { maxEventLoopDelay: 1000, healthCheckInterval: 1000 });
  await app.register(helmet, {
    // The page and /docs load from here only; styles are set inline by both. Plain HTTP is legal on loopback.
    contentSecurityPolicy: {
      directives: {
        defaultSrc: ["'self'"],
        styleSrc: ["'self'", "'unsafe-inline'"],
        imgSrc: ["'self'", 'data:'],
        upgradeInsecureRequests: null,
      },
    },
    strictTransportSecurity: false,
  });
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
  await app.register(adminRoutes, parts);
  await app.register(consoleRoutes, parts);
  await app.register(benchReportRoutes, parts);
  return app;
}
