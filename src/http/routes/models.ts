/** GET /models: the model registry, live. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { BelfryError } from '../../errors.js';
import type { AppParts } from '../parts.js';
import { ErrorAnswer } from '../schemas.js';

const strict = <T extends Parameters<typeof Type.Object>[0]>(properties: T) =>
  Type.Object(properties, { additionalProperties: false });

const ModelsAnswer = strict({
  generation: Type.String(),
  models: Type.Array(
    strict({
      model: Type.String(),
      name: Type.String(),
      version: Type.String(),
      format: Type.String(),
      bytes: Type.Integer(),
      stage: Type.String(),
      role: Type.String(),
      sha256: Type.String(),
      path: Type.String(),
      runs: Type.Enum(['in process', 'model server', 'not run']),
      server: Type.Optional(Type.String({ description: 'Name of the model server in the settings.' })),
      mlflow: Type.Optional(Type.String({ description: 'The version of the MLflow registry that it is.' })),
      share: Type.Optional(Type.Number({ description: 'Of the users whose requests are re-ranked.' })),
      state: Type.Optional(Type.String({ description: 'Of its circuit breaker: closed, open or half-open.' })),
      problem: Type.Optional(Type.String()),
      latency_ms: Type.Optional(
        strict({ p50: Type.Number(), p99: Type.Number(), runs: Type.Integer({ description: 'That this is of.' }) }),
      ),
    }),
  ),
});

export const modelRoutes: FastifyPluginAsyncTypebox<Pick<AppParts, 'retriever'>> = async (app, { retriever }) => {
  app.get(
    '/models',
    {
      schema: {
        summary: 'The models of the generation that serves, with the latency of their last runs in this process',
        response: { 200: ModelsAnswer, default: ErrorAnswer },
      },
    },
    async () => {
      const found = retriever.models();
      if (found === undefined) throw new BelfryError('BELFRY_NOT_READY', 'no generation is serving yet');
      return { generation: found.generation, models: [...found.models] };
    },
  );
};
