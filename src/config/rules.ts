/** Rules that shape the list beside the scores, as a request and a named set of the settings write them. */
import { type Static, Type } from 'typebox';

export const RULE_LIMITS = {
  caps: { max: 8 },
  boosts: { max: 16 },
  pins: { max: 100 },
  rank: { min: 1, max: 1000 },
  factor: { min: 0.001, max: 1000 },
} as const;

const strict = <T extends Parameters<typeof Type.Object>[0]>(properties: T) =>
  Type.Object(properties, { additionalProperties: false });

const { rank, factor } = RULE_LIMITS;

export const RuleFields = {
  diversity: Type.Optional(
    Type.Number({
      minimum: 0,
      maximum: 1,
      description:
        'How much being unlike the items before it counts for an item, against its score: maximal marginal relevance on item vectors. 0, the default, is by score alone.',
    }),
  ),
  caps: Type.Optional(
    Type.Array(
      strict({
        field: Type.String({ minLength: 1, maxLength: 256, description: 'A column of features/items.parquet.' }),
        max: Type.Integer({ minimum: rank.min, maximum: rank.max }),
      }),
      {
        maxItems: RULE_LIMITS.caps.max,
        description:
          'At most `max` items of one value of `field`. An item with a list counts for each entry; one without a value is never capped.',
      },
    ),
  ),
  boosts: Type.Optional(
    Type.Array(
      strict({
        filter: Type.Object({}, { additionalProperties: true, description: 'As `filter` of a request.' }),
        add: Type.Optional(Type.Number({ minimum: -1e6, maximum: 1e6, description: 'Is added to the score.' })),
        multiply: Type.Optional(
          Type.Number({
            minimum: factor.min,
            maximum: factor.max,
            description:
              'The score is multiplied by it, a negative score divided: above 1 always lifts, below 1 always lowers.',
          }),
        ),
      }),
      {
        maxItems: RULE_LIMITS.boosts.max,
        description: 'Other scores for candidates that pass a filter, in this order; each has `add` or `multiply`.',
      },
    ),
  ),
  pins: Type.Optional(
    Type.Array(
      strict({
        id: Type.Union([
          Type.String({ minLength: 1, maxLength: 256 }),
          Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
        ]),
        position: Type.Integer({ minimum: rank.min, maximum: rank.max, description: '1 is the first place.' }),
      }),
      {
        maxItems: RULE_LIMITS.pins.max,
        description:
          'Items at fixed places, whatever their scores, caps and min_score; what the filter or an exclusion forbids is left out.',
      },
    ),
  ),
  min_score: Type.Optional(
    Type.Number({ description: 'Items whose `score` (of the reranker where there is one, boosted) is lower are cut.' }),
  ),
};

export const RuleSet = strict(RuleFields);
export type RuleSet = Static<typeof RuleSet>;

export const RuleSets = Type.Record(Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }), RuleSet, {
  description: 'sets of rules by name, for requests that name one; the set "default" holds for those that name none',
});
export type RuleSets = Static<typeof RuleSets>;
