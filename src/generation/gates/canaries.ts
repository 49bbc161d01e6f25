/**
 * Canaries: requests recorded with their answers when a generation is built. They are replayed at every load (what was
 * built is what serves), and the next generation is held against them (users like what they liked).
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { NativeIndex } from '../../ann/addon.js';
import { spread } from '../../ann/build-graph.js';
import { readRows } from '../../ann/read-rows.js';
import type { Searcher } from '../../ann/searcher.js';
import { conforms } from '../../config/conforms.js';
import { explain, type SchemaError } from '../../config/explain.js';
import { BelfryError } from '../../errors.js';
import type { UserTower } from '../../tower/user-tower.js';
import type { FeatureTable } from '../../features/feature-table.js';
import type { Row } from '../../types.js';
import type { GateSubject } from './subject.js';

export const CANARIES_FILE = 'canaries.json';
/** Users recorded, and items of each. */
const CANARIES = 128;
const CANARY_K = 20;
const TOWER_USERS = 32;

const strict = { additionalProperties: false } as const;
const IdSchema = Type.Union([Type.String({ minLength: 1, maxLength: 256 }), Type.Integer({ minimum: 0 })]);

/** The exact answer to a stored vector: of a user, or of an item where the export has no users. */
const RecordedSchema = Type.Object(
  {
    by: Type.Union([Type.Literal('user'), Type.Literal('item')]),
    id: IdSchema,
    /** Best first. */
    expect: Type.Array(IdSchema),
    scores: Type.Array(Type.Number()),
  },
  strict,
);

const TowerSchema = Type.Object(
  {
    name: Type.String(),
    users: Type.Array(IdSchema),
    /** One row for each user, as the tower made it at build time. */
    embeddings: Type.Array(Type.Array(Type.Number())),
  },
  strict,
);

const CanariesSchema = Type.Object(
  {
    version: Type.Literal(1),
    k: Type.Integer({ minimum: 0 }),
    /** Share of the answers that the tuned search found at build time. */
    recall: Type.Number({ minimum: 0, maximum: 1 }),
    recorded: Type.Array(RecordedSchema),
    tower: Type.Optional(TowerSchema),
  },
  strict,
);

export type RecordedCanary = Static<typeof RecordedSchema>;
export type Canaries = Static<typeof CanariesSchema>;

export interface CanarySubject extends GateSubject {
  readonly searcher: Searcher;
}

/** Records the canaries of a generation that is being built. */
export async function recordCanaries(subject: CanarySubject, tower?: RecordedTower): Promise<Canaries> {
  const { index, items, users, userIds, itemIds } = subject;
  const byUsers = users !== undefined && userIds !== undefined && users.rows > subject.skippedUsers.size;
  const [matrix, ids, skipped] = byUsers
    ? [users, userIds, subject.skippedUsers]
    : [items, itemIds, subject.skippedItems];
  const wanted = Math.min(CANARIES, matrix.rows - skipped.size);
  const rows = spread(matrix.rows, [...skipped], wanted);
  const k = Math.min(CANARY_K, items.rows - subject.skippedItems.size);
  const queries = await readRows(matrix, rows);
  const answers = await exactAnswers(index, queries, k, subject.skippedItems);
  const recorded = [...rows].map((row, q): RecordedCanary => ({
    by: byUsers ? 'user' : 'item',
    id: ids.idOf(row),
    expect: [...answers[q]!.rows].map((item) => itemIds.idOf(item)),
    scores: [...answers[q]!.scores],
  }));
  const recall = await tunedRecall(
    subject,
    queries,
    recorded.map(({ scores }) => scores),
  );
  return { version: 1, k, recall, recorded, ...(tower === undefined ? {} : { tower }) };
}

export type RecordedTower = Static<typeof TowerSchema>;

/** What the tower makes of some users' stored features. */
export async function recordTower(tower: UserTower, table: FeatureTable): Promise<RecordedTower | undefined> {
  if (table.rows === 0) return undefined;
  const rows = [...spread(table.rows, [], Math.min(TOWER_USERS, table.rows))];
  const { data, dims } = await tower.embedRows(rows);
  return {
    name: tower.name,
    users: rows.map((row) => table.ids[row]!),
    embeddings: rows.map((_, i) => [...data.subarray(i * dims, (i + 1) * dims)]),
  };
}

export interface Answer {
  readonly rows: Uint32Array;
  readonly scores: Float32Array;
}

export async function exactAnswers(
  index: NativeIndex,
  queries: Float32Array,
  k: number,
  skipped: ReadonlySet<Row>,
): Promise<Answer[]> {
  const count = queries.length / index.info.dims;
  if (count === 0 || k === 0) return Array.from({ length: count }, () => NOTHING);
  const exclude = Uint32Array.from(skipped);
  const { rows, scores, counts } = await index.search({ queries, k, mode: 'exact', exclude });
  return Array.from({ length: count }, (_, q) => ({
    rows: rows.slice(q * k, q * k + counts[q]!),
    scores: scores.slice(q * k, q * k + counts[q]!),
  }));
}

const NOTHING: Answer = { rows: new Uint32Array(), scores: new Float32Array() };

/** Share of the true scores that the search as tuned reaches, one query at a time as requests come. */
export async function tunedRecall(
  { searcher, skippedItems }: Pick<CanarySubject, 'searcher' | 'skippedItems'>,
  queries: Float32Array,
  truth: readonly (readonly number[])[],
): Promise<number> {
  const exclude = Uint32Array.from(skippedItems);
  const { dims } = searcher.index.info;
  let [hits, wanted] = [0, 0];
  for (const [q, scores] of truth.entries()) {
    if (scores.length === 0) continue;
    const query = queries.slice(q * dims, (q + 1) * dims);
    const found = await searcher.search({ query, k: scores.length, exclude });
    hits += Math.min(scores.length, found.scores.filter((score) => score >= scores.at(-1)!).length);
    wanted += scores.length;
  }
  return wanted === 0 ? 1 : hits / wanted;
}

/** Errors: BELFRY_GENERATION_CORRUPT with the path of the field that does not follow the form. */
export async function readCanaries(folder: string): Promise<Canaries> {
  const path = join(folder, CANARIES_FILE);
  const corrupt = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_GENERATION_CORRUPT', `${path}: ${why}; rebuild with belfry build`, {
      field: CANARIES_FILE,
      cause,
    });
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw corrupt(`cannot be read (${(error as Error).message})`, error);
  }
  if (conforms(CanariesSchema, parsed)) return parsed;
  throw corrupt(explain([...Value.Errors(CanariesSchema, parsed)] as SchemaError[], parsed).message);
}
