/** With whose vectors the recall is measured: real users, and not those that the graph learnt its edges from. */
import { splitUsers, spread } from '../../ann/build-graph.js';
import { readRows } from '../../ann/read-rows.js';
import { BelfryError } from '../../errors.js';
import type { Generation } from '../../generation/generation.js';
import { openUsers } from '../../jobs/users.js';

export interface Queries {
  readonly count: number;
  /** count x dims, row-major. */
  readonly vectors: Float32Array;
  readonly source: 'unseen users' | 'users' | 'items' | 'file';
  /** For people: whose vectors these are. */
  readonly note: string;
  /** Rows of the user embeddings; absent for vectors of a file and for items. */
  readonly userRows?: Uint32Array;
}

export interface QueryChoice {
  /** At most so many. */
  readonly count: number;
  /** A `.npy` of query vectors instead of the users of the generation. */
  readonly file?: string | undefined;
  /** Folder that may hold a copy of the file until this returns. */
  readonly temporary: string;
  readonly signal?: AbortSignal | undefined;
}

/** Errors: those of openUsers for a file; BELFRY_NO_USERS where nothing is left to ask with. */
export async function chooseQueries(generation: Generation, choice: QueryChoice): Promise<Queries> {
  if (choice.file !== undefined) return fromFile(generation, choice.file, choice);
  const { users, skippedUsers, items, skippedItems } = generation;
  const skipped = [...skippedUsers];
  if (users !== undefined && users.rows > skipped.length) {
    const hasLearnt = (generation.manifest.graph?.trainingUsers ?? 0) > 0;
    const unseen = hasLearnt ? [...skipped, ...splitUsers(users.rows, skipped).training] : skipped;
    // Where every user taught the graph (there are very few then), they are all there is to ask with.
    const without = unseen.length < users.rows ? unseen : skipped;
    const rows = spread(users.rows, without, Math.min(choice.count, users.rows - without.length));
    const isUnseen = hasLearnt && without === unseen;
    return {
      count: rows.length,
      vectors: await readRows(users, rows),
      source: isUnseen ? 'unseen users' : 'users',
      note: isUnseen ? `${rows.length} users that the graph was not built with` : `${rows.length} users`,
      userRows: rows,
    };
  }
  if (items.rows === skippedItems.size)
    throw new BelfryError('BELFRY_NO_USERS', `generation ${generation.id} holds no vectors to ask with`);
  const rows = spread(items.rows, [...skippedItems], Math.min(choice.count, items.rows - skippedItems.size));
  return {
    count: rows.length,
    vectors: await readRows(items, rows),
    source: 'items',
    note: `${rows.length} items that stand in for users, of which the export has none`,
  };
}

async function fromFile(generation: Generation, file: string, choice: QueryChoice): Promise<Queries> {
  const source = await openUsers({ vectors: file }, generation, choice.temporary, choice.signal);
  try {
    if (source.count === 0)
      throw new BelfryError('BELFRY_NO_USERS', `users: ${file} holds no rows; give query vectors`, { field: 'users' });
    const places = spread(source.count, [], Math.min(choice.count, source.count));
    const { dims } = generation.index.info;
    const vectors = new Float32Array(places.length * dims);
    for (const [at, place] of places.entries()) vectors.set((await source.read(place, place + 1)).vectors, at * dims);
    return { count: places.length, vectors, source: 'file', note: `${places.length} vectors of ${file}` };
  } finally {
    await source.close();
  }
}
