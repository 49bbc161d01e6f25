/**
 * The form of `manifest.json`, published as docs/manifest.schema.json. The reader checks every manifest against it; the types
 * of the code are taken from it.
 */
import { type Static, type TSchema, Type } from 'typebox';
import type { Calibration } from '../ann/planner.js';
import { MlflowPinSchema } from '../config/mlflow.js';
import { ServerSchema, STAGES } from '../config/registry.js';
import type { ErrorCode } from '../errors.js';
import { METRICS } from '../types.js';
import { GATE_CODES, GATE_NAMES, type GateName } from './gates/gate.js';

/** v2: the graph section. v3: pins, gates, canaries, report, norm percentiles. */
export const MANIFEST_VERSION = 3;

const strict = { additionalProperties: false } as const;

function object<Properties extends Record<string, TSchema>>(properties: Properties, description?: string) {
  return Type.Object(properties, { ...strict, ...(description === undefined ? {} : { description }) });
}

function oneOf<Value extends string>(values: readonly Value[], description?: string) {
  return Type.Unsafe<Value>({
    type: 'string',
    enum: [...values],
    ...(description === undefined ? {} : { description }),
  });
}

const Count = Type.Integer({ minimum: 0 });
const Sha256 = Type.String({ pattern: '^[0-9a-f]{64}$' });
const Path = Type.String({
  minLength: 1,
  pattern: '^(?!/)(?!.*(^|/)\\.\\.(/|$))',
  description: 'relative, inside the folder',
});
const Id = Type.Union([Type.String({ minLength: 1, maxLength: 256 }), Type.Integer({ minimum: 0 })]);

const FileFacts = object({ bytes: Count, sha256: Sha256 });

const Source = object(
  { path: Path, mtimeMs: Type.Number(), bytes: Count, sha256: Sha256 },
  'a file of the models folder that the generation was made from',
);

export const NormsSchema = object(
  {
    min: Type.Number(),
    mean: Type.Number(),
    max: Type.Number(),
    p1: Type.Number(),
    p10: Type.Number(),
    p50: Type.Number(),
    p90: Type.Number(),
    p99: Type.Number(),
    sampled: Type.Integer({ minimum: 0, description: 'rows that the percentiles were taken of' }),
  },
  'euclidean lengths of the rows',
);

const Vectors = object({
  file: Path,
  count: Count,
  dims: Type.Integer({ minimum: 1 }),
  dtype: oneOf(['f2', 'f4']),
  idsFile: Type.Optional(Path),
  idKind: oneOf(['row', 'integer', 'string'], 'row: ids are row numbers, and there is no idsFile'),
  norms: NormsSchema,
  zeroVectors: Count,
  skippedRows: Type.Array(Count, { description: 'rows left out because on_bad_vector was skip' }),
});

const CalibrationSchema = Type.Unsafe<Calibration>(
  object(
    {
      source: oneOf(['users', 'items'], 'where the held-out queries came from'),
      queries: Count,
      kernel: Type.String(),
      costs: object({ scanMicroseconds: Type.Number(), bulkMicroseconds: Type.Number() }),
      points: Type.Array(
        object({
          k: Count,
          ef: Count,
          stop: Type.Number(),
          recall: Type.Number(),
          recallLow: Type.Number(),
          microseconds: Type.Number(),
        }),
      ),
      probes: Type.Array(
        object({
          k: Count,
          probes: Count,
          recall: Type.Number(),
          recallLow: Type.Number(),
          microseconds: Type.Number(),
          bulkMicroseconds: Type.Number(),
        }),
      ),
      filters: Type.Array(object({ share: Type.Number(), factor: Type.Number() })),
    },
    'what effort of a search gives what recall at what cost, measured on held-out queries',
  ),
);

const Graph = object(
  {
    file: Path,
    degree: Count,
    entries: Count,
    queryEdges: Count,
    trainingUsers: Count,
    buildMs: Type.Number(),
    memoryBytes: Count,
    calibration: CalibrationSchema,
  },
  'absent for small catalogues, which are scanned',
);

const Exclusion = object({
  name: Type.String(),
  path: Path,
  by: oneOf(['user', 'everyone']),
  users: Count,
  entries: Count,
  unknownItems: Count,
  unknownUsers: Count,
});

const Model = object({
  model: Type.String(),
  name: Type.String(),
  version: Type.String(),
  format: oneOf(['onnx', 'torchscript', 'tensorrt']),
  path: Path,
  stage: oneOf(STAGES),
  role: oneOf(['user_tower', 'item_tower', 'reranker']),
  notes: Type.Optional(Type.String()),
  mlflow: Type.Optional(MlflowPinSchema),
  server: Type.Optional(ServerSchema),
  share: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'of the users, for an ab-test' })),
  rows_max: Type.Optional(Type.Integer({ minimum: 1, description: 'most candidates of one run' })),
  inputs: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  output: Type.Optional(Type.Unknown()),
  file: Type.Optional(Path),
  bytes: Count,
  sha256: Sha256,
});

