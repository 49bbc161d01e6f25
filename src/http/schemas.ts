/** The HTTP contract: one TypeBox schema per body and answer gives validation, types and the OpenAPI document. */
import { type Static, type TProperties, Type } from 'typebox';
import { ANN_BOUNDS } from '../ann/params.js';
import { RuleFields } from '../config/rules.js';
import { LIMITS } from '../config/schema.js';

const strict = <T extends TProperties>(properties: T, options: Record<string, unknown> = {}) =>
  Type.Object(properties, { additionalProperties: false, ...options });

const ID_DESCRIPTION = 'A string, or an integer up to 2^53.';
const Id = Type.Union(
  [
    Type.String({ minLength: 1, maxLength: LIMITS.idLength.max }),
    Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  ],
  { description: ID_DESCRIPTION },
);
const Scalar = Type.Union([Type.String({ maxLength: 1024 }), Type.Number(), Type.Boolean()]);
const K = Type.Integer({
  minimum: LIMITS.k.min,
  maximum: LIMITS.k.max,
  description: `How many items to answer; default ${LIMITS.k.default}.`,
});
const Embedding = Type.Array(Type.Number(), {
  minItems: 1,
  maxItems: LIMITS.dims.max,
  description: 'Query vector in the space of the item embeddings.',
});

/**
 * Groups nest, so the clauses are checked by retrieval/filter.ts, in one walk that also counts clauses and depth; the
 * schema only says that each is an object.
 */
const Clauses = Type.Array(Type.Object({}, { additionalProperties: true }), { maxItems: LIMITS.filterClauses.max });
const Filter = strict(
  { must: Type.Optional(Clauses), must_not: Type.Optional(Clauses), should: Type.Optional(Clauses) },
  {
    description:
      'Only matching items are answered: all of `must`, none of `must_not`, at least one of `should`. A clause is ' +
      '{"field" (a column of features/items.parquet, or id), and one or more of "eq", "in", "all", "lt", "lte", "gt", "gte", "exists"} or a nested group.',
  },
);

const FeatureInput = Type.Union([
  Scalar,
  Type.Null(),
  Type.Array(Type.Union([Type.String({ maxLength: 1024 }), Type.Number()]), { maxItems: 10_000 }),
]);
const FeaturesInput = Type.Record(Type.String({ maxLength: 256 }), FeatureInput, {
  maxProperties: 1024,
  description: 'User features by column name; the user tower computes a fresh query embedding from them.',
});

const Shaping = {
  k: Type.Optional(K),
  filter: Type.Optional(Filter),
  exclude: Type.Optional(
    Type.Array(Id, { maxItems: LIMITS.excludeIds.max, description: 'Item ids that are never answered.' }),
  ),
  exclude_sets: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 64 }), {
      maxItems: LIMITS.excludeSets.max,
      description:
        'Named lists of items that are never answered: files of exclusions/ in the models folder. A set by user needs user_id.',
    }),
  ),
  with_metadata: Type.Optional(
    Type.Array(Type.String({ minLength: 1, maxLength: 256 }), {
      maxItems: 64,
      description: 'Item columns to answer with each item.',
    }),
  ),
  exact: Type.Optional(Type.Boolean({ description: 'Search with a proof of exactness.' })),
  recall: Type.Optional(
    Type.Number({
      minimum: 0.5,
      maximum: 1,
      description: `Least recall@k, met by the cheapest calibrated search; default ${ANN_BOUNDS.recall.default}. 1 is the same as exact.`,
    }),
  ),
  ef: Type.Optional(
    Type.Integer({
      minimum: LIMITS.ef.min,
      maximum: LIMITS.ef.max,
      description: 'Effort of a graph search (rows kept while walking), instead of a recall.',
    }),
  ),
  timeout_ms: Type.Optional(
    Type.Integer({
      minimum: LIMITS.timeoutMs.min,
      maximum: LIMITS.timeoutMs.max,
      description: 'Deadline of this request.',
    }),
  ),
  explain: Type.Optional(Type.Boolean({ description: 'Answer how the items were found, and the stage timings.' })),
};

export const RetrieveBody = strict(
  {
    user_id: Type.Optional(Id),
    features: Type.Optional(FeaturesInput),
    embedding: Type.Optional(Embedding),
    item_ids: Type.Optional(
      Type.Array(Id, {
        minItems: 1,
        maxItems: LIMITS.queryItems.max,
        description: 'The mean of these items is the query.',
      }),
    ),
    ...Shaping,
    exclude_seen: Type.Optional(
      Type.Boolean({
        description:
          'Leave out what the user has: the column `seen`, else `history`, and the exclusion set `seen` where there is one.',
      }),
    ),
    fresh: Type.Optional(
      Type.Boolean({
        description:
          'With user_id: the user tower computes the query from what is known of the user now (feature stores, then the table), instead of the stored vector.',
      }),
    ),
    rerank: Type.Optional(
      Type.Union([Type.Boolean(), Type.String({ minLength: 1, maxLength: 128 })], {
        description:
          'true: re-rank with what the traffic policy gives this user (the reranker in production, or one under test). A name, or name@version: with that one.',
      }),
    ),
    context: Type.Optional(
      Type.Record(Type.String({ maxLength: 256 }), FeatureInput, {
        maxProperties: 256,
        description: 'Features of the moment, by name, for rerankers that read context.<name>.',
      }),
    ),
    candidates: Type.Optional(
      Type.Integer({
        minimum: LIMITS.candidates.min,
        maximum: LIMITS.candidates.max,
        description: `Retrieval depth before re-ranking; default ${LIMITS.candidates.default}.`,
      }),
    ),
    strict: Type.Optional(
      Type.Boolean({
        description:
          'All that is asked for, or an error: without it, overload and short deadlines lower an answer, which `degraded` says.',
      }),
    ),
    rules: Type.Optional(
      Type.String({
        pattern: '^[A-Za-z0-9._-]{1,64}$',
        description:
          'A set of rules in the settings of the server (default "default", where there is one), or "none"; fields beside it replace those of the set.',
      }),
    ),
    ...RuleFields,
  },
  { description: 'Exactly one of user_id, features, embedding, item_ids names the query.' },
);
export type RetrieveBody = Static<typeof RetrieveBody>;

