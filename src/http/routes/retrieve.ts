/** POST /retrieve and POST /retrieve/batch: translate, call the retriever, translate back. */
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox';
import { LIMITS } from '../../config/schema.js';
import { asBelfryError, BelfryError } from '../../errors.js';
import type { FilterGroup } from '../../features/filter.js';
import { NamedRules } from '../../retrieval/arrange/rules.js';
import type { QuerySource, RetrieveRequest, RetrieveResponse, Shaping, Timings } from '../../retrieval/request.js';
import { leftOf, timeoutOf } from '../request-deadline.js';
import type { AppParts } from '../parts.js';
import { envelope, isShown } from '../errors.js';
import { BatchAnswer, BatchBody, ErrorAnswer, RetrieveAnswer, RetrieveBody, VariantHeaders } from '../schemas.js';

/** Requests of a batch that run at once: enough to keep the search threads and the model batches full. */
const BATCH_IN_FLIGHT = 16;
const NO_HEADERS = {};

export const retrieveRoutes: FastifyPluginAsyncTypebox<AppParts> = async (app, { retriever, settings, metrics }) => {
  const rules = new NamedRules(settings.rules);
  app.post(
    '/retrieve',
    {
      schema: {
        summary: 'Top-k items for a user',
        body: RetrieveBody,
        headers: VariantHeaders,
        response: { 200: RetrieveAnswer, default: ErrorAnswer },
      },
    },
    async (request, reply) => {
      const timeoutMs = timeoutOf(request.body.timeout_ms, request.headers, settings);
      const answer = await retriever.retrieve(
        toRequest(request.body, timeoutMs, 'online', rules, variantOf(request.headers)),
      );
      reply.header('server-timing', serverTiming(answer.timings));
      return toAnswer(answer);
    },
  );

  app.post(
    '/retrieve/batch',
    {
      schema: {
        summary: 'Many requests in one call; each is answered, or has its own error',
        body: BatchBody,
        headers: VariantHeaders,
        response: { 200: BatchAnswer, default: ErrorAnswer },
      },
    },
    async (request) => {
      const bodies = request.body.requests;
      const variant = variantOf(request.headers);
      // The header is about the whole batch: what begins late has what the others left.
      const end = performance.now() + leftOf(request.headers);
      const responses = await mapLimited(bodies, BATCH_IN_FLIGHT, async (body, position) => {
        try {
          const timeoutMs = Math.min(timeoutOf(body.timeout_ms, NO_HEADERS, settings), end - performance.now());
          return toAnswer(await retriever.retrieve(toRequest(body, timeoutMs, 'batch', rules, variant)));
        } catch (thrown) {
          const error = asBelfryError(thrown);
          if (!isShown(error)) request.log.error({ err: thrown, position }, 'batched request failed');
          metrics.errors.inc({ code: error.code });
          return { error: envelope(error, request.id) };
        }
      });
      return { responses };
    },
  );
};

function toRequest(
  body: RetrieveBody,
  timeoutMs: number,
  priority: RetrieveRequest['priority'],
  named: NamedRules,
  variant: string | undefined,
): RetrieveRequest {
  const rules = named.of(body);
  return {
    ...toShaping(body, timeoutMs),
    source: toSource(body),
    excludeSeen: body.exclude_seen ?? false,
    ...(body.fresh === undefined ? {} : { fresh: body.fresh }),
    rerank: body.rerank ?? false,
    ...(variant === undefined ? {} : { variant }),
    ...(body.context === undefined ? {} : { context: body.context }),
    candidates: body.candidates ?? LIMITS.candidates.default,
    strict: body.strict ?? false,
    priority,
    ...(rules === undefined ? {} : { rules }),
  };
}

function variantOf(headers: Readonly<Record<string, unknown>>): string | undefined {
  return headers['x-belfry-variant'] as string | undefined;
}

export function toShaping(
  body: Pick<
    RetrieveBody,
    'k' | 'exact' | 'recall' | 'ef' | 'filter' | 'exclude' | 'exclude_sets' | 'with_metadata' | 'explain'
  >,
  timeoutMs: number,
): Shaping {
  return {
    k: body.k ?? LIMITS.k.default,
    exact: body.exact === true,
    ...(body.recall === undefined ? {} : { recall: body.recall }),
    ...(body.ef === undefined ? {} : { ef: body.ef }),
    ...(body.filter === undefined ? {} : { filter: body.filter as FilterGroup }),
    exclude: body.exclude ?? [],
    excludeSets: body.exclude_sets ?? [],
    withMetadata: body.with_metadata ?? [],
    timeoutMs,
    explain: body.explain ?? false,
  };
}

function toSource(body: RetrieveBody): QuerySource {
  const sources: QuerySource[] = [];
  if (body.user_id !== undefined) sources.push({ kind: 'user', id: body.user_id });
  if (body.features !== undefined) sources.push({ kind: 'features', features: body.features });
  if (body.embedding !== undefined) sources.push({ kind: 'embedding', vector: body.embedding });
  if (body.item_ids !== undefined) sources.push({ kind: 'items', ids: body.item_ids });
  const [source] = sources;
  if (source === undefined || sources.length > 1) {
    throw new BelfryError(
      'BELFRY_INVALID_ARGUMENT',
      `body: expected exactly one of user_id, features, embedding, item_ids, received ${sources.length === 0 ? 'none' : sources.length}`,
    );
  }
  return source;
}

function toAnswer(answer: RetrieveResponse) {
  const { timings, explain: explanation, ...rest } = answer;
  return {
    ...rest,
    items: [...rest.items],
    degraded: [...rest.degraded],
    ...(explanation !== undefined ? { explain: { ...explanation }, timings_ms: { ...timings } } : {}),
  };
}

export function serverTiming(timings: Timings): string {
  return Object.entries(timings)
    .map(([stage, ms]) => `${stage};dur=${ms}`)
    .join(', ');
}

async function mapLimited<T, R>(
  list: readonly T[],
  limit: number,
  work: (one: T, position: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(list.length);
  let next = 0;
  const lane = async () => {
    while (next < list.length) {
      const position = next++;
      results[position] = await work(list[position] as T, position);
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, list.length) }, lane));
  return results;
}
