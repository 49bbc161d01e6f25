/** The binding of model inputs and outputs as it stands in registry.yaml. Form only; what it means is checked against the model in binding.ts. */
import { type Static, Type } from 'typebox';

export const BINDING_LIMITS = {
  width: { max: 8192 },
  pack: { max: 1024 },
  tasks: { max: 64 },
  vocabularyValues: { max: 100_000 },
} as const;

const strict = { additionalProperties: false } as const;

export const VocabularySchema = Type.Union([
  Type.Object(
    {
      file: Type.String({
        minLength: 1,
        description: 'path in the models folder, one value per line, line 0 is index 0',
      }),
    },
    strict,
  ),
  Type.Object(
    {
      values: Type.Array(Type.Union([Type.String(), Type.Number(), Type.Boolean()]), {
        minItems: 1,
        maxItems: BINDING_LIMITS.vocabularyValues.max,
      }),
    },
    strict,
  ),
  Type.Object(
    { ids: Type.Union([Type.Literal('items'), Type.Literal('users')], { description: 'row order of the embeddings' }) },
    strict,
  ),
]);

const sourceFields = {
  source: Type.String({
    pattern: '^((user|item|context)\\..+|user_embedding|item_embedding|retrieval\\.(score|rank)|constant)$',
    description:
      'user.<column>, item.<column>, context.<name>, user_embedding, item_embedding, retrieval.score, retrieval.rank or constant',
  }),
  value: Type.Optional(Type.Number({ description: 'of a constant' })),
  width: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: BINDING_LIMITS.width.max,
      description: 'columns that it fills; lists are padded or cut to it',
    }),
  ),
  vocabulary: Type.Optional(VocabularySchema),
  offset: Type.Optional(Type.Integer({ description: 'added to the position in the vocabulary' })),
  oov: Type.Optional(
    Type.Union([Type.Number(), Type.Literal('skip')], { description: 'encoded value of an unknown word, or skip' }),
  ),
  missing: Type.Optional(Type.Number({ description: 'encoded value of a null' })),
  pad: Type.Optional(Type.Number()),
  truncate: Type.Optional(
    Type.Union([Type.Literal('first'), Type.Literal('last')], { description: 'which end of a long list stays' }),
  ),
};

export const FeatureSourceSchema = Type.Object(sourceFields, strict);

const dtype = Type.Optional(
  Type.Union(
    [
      Type.Literal('float32'),
      Type.Literal('float64'),
      Type.Literal('float16'),
      Type.Literal('int32'),
      Type.Literal('int64'),
      Type.Literal('bool'),
      Type.Literal('string'),
    ],
    { description: 'must equal that of the graph' },
  ),
);

const broadcast = Type.Optional(
  Type.Boolean({
    description:
      'send one row for the request instead of one per candidate; so it is where the graph says that the first axis is 1',
  }),
);

/** One feature, several packed side by side, or the bag form of DLRM: flat indices of one feature, and the offsets of several. */
export const InputSchema = Type.Union([
  Type.Object(
    {
      ...sourceFields,
      dtype,
      layout: Type.Optional(Type.Literal('bag', { description: 'flat list of indices, no padding' })),
      broadcast,
    },
    strict,
  ),
  Type.Object(
    { dtype, pack: Type.Array(FeatureSourceSchema, { minItems: 1, maxItems: BINDING_LIMITS.pack.max }), broadcast },
    strict,
  ),
  Type.Object(
    {
      dtype,
      offsets_of: Type.Array(Type.String(), { minItems: 1, description: 'bag inputs, in order: [bags, rows]' }),
    },
    strict,
  ),
]);

export const InputBindingSchema = Type.Record(Type.String(), InputSchema);

const scoreFields = {
  activation: Type.Optional(Type.Union([Type.Literal('none'), Type.Literal('sigmoid')])),
  task: Type.Optional(Type.Integer({ minimum: 0, description: 'column of an [N, tasks] output' })),
  calibration: Type.Optional(
    Type.String({ minLength: 1, description: 'JSON file in the models folder: platt, temperature or isotonic' }),
  ),
};
const outputName = Type.String({ minLength: 1, description: 'output of the graph' });

/** One output, or several tasks combined into one score: the weighted sum, or the product of powers. */
export const OutputBindingSchema = Type.Union([
  Type.String({ minLength: 1 }),
  Type.Object({ name: Type.Optional(outputName), ...scoreFields }, strict),
  Type.Object(
    {
      name: Type.Optional(outputName),
      tasks: Type.Array(
        Type.Object(
          {
            ...scoreFields,
            name: Type.Optional(outputName),
            weight: Type.Optional(Type.Number({ description: 'factor in a sum, exponent in a product; default 1' })),
          },
          strict,
        ),
        { minItems: 1, maxItems: BINDING_LIMITS.tasks.max },
      ),
      combine: Type.Optional(Type.Union([Type.Literal('sum'), Type.Literal('product')])),
    },
    strict,
  ),
]);

export type VocabularyBinding = Static<typeof VocabularySchema>;
export type FeatureSource = Static<typeof FeatureSourceSchema>;
export type InputBinding = Static<typeof InputSchema>;
export type InputBindings = Static<typeof InputBindingSchema>;
export type OutputBinding = Static<typeof OutputBindingSchema>;
