/**
 * Golden requests: what the training recorded of a scorer, `golden/<model>.json` of the export. They are bound and scored
 * at load, so that a wrong vocabulary, a wrong column or a runtime that computes differently is found before it serves.
 */
import { readFile } from 'node:fs/promises';
import { posix } from 'node:path';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { conforms } from '../config/conforms.js';
import { explain, type SchemaError } from '../config/explain.js';
import { BelfryError } from '../errors.js';
import type { BoundInputs } from '../features/bound-inputs.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { Features, Id, TensorData } from '../types.js';
import type { BoundScorer } from './bound-scorer.js';
import type { RerankCandidates, RerankRequest } from './reranker.js';

const Feature = Type.Union([
  Type.String(),
  Type.Number(),
  Type.Boolean(),
  Type.Null(),
  Type.Array(Type.Union([Type.String(), Type.Number()])),
]);
const FeatureRecord = Type.Record(Type.String(), Feature);
const IdSchema = Type.Union([Type.String(), Type.Integer()]);
const Row = Type.Array(Type.Union([Type.Number(), Type.String(), Type.Boolean()]));
/** `row` where all rows are alike. Bags have neither. */
const Tensor = Type.Object({ rows: Type.Optional(Type.Array(Row)), row: Type.Optional(Row) });

const RequestSchema = Type.Object({
  user_id: Type.Optional(IdSchema),
  user: Type.Optional(FeatureRecord),
  context: Type.Optional(FeatureRecord),
  item_ids: Type.Array(IdSchema, { minItems: 1, maxItems: 5000 }),
  retrieval_scores: Type.Optional(Type.Array(Type.Number())),
  inputs: Type.Optional(Type.Record(Type.String(), Tensor)),
  scores: Type.Array(Type.Number()),
});
export const GoldenSchema = Type.Object({
  model: Type.Optional(Type.String()),
  tolerance: Type.Optional(Type.Number({ exclusiveMinimum: 0 })),
  requests: Type.Array(RequestSchema, { minItems: 1, maxItems: 256 }),
});
type GoldenRequest = Static<typeof RequestSchema>;

/** Of the score, relative where it is beyond 1: what two builds of one runtime differ by. */
const TOLERANCE = 1e-4;

export interface GoldenSources {
  readonly users: FeatureTable;
  /** In row order, as exported. */
  readonly itemIds: readonly Id[];
  /** Items were changed since the export, so their features need not be those that were recorded. */
  readonly hasChangedItems: boolean;
}

/** Where the golden requests of a model are, when it has some; relative to the models folder. */
export function goldenPath(modelPath: string): string {
  return `golden/${posix.basename(modelPath, posix.extname(modelPath))}.json`;
}

/** `name` is the path in the models folder. Error: BELFRY_GOLDEN, for what cannot be read and what is not reproduced. */
export async function checkGolden(
  path: string,
  name: string,
  scorer: BoundScorer,
  sources: GoldenSources,
): Promise<void> {
  const { requests, tolerance = TOLERANCE } = await readGolden(path, name);
  const wanted = new Set<Id>(requests.flatMap(({ item_ids }) => item_ids));
  const rowOf = new Map<Id, number>();
  for (const [row, id] of sources.itemIds.entries()) if (wanted.has(id)) rowOf.set(id, row);
  for (const [at, request] of requests.entries()) {
    const refuse = (reason: string): BelfryError => goldenMismatch(`${name}: requests.${at}`, scorer, reason);
    await checkOne(request, scorer, sources, rowOf, tolerance, refuse);
  }
}

async function checkOne(
  golden: GoldenRequest,
  scorer: BoundScorer,
  { users, hasChangedItems }: GoldenSources,
  rowOf: ReadonlyMap<Id, number>,
  tolerance: number,
  refuse: (reason: string) => BelfryError,
): Promise<void> {
  const { item_ids: ids, scores: recorded, retrieval_scores: retrieval = ids.map(() => 0) } = golden;
  if (recorded.length !== ids.length || retrieval.length !== ids.length)
    throw refuse(
      `${ids.length} item_ids, ${retrieval.length} retrieval_scores and ${recorded.length} scores; they go together`,
    );
  const unknown = ids.find((id) => !rowOf.has(id));
  if (unknown !== undefined) {
    if (hasChangedItems) return; // taken away since
    throw refuse(`item ${JSON.stringify(unknown)} is not in the export; record the golden requests with it`);
  }
  const { request, candidates } = requestOf(golden, retrieval, scorer.bound, users, rowOf, refuse);
  const differences = golden.inputs === undefined ? [] : differencesOf(scorer, request, candidates, golden.inputs);
  if (hasChangedItems && golden.inputs === undefined) return;
  const changed = new Set(hasChangedItems ? differences.map(({ row }) => row) : []);
  const { scores } = await scorer.score(request, candidates);
  for (const [row, expected] of recorded.entries()) {
    const found = scores[row]!;
    if (changed.has(row) || Math.abs(found - expected) <= tolerance * Math.max(1, Math.abs(expected))) continue;
    const [first] = differences;
    throw refuse(
      `item ${JSON.stringify(ids[row])}: recorded score ${expected}, scored ${found} (tolerance ${tolerance}); ${
        first === undefined
          ? golden.inputs === undefined
            ? 'record the inputs too, to see which of them differs'
            : 'all inputs are as recorded, so the model file is another one or its output is bound otherwise'
          : `input ${first.input}, row ${first.row}, column ${first.column}: recorded ${first.recorded}, bound ${first.bound}`
      }`,
    );
  }
}

