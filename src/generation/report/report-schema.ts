/** The form of `report.json`: what a build made, what its gates measured, and how it differs from the generation before. */
import { type Static, type TSchema, Type } from 'typebox';
import { GateResultSchema, NormsSchema } from '../manifest-schema.js';

export const REPORT_FILES = { json: 'report.json', svg: 'report.svg' } as const;

const object = <Properties extends Record<string, TSchema>>(properties: Properties, description?: string) =>
  Type.Object(properties, { additionalProperties: false, ...(description === undefined ? {} : { description }) });

const Count = Type.Integer({ minimum: 0 });
const Id = Type.Union([Type.String(), Type.Integer()]);
const Share = Type.Number({ minimum: 0, maximum: 1 });
const BeforeNow = object({ before: Type.Number(), now: Type.Number() });

const IdChange = object({
  before: Count,
  now: Count,
  added: Count,
  removed: Count,
  added_examples: Type.Array(Id),
  removed_examples: Type.Array(Id),
});

const Point = object({
  recall: Share,
  microseconds: Type.Number({ description: 'of one query on one thread' }),
  effort: Type.String(),
});

export const DiffSchema = object({
  generation: Type.String({ description: 'the generation before' }),
  items: IdChange,
  users: Type.Optional(IdChange),
  moved: Type.Optional(
    object(
      {
        compared: Count,
        unchanged: Type.Integer({
          minimum: 0,
          description: 'vectors whose cosine to the one before is at least 0.9999',
        }),
        moved: Type.Integer({ minimum: 0, description: 'vectors whose cosine to the one before is below 0.99' }),
        mean_cosine: Type.Number(),
        neighbours_kept: Type.Number({
          description:
            'share of the 10 nearest items of an item that stay so; a training that turns all vectors keeps them',
        }),
      },
      'of items that both generations have, a sample where they are many',
    ),
  ),
  norms: object({ items: BeforeNow, users: Type.Optional(BeforeNow) }, 'median lengths'),
  recall: Type.Array(object({ k: Count, before: Share, now: Share })),
  bytes: BeforeNow,
  models: Type.Array(object({ role: Type.String(), before: Type.String(), now: Type.String() }), {
    description: 'models whose file changed',
  }),
  feature_schema_changed: Type.Boolean(),
});

export const ReportSchema = object({
  version: Type.Literal(1),
  generation: Type.String(),
  created: Type.String(),
  models_folder: Type.String(),
  metric: Type.String(),
  build_seconds: Type.Number(),
  items: Count,
  users: Count,
  dims: Count,
  bytes: Type.Integer({ minimum: 0, description: 'of all files' }),
  graph_bytes: Count,
  gates: Type.Array(GateResultSchema),
  overrides: Type.Array(Type.String()),
  norms: object({ items: NormsSchema, users: Type.Optional(NormsSchema) }),
  recall: object({
    target: Share,
    measured: Type.Array(object({ k: Count, recall: Share, microseconds: Type.Number() }), {
      description: 'the search as it serves, on users that the build has not seen',
    }),
    curve: Type.Array(object({ k: Count, points: Type.Array(Point) })),
    scan_microseconds: Type.Optional(Type.Number()),
  }),
  diff: Type.Optional(DiffSchema),
});

export type Report = Static<typeof ReportSchema>;
export type Diff = Static<typeof DiffSchema>;
