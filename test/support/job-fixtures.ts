/** A generation small enough for brute force, with ties, and what brute force says of it. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { expect } from 'vitest';
import { type BuildOptions, buildGeneration } from '../../src/generation/build.js';
import { Generation } from '../../src/generation/generation.js';
import type { Id, Metric } from '../../src/types.js';
import type { Candidates } from './candidates.js';
import { type FolderContent, makeModelsFolder, randomValues, temporaryFolder } from './folders.js';
import { naiveRank, type Ranked } from './judge.js';

export const DIMS = 8;
export const ITEMS = 300;
export const USERS = 90;
export const itemIds = Array.from({ length: ITEMS }, (_, row) => `item-${row}`);
export const userIds = Array.from({ length: USERS }, (_, row) => `user-${row}`);
export const users = randomValues(USERS * DIMS, 2);
/** Every tenth item is a copy of the one before: ties, which go to the smaller row. */
export const items = randomValues(ITEMS * DIMS, 1);
for (let row = 10; row < ITEMS; row += 10) items.copyWithin(row * DIMS, (row - 1) * DIMS, row * DIMS);
/** A user of all zeros is legal under ip, and ties everything. */
users.fill(0, 7 * DIMS, 8 * DIMS);

export const price = (row: number) => row % 7;
export const query = (row: number) => users.subarray(row * DIMS, (row + 1) * DIMS);

/** Generations of one test file, and their folders, until `close`. */
export class Generations {
  readonly #opened: Generation[] = [];
  readonly #folders: string[] = [];

  async load(content: FolderContent, options: Partial<BuildOptions> = {}): Promise<Generation> {
    const [models, data] = [temporaryFolder({ keep: true }), temporaryFolder({ keep: true })];
    this.#folders.push(models, data);
    makeModelsFolder(models, content);
    const generation = await Generation.load(await buildGeneration({ models, data, ...options }));
    this.#opened.push(generation);
    return generation;
  }

  /** The users and items above, with prices. */
  main(files: FolderContent['files'] = {}): Promise<Generation> {
    const table = parquetWriteBuffer({
      columnData: [
        { name: 'id', data: itemIds, type: 'STRING' },
        { name: 'price', data: itemIds.map((_, row) => price(row)), type: 'INT32' },
      ],
    });
    return this.load({
      items: { data: items, dims: DIMS },
      users: { data: users, dims: DIMS },
      files: {
        'embeddings/item_ids.txt': itemIds.join('\n'),
        'embeddings/user_ids.txt': userIds.join('\n'),
        'features/items.parquet': new Uint8Array(table),
        ...files,
      },
    });
  }

  async close(): Promise<void> {
    for (const one of this.#opened) await one.close();
    for (const folder of this.#folders) rmSync(folder, { recursive: true, force: true });
  }
}

export const out = (name = 'out.parquet') => join(temporaryFolder(), name);

/** What brute force gives each user. */
export function judge(
  k: number,
  allowed: (row: number) => boolean = () => true,
  rows = userIds.map((_, row) => row),
  metric: Metric = 'ip',
): Map<Id, Ranked[]> {
  return new Map(rows.map((row) => [userIds[row]!, naiveRank(metric, query(row), items, allowed).slice(0, k)]));
}

export function expectSame(
  found: Candidates,
  expected: Map<Id, Ranked[]>,
  idOf: (row: number) => unknown = (row) => itemIds[row],
): void {
  expect([...found.keys()]).toEqual([...expected.keys()]);
  for (const [user, list] of expected) {
    const candidates = found.get(user)!;
    const ids = candidates.map(({ id }) => id);
    expect(ids, String(user)).toEqual(list.map(({ row }) => idOf(row)));
    candidates.forEach(({ score }, at) => expect(score).toBeCloseTo(list[at]!.score, 5));
  }
}