/** Other headers are none of the schema's business. */
export const VariantHeaders = Type.Object({
  'x-belfry-variant': Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 160,
      description: 'In place of what the traffic policy gives: a reranker (name, or name@version), or control.',
    }),
  ),
});

export const BatchBody = strict({
  requests: Type.Array(RetrieveBody, { minItems: 1, maxItems: LIMITS.batchRequests.max }),
});

export const SimilarItemsBody = strict({ item_id: Type.Optional(Id), embedding: Type.Optional(Embedding), ...Shaping });
export type SimilarItemsBody = Static<typeof SimilarItemsBody>;

export const SimilarUsersBody = strict({
  user_id: Type.Optional(Id),
  embedding: Type.Optional(Embedding),
  k: Type.Optional(K),
  exact: Type.Optional(Type.Boolean()),
  recall: Shaping.recall,
  ef: Shaping.ef,
  timeout_ms: Shaping.timeout_ms,
  explain: Shaping.explain,
});
export type SimilarUsersBody = Static<typeof SimilarUsersBody>;

export const ItemBody = strict(
  {
    embedding: Type.Optional(
      Type.Array(Type.Number(), {
        minItems: 1,
        maxItems: LIMITS.dims.max,
        description: 'The vector of the item, in the space of the item embeddings.',
      }),
    ),
    features: Type.Optional(
      Type.Record(Type.String({ maxLength: 256 }), FeatureInput, {
        maxProperties: 1024,
        description: 'Features by column name; without an embedding, the item tower makes one of them.',
      }),
    ),
    metadata: Type.Optional(
      Type.Record(Type.String({ maxLength: 256 }), FeatureInput, {
        maxProperties: 1024,
        description:
          'Columns of the item table, which filters, with_metadata and rerankers read; absent ones are null. Without it, those among the features.',
      }),
    ),
  },
  { description: 'The whole item: what is not said of it is null. embedding or features must be there.' },
);
export const ItemPath = strict({ id: Type.String({ minLength: 1, maxLength: LIMITS.idLength.max }) });
export const ItemAnswer = strict({
  id: Id,
  result: Type.Union([Type.Literal('created'), Type.Literal('replaced'), Type.Literal('deleted')]),
  generation: Type.String({ description: 'The generation that serves, which the change is laid over.' }),
});

export const ErrorAnswer = strict({
  code: Type.String(),
  message: Type.String(),
  field: Type.Optional(Type.String()),
  limit: Type.Optional(Type.Union([Type.Number(), Type.String()])),
  request_id: Type.String(),
});

/** Id by its JSON types alone: a union would be checked, branch after branch, for each item of each answer. */
const AnsweredId = Type.Unsafe<Static<typeof Id>>({ type: ['string', 'integer'], description: ID_DESCRIPTION });

const AnsweredItem = strict({
  id: AnsweredId,
  score: Type.Number({
    description:
      'What the list is ordered by, before diversity and pins: the reranker’s score, else the retrieval score, boosted.',
  }),
  retrieval_score: Type.Number(),
  retrieval_rank: Type.Optional(
    Type.Integer({
      minimum: 1,
      description: 'Absent for an item that the search did not return: a pinned one, or one found past full caps.',
    }),
  ),
  pinned: Type.Optional(Type.Literal(true)),
  metadata: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});
const Timings = Type.Record(Type.String(), Type.Number());
const Models = strict({ tower: Type.Optional(Type.String()), reranker: Type.Optional(Type.String()) });

const ExposureAnswer = strict(
  {
    variant: Type.String({ description: 'name@version of the reranker; control where retrieval order stands.' }),
    bucket: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'Where the user falls in [0, 1).' })),
    reason: Type.Enum(['production', 'ab-test', 'control', 'no_user', 'named', 'override']),
  },
  { description: 'Which variant this answer is, and why; for the analysis of experiments. Only with rerank.' },
);

export const RetrieveAnswer = strict({
  items: Type.Array(AnsweredItem),
  generation: Type.String(),
  models: Models,
  exposure: Type.Optional(ExposureAnswer),
  degraded: Type.Array(Type.String()),
  returned: Type.Integer(),
  explain: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  timings_ms: Type.Optional(Timings),
});

export const BatchAnswer = strict({
  responses: Type.Array(Type.Union([RetrieveAnswer, strict({ error: ErrorAnswer })])),
});

export const SimilarAnswer = strict({
  items: Type.Array(
    strict({
      id: AnsweredId,
      score: Type.Number(),
      metadata: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    }),
  ),
  generation: Type.String(),
  returned: Type.Integer(),
  explain: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  timings_ms: Type.Optional(Timings),
});

export const GenerationId = Type.Object(
  { id: Type.String({ pattern: '^(?!\\.{1,2}$)[A-Za-z0-9._-]{1,64}$', description: 'Id of a generation.' }) },
  { additionalProperties: false },
);
