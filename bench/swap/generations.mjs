// Two generations of one data folder that agree on users and on nothing else, so that an answer that mixes them shows:
// their vectors are of two trainings, and each item id, and each title in the item table, names its generation.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ByteWriter, parquetWrite } from 'hyparquet-writer';
import { ensureGeneration } from '../../dist/generation/build.js';
import { ensureTwoTower } from '../datasets/two-tower.mjs';

const SIDES = ['a', 'b'];
const USERS = 20_000;

export const itemId = (side, row) => `${side}-${row}`;
export const titleOf = (id) => `title of ${id}`;
export const userId = (row) => `user-${row}`;

/**
 * @param {{ folder: string, rows: number, dims: number }} options where all of it is kept; built once
 * @returns {Promise<{ data: string, models: string[], sides: Record<string, { side: string, items: string, users: string }> }>}
 *   `sides` by generation id, with the paths of its vectors
 */
export async function makeGenerations({ folder, rows, dims }) {
  const data = join(folder, 'data');
  const stamp = join(folder, 'generations.json');
  const wanted = { rows, dims, users: USERS, version: 1 };
  if (existsSync(stamp)) {
    const { made, ...rest } = JSON.parse(readFileSync(stamp, 'utf8'));
    const isWhole = Object.keys(rest.sides).every((id) => existsSync(join(data, `gen-${id}`, 'manifest.json')));
    if (isWhole && JSON.stringify(made) === JSON.stringify(wanted)) return rest;
  }
  rmSync(folder, { recursive: true, force: true });
  const models = SIDES.map((side) => join(folder, `models-${side}`));
  const sides = {};
  for (const [at, side] of SIDES.entries()) {
    const vectors = join(folder, `vectors-${side}`);
    const { items, users } = ensureTwoTower(vectors, { rows, dims, seed: 41 + at, users: USERS, queries: 16 });
    await writeModels(models[at], side, { rows, items, users });
    process.stderr.write(`bench: building generation ${side}\n`);
    const { published } = await ensureGeneration({ models: models[at], data });
    sides[published.id] = { side, items, users };
  }
  const result = { data, models, sides };
  writeFileSync(stamp, JSON.stringify({ made: wanted, ...result }));
  return result;
}

async function writeModels(models, side, { rows, items, users }) {
  for (const name of ['embeddings', 'features']) mkdirSync(join(models, name), { recursive: true });
  writeFileSync(join(models, 'embeddings/item_embeddings.npy'), readFileSync(items));
  writeFileSync(join(models, 'embeddings/user_embeddings.npy'), readFileSync(users));
  const ids = Array.from({ length: rows }, (_, row) => itemId(side, row));
  writeFileSync(join(models, 'embeddings/item_ids.txt'), `${ids.join('\n')}\n`);
  const userIds = Array.from({ length: USERS }, (_, row) => userId(row));
  writeFileSync(join(models, 'embeddings/user_ids.txt'), `${userIds.join('\n')}\n`);
  const writer = new ByteWriter();
  parquetWrite({
    writer,
    columnData: [
      { name: 'id', data: ids, type: 'STRING' },
      { name: 'title', data: ids.map(titleOf), type: 'STRING' },
      { name: 'section', data: ids.map((_, row) => `section ${row % 50}`), type: 'STRING' },
      { name: 'price', data: ids.map((_, row) => (row * 7919) % 1000), type: 'DOUBLE' },
    ],
  });
  writeFileSync(join(models, 'features/items.parquet'), writer.getBytes());
}