/** A golden request as one of retrieval; vectors come from the recorded inputs that are bound to them. */
function requestOf(
  golden: GoldenRequest,
  retrieval: readonly number[],
  bound: BoundInputs,
  users: FeatureTable,
  rowOf: ReadonlyMap<Id, number>,
  refuse: (reason: string) => BelfryError,
): { request: RerankRequest; candidates: RerankCandidates } {
  const { user_id: userId, item_ids: ids, inputs = {} } = golden;
  const recordedFor = (source: string): Static<typeof Tensor> => {
    const input = bound.inputs.find(({ slots }) => slots.length === 1 && slots[0]!.source === source);
    const found = input === undefined ? undefined : inputs[input.name];
    if (found === undefined)
      throw refuse(`the scorer reads ${source}; record the input that takes it under \`inputs\``);
    return found;
  };
  const stored = userId === undefined ? undefined : users.featuresOf(userId);
  const user: Features = { ...stored, ...(golden.user as Features | undefined) };
  const vector = bound.needs.userEmbedding ? recordedFor('user_embedding') : undefined;
  const items = bound.needs.itemEmbedding ? recordedFor('item_embedding') : undefined;
  const vectors = items && (items.rows ?? ids.map(() => items.row ?? []));
  return {
    request: {
      ...(userId === undefined ? {} : { userId }),
      user,
      ...(golden.context === undefined ? {} : { context: golden.context as Features }),
      ...(vector === undefined
        ? {}
        : { userEmbedding: Float32Array.from((vector.row ?? vector.rows?.[0] ?? []) as number[]) }),
    },
    candidates: {
      rows: ids.map((id) => rowOf.get(id)!),
      ids,
      scores: retrieval,
      ...(vectors === undefined ? {} : { embeddings: Float32Array.from(vectors.flat() as number[]) }),
    },
  };
}

interface Difference {
  readonly input: string;
  readonly row: number;
  readonly column: number;
  readonly recorded: unknown;
  readonly bound: unknown;
}

/** The first of each row. Inputs that are not recorded, and bags, are not compared. */
function differencesOf(
  scorer: BoundScorer,
  request: RerankRequest,
  candidates: RerankCandidates,
  recorded: NonNullable<GoldenRequest['inputs']>,
): Difference[] {
  const feeds = scorer.feedsOf(request, candidates);
  const found = new Map<number, Difference>();
  for (const [input, tensor] of Object.entries(recorded)) {
    const feed = feeds[input];
    if (feed === undefined || (tensor.rows === undefined && tensor.row === undefined)) continue;
    for (let row = 0; row < feed.dims[0]!; row++) {
      const values = tensor.rows?.[row] ?? tensor.row ?? [];
      const column = values.findIndex((value, at) => !isSame(valueAt(feed, row, at), value));
      if (column < 0 || found.has(row)) continue;
      found.set(row, { input, row, column, recorded: values[column], bound: valueAt(feed, row, column) });
    }
  }
  return [...found.values()];
}

function valueAt({ dims, data }: TensorData, row: number, column: number): unknown {
  const value = data[row * (dims[1] ?? 1) + column];
  return typeof value === 'bigint' ? Number(value) : value;
}

/** Recorded numbers were float32 or whole. */
function isSame(bound: unknown, recorded: unknown): boolean {
  if (typeof bound !== 'number' || typeof recorded !== 'number')
    return bound === recorded || Number(bound) === Number(recorded);
  return Math.abs(bound - recorded) <= 1e-5 * Math.max(1, Math.abs(recorded));
}

async function readGolden(path: string, name: string): Promise<Static<typeof GoldenSchema>> {
  const invalid = (reason: string, cause?: unknown) =>
    new BelfryError('BELFRY_GOLDEN', `${name}: ${reason}`, { field: name, ...(cause === undefined ? {} : { cause }) });
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw invalid((error as Error).message, error);
  }
  if (conforms(GoldenSchema, parsed)) return parsed;
  throw invalid(explain([...Value.Errors(GoldenSchema, parsed)] as SchemaError[], parsed).message);
}

function goldenMismatch(where: string, { name, version }: BoundScorer, reason: string): BelfryError {
  return new BelfryError(
    'BELFRY_GOLDEN',
    `${where}: ${name}@${version} does not score as its export recorded: ${reason}`,
    { field: where },
  );
}
