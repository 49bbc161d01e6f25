/** GET /healthz, /readyz, /metrics: for supervisors, load balancers and Prometheus. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { withoutFolders } from '../../config/secrets.js';
import type { AppParts } from '../parts.js';

export const healthRoutes: FastifyPluginAsyncTypebox<AppParts> = async (
  app,
  { retriever, upserts, metrics, rebuilder, workers },
) => {
  app.get('/healthz', { schema: { summary: 'The event loop is alive' }, logLevel: 'warn' }, async () => ({
    status: 'ok',
  }));

  app.get(
    '/readyz',
    { schema: { summary: 'A generation is loaded and answers' }, logLevel: 'warn' },
    async (_request, reply) => {
      const status = retriever.status();
      const build = rebuilder?.view();
      const problem = upserts?.problem;
      const answer = {
        ...status,
        ...(build === undefined ? {} : { build }),
        ...(workers === undefined ? {} : { workers: workers() }),
        ...(problem === undefined ? {} : { upsert_problem: { code: problem.code, message: problem.message } }),
      };
      return reply.code(status.ready ? 200 : 503).send(withoutFolders(answer)); // anybody may ask
    },
  );

  app.get('/metrics', { schema: { summary: 'Prometheus metrics' }, logLevel: 'warn' }, async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.textOfAll()),
  );
};
