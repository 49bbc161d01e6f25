/** The delta against a plain list of items: any changes, any filter and exclusion, every metric, while segments merge. */
import { rmSync } from 'node:fs';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureGeneration } from '../../src/generation/build.js';
import { Generation } from '../../src/generation/generation.js';
import type { Metric } from '../../src/types.js';
import { ItemDelta } from '../../src/upserts/item-delta.js';
import type { ItemView } from '../../src/upserts/item-view.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { naiveRank, seeded } from '../support/judge.js';

const DIMS = 6;
const ITEMS = 40;
const itemIds = Array.from({ length: ITEMS }, (_, row) => `i${row}`);
const data = randomValues(ITEMS * DIMS, 1);
const METRICS: Metric[] = ['ip', 'cosine', 'l2'];

const folders: string[] = [];
const generations = new Map<Metric, Generation>();
beforeAll(async () => {
  for (const metric of METRICS) {
    const models = makeModelsFolder(temporaryFolder({ keep: true }), {
      items: { data, dims: DIMS },
      files: {
        'embeddings/item_ids.txt': itemIds.join('\n'),
        'features/items.parquet': new Uint8Array(
          parquetWriteBuffer({
            columnData: [
              { name: 'id', data: itemIds, type: 'STRING' },
              { name: 'price', data: itemIds.map((_, row) => row), type: 'DOUBLE' },
            ],
          }),
        ),
      },
    });
    folders.push(models, temporaryFolder({ keep: true }));
    const { published } = await ensureGeneration({ models, data: folders.at(-1)!, metric, overrides: ['recall'] });
    generations.set(metric, await Generation.load(published));
  }
});
afterAll(async () => {
  for (const generation of generations.values()) await generation.close();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** What the delta is held against. */
class Model {
  readonly items = new Map<string, { vector: Float32Array; price: number }>(
    itemIds.map((id, row) => [id, { vector: data.slice(row * DIMS, (row + 1) * DIMS), price: row }]),
  );

  rank(metric: Metric, query: Float32Array, k: number, exclude: readonly string[], maxPrice: number) {
    const all = [...this.items].filter(([id, { price }]) => !exclude.includes(id) && price <= maxPrice);
    const values = new Float32Array(all.flatMap(([, { vector }]) => [...vector]));
    return naiveRank(metric, query, values)
      .slice(0, k)
      .map(({ score, row }) => ({ id: all[row]![0], score }));
  }
}

async function check(view: ItemView, model: Model, metric: Metric, random: () => number): Promise<void> {
  const query = randomValues(DIMS, Math.floor(random() * 1e9));
  const k = 1 + Math.floor(random() * 60);
  const names = [...model.items.keys()];
  const exclude = Array.from(
    { length: Math.floor(random() * 4) },
    () => names[Math.floor(random() * names.length)] ?? 'x',
  );
  const maxPrice = random() < 0.5 ? Number.POSITIVE_INFINITY : random() * 100;
  const filter = Number.isFinite(maxPrice)
    ? await view.evaluate({ must: [{ field: 'price', lte: maxPrice }] }, () => 1000)
    : undefined;
  const rows = exclude.flatMap((id) => view.rowOf(id) ?? []);
  const found = await view.search(view.generation.searcher, {
    query,
    k,
    exact: true,
    exclude: Uint32Array.from(rows),
    filter,
  });
  const expected = model.rank(metric, query, k, exclude, maxPrice);
  const scores = [...found.scores];
  expect(scores.length).toBe(expected.length);
  for (const [at, { score }] of expected.entries()) expect(scores[at]).toBeCloseTo(score, 4);
  // Equal scores may stand in another order; each item is there once, with its own score.
  const answered = new Map(Array.from(found.rows, (row, at) => [view.idOf(row), scores[at]!]));
  expect(answered.size).toBe(expected.length);
  for (const { id, score } of model.rank(metric, query, 1000, exclude, maxPrice))
    if (answered.has(id)) expect(answered.get(id)).toBeCloseTo(score, 4);
  expect([...answered.keys()].every((id) => model.items.has(id as string))).toBe(true);
}

function apply(delta: ItemDelta, model: Model, id: string, seed: number | undefined): void {
  if (seed === undefined) {
    delta.apply(id, undefined);
    model.items.delete(id);
    return;
  }
  const [vector, price] = [randomValues(DIMS, seed), seed % 100];
  delta.apply(id, { id, embedding: vector, metadata: { price } });
  model.items.set(id, { vector, price });
}

it('names the states of items, also those of a compacted delta, which counts anew', async () => {
  const delta = new ItemDelta(generations.get('ip')!);
  const states = [await delta.use(async ({ state }) => state)];
  expect(await delta.use(async ({ state }) => state)).toBe(states[0]);
  const item = { id: 'i1', embedding: randomValues(DIMS, 1), metadata: { price: 1 } };
  for (const change of [item, undefined, item]) {
    delta.apply('i1', change);
    states.push(await delta.use(async ({ state }) => state));
  }
  const compacted = delta.compacted();
  states.push(await compacted.use(async ({ state, slots }) => `${state} of ${slots}`));
  compacted.apply('i2', undefined);
  states.push(await compacted.use(async ({ state, slots }) => `${state} of ${slots}`));
  expect(states.at(-2)).toMatch(/:1 of 1$/);
  const bare = states.map((state) => state.split(' ')[0]);
  expect(new Set(bare).size).toBe(bare.length);
  await compacted.close();
  await delta.close();
});

describe.each(METRICS)('the delta under %s', (metric) => {
  it('answers as a plain list does, after any changes', async () => {
    const step = fc.record({ item: fc.nat(60), seed: fc.option(fc.nat(1e6), { nil: undefined }), asks: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.nat(), async (steps, seed) => {
        const random = seeded(seed);
        const delta = new ItemDelta(generations.get(metric)!);
        const model = new Model();
        for (const { item, seed: value, asks } of steps) {
          apply(delta, model, `i${item}`, value);
          expect(delta.has(`i${item}`)).toBe(value !== undefined);
          if (asks) await delta.use((view) => check(view, model, metric, random));
        }
        await delta.use((view) => check(view, model, metric, random));
        await delta.close();
      }),
      { numRuns: 40 },
    );
  });

  it('goes on doing so while thousands of changes are sealed and merged, and a view stays what it was', async () => {
    const random = seeded(5);
    let delta = new ItemDelta(generations.get(metric)!);
    const model = new Model();
    for (let round = 0; round < 60; round++) {
      for (let i = 0; i < 100; i++) {
        const id = `i${Math.floor(random() ** 2 * 2000)}`;
        apply(delta, model, id, random() < 0.25 ? undefined : Math.floor(random() * 1e6));
      }
      await delta.use(async (view) => {
        const before = new Model();
        before.items.clear();
        for (const [id, item] of model.items) before.items.set(id, item);
        for (let i = 0; i < 30; i++) apply(delta, model, `i${Math.floor(random() * 2000)}`, round * 1000 + i);
        await check(view, before, metric, random);
      });
      await delta.use((view) => check(view, model, metric, random));
      if (round === 30) {
        const compact = delta.compacted();
        expect(compact.liveItems).toBe(delta.liveItems);
        await delta.close();
        delta = compact;
      }
    }
    await delta.close();
  });
});
