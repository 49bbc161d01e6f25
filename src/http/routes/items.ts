/** PUT and DELETE /items/{id}: changes of items between rebuilds. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import type { ItemUpserts } from '../../upserts/item-upserts.js';
import { ErrorAnswer, ItemAnswer, ItemBody, ItemPath } from '../schemas.js';

export const itemRoutes: FastifyPluginAsyncTypebox<{ upserts: ItemUpserts }> = async (app, { upserts }) => {
  app.put(
    '/items/:id',
    {
      schema: {
        summary: 'Put an item: new, or in place of the one with this id',
        params: ItemPath,
        body: ItemBody,
        response: { 200: ItemAnswer, 201: ItemAnswer, default: ErrorAnswer },
      },
    },
    async (request, reply) => {
      const { id, generation, created } = await upserts.put(request.params.id, request.body);
      return reply.code(created ? 201 : 200).send({ id, result: created ? 'created' : 'replaced', generation });
    },
  );

  app.delete(
    '/items/:id',
    {
      schema: {
        summary: 'Take an item away: no request is answered with it any more',
        params: ItemPath,
        response: { 200: ItemAnswer, default: ErrorAnswer },
      },
    },
    async (request) => {
      const { id, generation } = await upserts.delete(request.params.id);
      return { id, result: 'deleted' as const, generation };
    },
  );
};
