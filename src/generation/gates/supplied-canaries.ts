/** Canaries that people write: `canaries.json` in the models folder says what some requests must find. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { readRows } from '../../ann/read-rows.js';
import { explain, type SchemaError } from '../../config/explain.js';
import { LIMITS } from '../../config/schema.js';
import { BelfryError, show } from '../../errors.js';
import type { CanarySubject } from './canaries.js';

export const SUPPLIED_FILE = 'canaries.json';
/** Depth of a request that names none. */
const DEFAULT_K = 10;

const Id = Type.Union([Type.String({ minLength: 1, maxLength: LIMITS.idLength.max }), Type.Integer({ minimum: 0 })]);

const SuppliedSchema = Type.Array(
  Type.Object(
    {
      user_id: Type.Optional(Id),
      embedding: Type.Optional(Type.Array(Type.Number(), { minItems: 1, maxItems: LIMITS.dims.max })),
      expect: Type.Array(Id, { minItems: 1, maxItems: LIMITS.k.max, description: 'items that the answer should hold' }),
      k: Type.Optional(
        Type.Integer({
          minimum: 1,
          maximum: LIMITS.k.max,
          description: `depth of the answer; default ${DEFAULT_K}, or as many as are expected`,
        }),
      ),
      min_overlap: Type.Optional(
        Type.Number({ minimum: 0, maximum: 1, description: 'share of `expect` that must be in the answer; default 1' }),
      ),
    },
    { additionalProperties: false },
  ),
  { maxItems: 1000 },
);

export type SuppliedCanary = Static<typeof SuppliedSchema>[number];

/** Those of a models folder; none when there is no file. Errors: BELFRY_EXPORT_INVALID, BELFRY_FILE_UNREADABLE. */
export async function readSupplied(modelsFolder: string): Promise<SuppliedCanary[]> {
  const path = join(modelsFolder, SUPPLIED_FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `${path}: ${(error as Error).message}`, { cause: error });
  }
  const invalid = (why: string, field = SUPPLIED_FILE, cause?: unknown) =>
    new BelfryError('BELFRY_EXPORT_INVALID', `${SUPPLIED_FILE}: ${why}`, { field, cause });
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw invalid((error as Error).message, SUPPLIED_FILE, error);
  }
  if (!Value.Check(SuppliedSchema, parsed)) {
    const { field, message } = explain([...Value.Errors(SuppliedSchema, parsed)] as SchemaError[], parsed);
    throw invalid(message, field);
  }
  parsed.forEach(({ user_id, embedding }, position) => {
    if ((user_id === undefined) === (embedding === undefined))
      throw invalid(`${position}: expected either user_id or embedding`, `${position}`);
  });
  return parsed;
}

/** What is not as expected, one sentence each. */
export async function trySupplied(subject: CanarySubject, canaries: readonly SuppliedCanary[]): Promise<string[]> {
  const failures: string[] = [];
  for (const [position, canary] of canaries.entries()) {
    const why = await tryOne(subject, canary);
    const who = canary.user_id === undefined ? 'its embedding' : `user ${show(canary.user_id)}`;
    if (why !== undefined) failures.push(`${SUPPLIED_FILE}: ${position} (${who}): ${why}`);
  }
  return failures;
}

async function tryOne(subject: CanarySubject, canary: SuppliedCanary): Promise<string | undefined> {
  const { expect, min_overlap = 1 } = canary;
  const { items, itemIds, searcher, skippedItems } = subject;
  const query = await queryOf(subject, canary);
  if (typeof query === 'string') return query;
  const k = Math.min(canary.k ?? Math.max(DEFAULT_K, expect.length), items.rows - skippedItems.size);
  const { rows } = await searcher.search({ query, k, exclude: Uint32Array.from(skippedItems) });
  const answered = new Set([...rows].map((row) => itemIds.idOf(row)));
  const missing = expect.filter((id) => !answered.has(id));
  const overlap = 1 - missing.length / expect.length;
  if (overlap >= min_overlap) return undefined;
  const names = missing.slice(0, 3).map(show).join(', ');
  return `at least ${min_overlap} of the expected items must be in the top ${k}, ${overlap.toFixed(2)} are; missing ${names}`;
}

async function queryOf(
  { users, userIds, index }: CanarySubject,
  canary: SuppliedCanary,
): Promise<Float32Array | string> {
  const { user_id, embedding } = canary;
  if (embedding !== undefined) {
    const { dims } = index.info;
    return embedding.length === dims
      ? Float32Array.from(embedding)
      : `expected ${dims} dims, received ${embedding.length}`;
  }
  const row = userIds?.rowOf(user_id!);
  return row === undefined || users === undefined
    ? 'the export has no such user'
    : readRows(users, Uint32Array.of(row));
}
