/**
 * The last step before a generation serves: it answers what requests will ask, so that no request pays for cold pages, code
 * that is not compiled yet or a model's first run; and each answer is looked at, so that what cannot answer never serves.
 */
import { setImmediate } from 'node:timers/promises';
import { readRows } from '../ann/read-rows.js';
import { BelfryError } from '../errors.js';
import type { Row } from '../types.js';
import { replayCanaries } from './gates/replay.js';
import type { Generation } from './generation.js';

const SAMPLE_ROWS = 64;
const DEPTHS = [10, 100];

/** Errors: BELFRY_GENERATION_CORRUPT for a wrong answer; BELFRY_CANARIES; those of searches and models. */
export async function warmUp(generation: Generation): Promise<void> {
  checkRows(generation);
  await replayCanaries(generation);
  const { items, users, searcher, skippedItems, userIds, userTable } = generation;
  const from = users === undefined || users.rows === 0 ? items : users;
  const rows = spread(from.rows, SAMPLE_ROWS);
  const queries = [generation.defaultQuery];
  for (const row of rows) queries.push(await readRows(from, Uint32Array.of(row)));
  let found = await searcher.search({ query: generation.defaultQuery, k: 1, exact: true, exclude: NONE });
  for (const query of queries) {
    if (query.every((value) => value === 0)) continue; // a user of no length has no direction
    await setImmediate(); // short walks run on this thread: requests go between them
    for (const k of DEPTHS) {
      found = await searcher.search({ query, k, exact: false, exclude: NONE });
      const wanted = Math.min(k, items.rows - skippedItems.size);
      if (found.rows.length < wanted)
        throw broken(generation, `a search for ${k} of ${items.rows} items returned ${found.rows.length}`);
      if (!found.scores.every(Number.isFinite))
        throw broken(generation, 'a search returned a score that is not finite');
    }
  }

  const known = users === undefined ? [] : rows.map((row) => userTable.featuresOf(userIds!.idOf(row)));
  const features = known.find((one) => one !== undefined) ?? {};
  const { tower } = generation;
  if (tower?.ownFeatures.some((name) => features[name] !== undefined)) await tower.embed(features);
  for (const reranker of generation.rerankers) {
    const scoring = reranker.score(
      { user: features, userEmbedding: queries[0]! },
      {
        rows: found.rows,
        ids: Array.from(found.rows, (row) => generation.itemIds.idOf(row)),
        scores: found.scores,
        ...(reranker.needs.itemEmbedding ? { embeddings: await readRows(items, found.rows) } : {}),
      },
    );
    await scoring.catch((error: unknown) => {
      // A model server that is down is no fault of this generation, and must not keep it from serving.
      if (reranker.status.server === undefined) throw error;
    });
  }
}

const NONE = new Uint32Array(0);

/** Vectors, codes and ids are of one length, and sampled ids lead back to their rows. */
function checkRows(generation: Generation): void {
  const { manifest, index, itemIds, userIds, users } = generation;
  const counts = { manifest: manifest.items.count, index: index.info.rows, ids: itemIds.size };
  if (new Set(Object.values(counts)).size > 1)
    throw broken(generation, `items disagree in number: ${JSON.stringify(counts)}`);
  if (users !== undefined && users.rows !== userIds?.size)
    throw broken(generation, `${users.rows} users have ${userIds?.size ?? 0} ids`);
  for (const [ids, what] of [
    [itemIds, 'item'],
    [userIds, 'user'],
  ] as const) {
    for (const row of spread(ids?.size ?? 0, SAMPLE_ROWS)) {
      const back = ids!.rowOf(ids!.idOf(row));
      if (back !== row) throw broken(generation, `the ${what} id of row ${row} leads to row ${back ?? 'none'}`);
    }
  }
}

function spread(rows: number, count: number): Row[] {
  const taken = Math.min(rows, count);
  return Array.from({ length: taken }, (_, at) => Math.floor(((at + 0.5) * rows) / taken));
}

function broken({ id }: Generation, reason: string): BelfryError {
  return new BelfryError('BELFRY_GENERATION_CORRUPT', `generation ${id}: ${reason}; rebuild with belfry build`);
}
