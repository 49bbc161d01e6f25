/** The page at /, its files, and the look-ups that only a page needs (what may I type?). */
import { fileURLToPath } from 'node:url';
import { existsSync } from 'node:fs';
import staticFiles from '@fastify/static';
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { Type } from 'typebox';
import { BelfryError } from '../../errors.js';
import type { AppParts } from '../parts.js';
import { ErrorAnswer } from '../schemas.js';

const SuggestQuery = Type.Object(
  { q: Type.String({ maxLength: 256 }), limit: Type.Optional(Type.String({ pattern: '^[0-9]{1,3}$' })) },
  { additionalProperties: false },
);
const SUGGESTIONS = { default: 12, max: 100 };

export const consoleRoutes: FastifyPluginAsyncTypebox<AppParts> = async (app, { retriever }) => {
  const web = webFolder();
  if (web !== undefined)
    await app.register(staticFiles, { root: web, prefix: '/', wildcard: false, acceptRanges: false });

  app.get('/console/info', { schema: { hide: true } }, async () => retriever.describe());

  for (const kind of ['items', 'users'] as const) {
    app.get(
      `/console/${kind}`,
      {
        schema: {
          hide: true,
          querystring: SuggestQuery,
          response: {
            200: Type.Object({ ids: Type.Array(Type.Union([Type.String(), Type.Integer()])) }),
            default: ErrorAnswer,
          },
        },
      },
      async (request) => {
        const limit = Number(request.query.limit ?? SUGGESTIONS.default);
        if (limit < 1 || limit > SUGGESTIONS.max) {
          throw new BelfryError(
            'BELFRY_INVALID_ARGUMENT',
            `limit: expected 1 to ${SUGGESTIONS.max}, received ${limit}`,
            { field: 'limit', limit: SUGGESTIONS.max },
          );
        }
        return { ids: await retriever.suggest(kind, request.query.q, limit) };
      },
    );
  }
};

/** Beside the compiled module; when a test runner executes the sources, the one in dist/. */
function webFolder(): string | undefined {
  return ['../../console/web/', '../../../dist/console/web/']
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(`${path}index.html`) && existsSync(`${path}main.js`));
}
