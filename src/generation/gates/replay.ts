/** Canaries at load: the generation in memory must answer as it did when it was built. */
import { readRows } from '../../ann/read-rows.js';
import { BelfryError } from '../../errors.js';
import { cosine } from '../../ann/vectors.js';
import type { Generation } from '../generation.js';
import { type Canaries, exactAnswers, readCanaries, type RecordedCanary, tunedRecall } from './canaries.js';

/** Scores are summed in f64 in a fixed order, so they come out alike on every kernel set; this allows for text. */
const SCORE_TOLERANCE = 1e-5;
/** Below the recall that the build measured on these very requests. */
const RECALL_SLACK = 0.02;
/** The same model, on another CPU perhaps: sums in another order, no other features. */
const TOWER_COSINE_MIN = 0.9999;

export interface CanaryReplay {
  /** Requests replayed, and what the tuned search found of their answers. */
  readonly requests: number;
  readonly recall: number;
  /** Of the user tower, where canaries of one were recorded. */
  readonly tower?: { readonly users: number; readonly maxDifference: number; readonly leastCosine: number };
}

/** Before a generation serves. Errors: BELFRY_CANARIES, BELFRY_GENERATION_CORRUPT. */
export async function replayCanaries(generation: Generation): Promise<CanaryReplay> {
  const canaries = await readCanaries(generation.folder);
  const recall = await replayRequests(generation, canaries);
  const tower = await replayTower(generation, canaries);
  return { requests: canaries.recorded.length, recall, ...(tower === undefined ? {} : { tower }) };
}

async function replayRequests(generation: Generation, { k, recorded, recall }: Canaries): Promise<number> {
  const { index, itemIds } = generation;
  const queries = await queriesOf(generation, recorded);
  const answers = await exactAnswers(index, queries, k, generation.skippedItems);
  for (const [q, canary] of recorded.entries()) {
    const { rows, scores } = answers[q]!;
    if (rows.length !== canary.expect.length)
      throw refused(generation, canary, `${canary.expect.length} items were expected, ${rows.length} came`);
    for (let i = 0; i < rows.length; i++) {
      const expected = canary.scores[i]!;
      // Of equal scores either may come first, and the last may be left out for another.
      const place = rows.indexOf(itemIds.rowOf(canary.expect[i]!) ?? -1);
      const isThere = isClose(scores[place < 0 ? rows.length - 1 : place]!, expected);
      if (!isThere || !isClose(scores[i]!, expected)) {
        throw refused(
          generation,
          canary,
          `place ${i + 1} was ${canary.expect[i]} with score ${expected}, now it is ${itemIds.idOf(rows[i]!)} with ${scores[i]}`,
        );
      }
    }
  }
  const found = await tunedRecall(
    generation,
    queries,
    recorded.map(({ scores }) => scores),
  );
  if (found < recall - RECALL_SLACK) {
    throw new BelfryError(
      'BELFRY_CANARIES',
      `generation ${generation.id}: its search finds ${found.toFixed(4)} of the recorded answers, at the build it was ${recall.toFixed(4)}; rebuild with belfry build`,
      { field: 'recall', limit: recall - RECALL_SLACK },
    );
  }
  return found;
}

function isClose(score: number, expected: number): boolean {
  return Math.abs(score - expected) <= SCORE_TOLERANCE * Math.max(1, Math.abs(expected));
}

async function queriesOf({ id, items, users, itemIds, userIds }: Generation, recorded: readonly RecordedCanary[]) {
  const byUser = recorded[0]?.by === 'user';
  const [matrix, ids] = byUser ? [users, userIds] : [items, itemIds];
  const rows = recorded.map((canary) => {
    const row = ids?.rowOf(canary.id);
    if (row !== undefined) return row;
    throw new BelfryError('BELFRY_CANARIES', `generation ${id}: its canary ${canary.by} ${canary.id} is not in it`, {
      field: 'canaries.json',
    });
  });
  return matrix === undefined ? new Float32Array() : readRows(matrix, Uint32Array.from(rows));
}

/** M5: a model whose answers drift, or differ from run to run. */
async function replayTower(generation: Generation, { tower: recorded }: Canaries): Promise<CanaryReplay['tower']> {
  const { tower, userTable, id } = generation;
  if (recorded === undefined || tower === undefined) return undefined;
  const rows = recorded.users.map((user) => userTable.rowOf(user) ?? -1);
  const { data, dims } = await tower.embedRows(rows);
  let [maxDifference, leastCosine] = [0, 1];
  for (const [i, expected] of recorded.embeddings.entries()) {
    const actual = data.subarray(i * dims, (i + 1) * dims);
    leastCosine = Math.min(leastCosine, cosine(expected, actual));
    for (let d = 0; d < dims; d++) maxDifference = Math.max(maxDifference, Math.abs(actual[d]! - expected[d]!));
  }
  if (!(leastCosine >= TOWER_COSINE_MIN)) {
    throw new BelfryError(
      'BELFRY_CANARIES',
      `generation ${id}: ${tower.name} makes other embeddings than at the build: cosine ${leastCosine.toFixed(5)} (at least ${TOWER_COSINE_MIN} is expected), largest difference ${maxDifference.toPrecision(3)}; its output is not deterministic, or the model runs differently on this machine`,
      { field: tower.name, limit: TOWER_COSINE_MIN },
    );
  }
  return { users: rows.length, maxDifference, leastCosine };
}

function refused({ id }: Generation, { by, id: whose }: RecordedCanary, why: string): BelfryError {
  return new BelfryError(
    'BELFRY_CANARIES',
    `generation ${id}: the recorded request of ${by} ${whose} is answered otherwise: ${why}; rebuild with belfry build`,
    { field: 'canaries.json' },
  );
}
