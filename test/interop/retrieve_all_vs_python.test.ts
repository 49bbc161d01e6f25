/** What retrieve-all writes, read by pyarrow and NumPy and compared with NumPy's own top k. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildGeneration } from '../../src/generation/build.js';
import { Generation } from '../../src/generation/generation.js';
import { retrieveAll } from '../../src/jobs/retrieve-all.js';
import { SAMPLE } from '../support/folders.js';
import { hasPython, runPython } from './python.js';

const K = 20;
const folder = mkdtempSync(join(tmpdir(), 'belfry-retrieve-all-'));
let generation: Generation;
beforeAll(async () => {
  generation = await Generation.load(await buildGeneration({ models: SAMPLE, data: join(folder, 'data') }));
});
afterAll(async () => {
  await generation.close();
  rmSync(folder, { recursive: true });
});

describe.skipIf(!hasPython)('retrieve-all of the sample', () => {
  it('long, lists and .npy are what pyarrow and NumPy read, and the true top k', async () => {
    const path = (name: string) => join(folder, name);
    const common = { k: K, exact: true };
    await retrieveAll(generation, { out: path('long.parquet'), ...common });
    await retrieveAll(generation, { out: path('lists.parquet'), layout: 'lists', ...common });
    await retrieveAll(generation, { out: path('out.npy'), ...common });
    const nothing = { must: [{ field: 'section', eq: 'no such section' }] };
    await retrieveAll(generation, { out: path('empty-long.parquet'), filter: nothing, ...common });
    await retrieveAll(generation, { out: path('empty-lists.parquet'), layout: 'lists', filter: nothing, ...common });
    const found = JSON.parse(await runPython('retrieve_all.py', [SAMPLE, folder, String(K)])) as Record<
      string,
      unknown
    >;
    const users = generation.userIds!.size;
    expect(found).toEqual({
      long_columns: ['user_id: string', 'rank: int32', 'item_id: string', 'score: float'],
      lists_columns: [
        'user_id: string',
        'item_ids: list<element: string not null>',
        'scores: list<element: float not null>',
      ],
      npy: [`int64 (${users}, ${K})`, `float32 (${users}, ${K})`],
      long_equals_npy: true,
      lists_equal_npy: true,
      one_user: true,
      empty: [0, users, 0],
      generation: generation.id,
      wrong_scores: 0,
      wrong_order: 0,
    });
  });
});
