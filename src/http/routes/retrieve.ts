/** POST /retrieve and POST /retrieve/batch: translate, call the retriever, translate back. */
import type { FastifyReply } from 'fastify';
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
      const answer = await retriever.answer(
        toRequest(request.body, timeoutMs, 'online', rules, variantOf(request.headers)),
      );
      reply.header('server-timing', serverTiming(answer.timings));
      return written(reply, answerText(answer));
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
    async (request, reply) => {
      const bodies = request.body.requests;
      const variant = variantOf(request.headers);
      // The header is about the whole batch: what begins late has what the others left.
      const end = performance.now() + leftOf(request.headers);
      const responses = await mapLimited(bodies, BATCH_IN_FLIGHT, async (body, position) => {
        try {
          const timeoutMs = Math.min(timeoutOf(body.timeout_ms, NO_HEADERS, settings), end - performance.now());
          return answerText(await retriever.answer(toRequest(body, timeoutMs, 'batch', rules, variant)));
        } catch (thrown) {
          const error = asBelfryError(thrown);
          if (!isShown(error)) request.log.error({ err: thrown, position }, 'batched request failed');
          metrics.errors.inc({ code: error.code });
          return JSON.stringify({ error: envelope(error, request.id) });
        }
      });
      return written(reply, `{"responses":[${responses.join(',')}]}`);
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
  const { k, exact, recall, ef, filter, exclude, excludeSets, withMetadata, explain } = toShaping(body, timeoutMs);
  return {
    k,
    exact,
    recall,
    ef,
    filter,
    exclude,
    excludeSets,
    withMetadata,
    timeoutMs,
    explain,
    source: toSource(body),
    excludeSeen: body.exclude_seen ?? false,
    fresh: body.fresh,
    rerank: body.rerank ?? false,
    variant,
    context: body.context,
    candidates: body.candidates ?? LIMITS.candidates.default,
    strict: body.strict ?? false,
    priority,
    rules,
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
    recall: body.recall,
    ef: body.ef,
    filter: body.filter as FilterGroup | undefined,
    exclude: body.exclude ?? [],
    excludeSets: body.exclude_sets ?? [],
    withMetadata: body.with_metadata ?? [],
    timeoutMs,
    explain: body.explain ?? false,
  };
}

function toSource({ user_id: id, features, embedding: vector, item_ids: ids }: RetrieveBody): QuerySource {
  const count = [id, features, vector, ids].reduce<number>((sum, one) => sum + (one === undefined ? 0 : 1), 0);
  if (count === 1) {
    if (id !== undefined) return { kind: 'user', id };
    if (features !== undefined) return { kind: 'features', features };
    if (vector !== undefined) return { kind: 'embedding', vector };
    if (ids !== undefined) return { kind: 'items', ids };
  }
  throw new BelfryError(
    'BELFRY_INVALID_ARGUMENT',
    `body: expected exactly one of user_id, features, embedding, item_ids, received ${count === 0 ? 'none' : count}`,
  );
}

/** JSON that is written already goes out as it is; types of routes know only of what a serializer would write. */
function written<Answer>(reply: FastifyReply, json: string): Answer {
  reply.header('content-type', 'application/json; charset=utf-8');
  return json as unknown as Answer;
}

/** The JSON of an answer: by hand, because most of it is there as text already. Its shape is RetrieveAnswer of the schemas. */
function answerText(answer: RetrieveResponse): string {
  const { generation, models, degraded, returned, exposure, explain, timings } = answer;
  const items = answer.itemsJson ?? JSON.stringify(answer.items);
  const timings_ms = explain === undefined ? undefined : timings;
  const rest = { generation, models, degraded, returned, exposure, explain, timings_ms };
  return `{"items":${items},${JSON.stringify(rest).slice(1)}`;
}

export function serverTiming(timings: Timings): string {
  let text = '';
  for (const stage in timings) text += `${text === '' ? '' : ', '}${stage};dur=${timings[stage]}`;
  return text;
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