const Pins = object(
  {
    itemExport: Sha256,
    userExport: Type.Optional(Sha256),
    tower: Type.Optional(object({ name: Type.String(), version: Type.String(), sha256: Sha256 })),
    scorers: Type.Array(object({ name: Type.String(), version: Type.String(), sha256: Sha256 })),
    featureSchema: Type.Unsafe<string>({
      ...Sha256,
      description: 'of the columns of both feature tables (names and kinds) and of the bindings of all models',
    }),
  },
  'what belongs together and is released together',
);

const Export = object(
  {
    model: Type.Optional(Type.String()),
    version: Type.Optional(Type.String()),
    normalised: Type.Optional(Type.Boolean()),
    created: Type.Optional(Type.String()),
    checkpoint: Type.Optional(Type.String()),
  },
  'of export.json: the training that the vectors come from',
);

export const GateResultSchema = object({
  name: oneOf(GATE_NAMES),
  code: Type.Unsafe<ErrorCode>({ type: 'string', enum: Object.values(GATE_CODES) }),
  status: oneOf(['passed', 'failed', 'overridden', 'not_checked']),
  detail: Type.String(),
  measurements: Type.Array(
    object({
      what: Type.String(),
      value: Type.Number(),
      min: Type.Optional(Type.Number()),
      max: Type.Optional(Type.Number()),
    }),
  ),
});

export const ManifestSchema = object(
  {
    version: Type.Literal(MANIFEST_VERSION),
    id: Type.String({ pattern: '^[A-Za-z0-9._-]{1,64}$' }),
    created: Type.String({ description: 'ISO 8601, UTC' }),
    builder: object({ belfry: Type.String(), node: Type.String(), platform: Type.String() }),
    models_folder: Type.String(),
    export: Export,
    metric: oneOf(METRICS),
    items: Vectors,
    users: Type.Optional(Vectors),
    graph: Type.Optional(Graph),
    search: object(
      { recall: Type.Number({ minimum: 0, maximum: 1, description: 'target of a search that names none' }) },
      'search as tuned by the recall gate',
    ),
    itemFeatures: Type.Optional(Path),
    userFeatures: Type.Optional(Path),
    exclusions: Type.Optional(Type.Array(Exclusion)),
    models: Type.Array(Model),
    pins: Pins,
    sources: Type.Array(Source),
    files: Type.Record(Type.String(), FileFacts, {
      description:
        'every file that serving reads, with its checksum; the manifest itself and the report are not among them',
    }),
    canaries: object({ file: Path, requests: Count, k: Count, towerUsers: Count, supplied: Count }),
    upserts: Type.Optional(
      object(
        {
          mark: Type.Integer({
            minimum: 1,
            description:
              'changes of the item log with smaller numbers are folded in; later ones are laid over the generation',
          }),
          exportTime: Type.Number({
            description: 'of the export, milliseconds since 1970: changes that came later count',
          }),
          file: Type.Optional(Path),
          items: Type.Integer({ minimum: 0, description: 'put over rows of the export, or beside them' }),
          added: Type.Integer({
            minimum: 0,
            description: 'of these, the last rows of the generation; models know none of them by id',
          }),
          deleted: Count,
          superseded: Type.Integer({ minimum: 0, description: 'changes that are older than the row of the export' }),
          leftOut: Type.Integer({
            minimum: 0,
            description: 'vectors of another training that no item tower could make again',
          }),
        },
        'upserts between rebuilds, as this build took them over; its file holds those that the next build begins with',
      ),
    ),
    exampleUsers: Type.Array(Id),
    gates: Type.Array(GateResultSchema),
    overrides: Type.Unsafe<readonly GateName[]>(
      Type.Array(oneOf(GATE_NAMES), { description: 'gates that the operator allowed to fail with --override' }),
    ),
    previous: Type.Optional(Type.String({ description: 'the generation that this one was compared with' })),
    report: Type.Record(Type.String(), FileFacts, { description: 'the report of the build, for people' }),
    buildMs: Count,
  },
  'What a Belfry generation is made of. The file holds {"manifest_sha256", "manifest"}; this is the form of the latter.',
);

/** As it is read: nothing in it changes. */
type Frozen<T> = T extends readonly (infer One)[]
  ? readonly Frozen<One>[]
  : T extends object
    ? { readonly [Key in keyof T]: Frozen<T[Key]> }
    : T;

export type Manifest = Frozen<Static<typeof ManifestSchema>>;
export type VectorSection = Manifest['items'];
export type GraphSection = NonNullable<Manifest['graph']>;
export type ExclusionEntry = NonNullable<Manifest['exclusions']>[number];
export type ModelEntry = Manifest['models'][number];
export type SourceFile = Manifest['sources'][number];
export type UpsertsSection = NonNullable<Manifest['upserts']>;

/** The published JSON Schema. */
export function manifestJsonSchema(): Record<string, unknown> {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: `Belfry generation manifest, version ${MANIFEST_VERSION}`,
    ...JSON.parse(JSON.stringify(ManifestSchema)),
  };
}
