/** POST /similar/items and /similar/users: nearest neighbours inside one tower. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { BelfryError } from '../../errors.js';
import type { SimilarRequest, SimilarResponse } from '../../retrieval/request.js';
import type { Id } from '../../types.js';
import { timeoutOf } from '../request-deadline.js';
import type { AppParts } from '../parts.js';
import { ErrorAnswer, SimilarAnswer, SimilarItemsBody, SimilarUsersBody } from '../schemas.js';
import { serverTiming, toShaping } from './retrieve.js';

export const similarRoutes: FastifyPluginAsyncTypebox<AppParts> = async (app, { retriever, settings }) => {
  app.post(
    '/similar/items',
    {
      schema: {
        summary: 'Items like an item (cosine of item embeddings; L2 when that is the metric)',
        body: SimilarItemsBody,
        response: { 200: SimilarAnswer, default: ErrorAnswer },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const answer = await retriever.similarItems({
        ...toShaping(body, timeoutOf(body.timeout_ms, request.headers, settings)),
        source: toSource('item_id', body.item_id, body.embedding),
      });
      reply.header('server-timing', serverTiming(answer.timings));
      return toAnswer(answer);
    },
  );

  app.post(
    '/similar/users',
    {
      schema: {
        summary: 'Users like a user (cosine of user embeddings; L2 when that is the metric)',
        body: SimilarUsersBody,
        response: { 200: SimilarAnswer, default: ErrorAnswer },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const answer = await retriever.similarUsers({
        ...toShaping(body, timeoutOf(body.timeout_ms, request.headers, settings)),
        source: toSource('user_id', body.user_id, body.embedding),
      });
      reply.header('server-timing', serverTiming(answer.timings));
      return toAnswer(answer);
    },
  );
};

function toSource(name: string, id: Id | undefined, vector: number[] | undefined): SimilarRequest['source'] {
  if (id !== undefined && vector === undefined) return { kind: 'id', id };
  if (vector !== undefined && id === undefined) return { kind: 'embedding', vector };
  throw new BelfryError(
    'BELFRY_INVALID_ARGUMENT',
    `body: expected exactly one of ${name}, embedding, received ${id === undefined ? 'none' : 'both'}`,
  );
}

function toAnswer(answer: SimilarResponse) {
  const { timings, explain: explanation, ...rest } = answer;
  return {
    ...rest,
    items: [...rest.items],
    ...(explanation !== undefined ? { explain: { ...explanation }, timings_ms: { ...timings } } : {}),
  };
}
