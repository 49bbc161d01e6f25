/** What changed between the generation before and this one: who came and went, and whether users get other items. */
import { join } from 'node:path';
import { loadAddon, type NativeMatrix } from '../../ann/addon.js';
import { spread } from '../../ann/build-graph.js';
import type { IdMap } from '../../ann/ids.js';
import { readRows } from '../../ann/read-rows.js';
import type { PublishedGeneration } from '../../generation/data-folder.js';
import type { Generation } from '../../generation/generation.js';
import { loadIds } from '../../generation/load-ids.js';
import type { VectorSection } from '../../generation/manifest.js';
import { type Interval, meanInterval } from '../interval.js';
import { median } from '../statistics.js';
import { exactLists } from './searches.js';

export interface SideDrift {
  readonly added: number;
  readonly removed: number;
  readonly common: number;
  /** Mean norm now over mean norm before. */
  readonly normRatio: number;
  /** Median cosine between the vectors of one id: 1 unmoved; near 0 after a new training, which turns the space. */
  readonly cosine: number | null;
}

export interface Drift {
  readonly previous: string;
  readonly items: SideDrift;
  readonly users?: SideDrift | undefined;
  /** Share of a user's exact top k of before that is in the exact top k of now, by item id; users of both. */
  readonly overlap?: Interval | undefined;
  /** Why vectors and answers were not compared. */
  readonly note?: string | undefined;
}

const SAMPLE = 2000;
const USERS = 500;

interface Side {
  readonly ids: IdMap;
  readonly matrix: NativeMatrix;
  readonly section: VectorSection;
}

export interface DriftOptions {
  readonly k: number;
  readonly onProgress: (stage: string, done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

export async function driftBetween(
  before: PublishedGeneration,
  now: Generation,
  options: DriftOptions,
): Promise<Drift> {
  options.onProgress('drift', 0, 1);
  const opened: NativeMatrix[] = [];
  const open = async (section: VectorSection): Promise<Side> => {
    const matrix = await loadAddon().openMatrix(join(before.folder, section.file));
    opened.push(matrix);
    return { ids: await loadIds(before.folder, section.idsFile, section.count, section.file), matrix, section };
  };
  try {
    const { manifest } = before;
    const oldItems = await open(manifest.items);
    const items = sideDrift(oldItems, {
      ids: now.itemIds,
      matrix: now.items,
      section: now.manifest.items,
    });
    const oldUsers = manifest.users === undefined ? undefined : await open(manifest.users);
    const newUsers =
      now.users === undefined || now.userIds === undefined || now.manifest.users === undefined
        ? undefined
        : { ids: now.userIds, matrix: now.users, section: now.manifest.users };
    const bothUsers = oldUsers !== undefined && newUsers !== undefined;
    const users = bothUsers ? sideDrift(oldUsers, newUsers) : undefined;
    const overlap = bothUsers ? await answerOverlap(before, oldItems, oldUsers, newUsers, now, options) : undefined;
    const isOtherWidth = oldItems.matrix.dims !== now.items.dims;
    return {
      previous: before.id,
      items: await items,
      ...(users === undefined ? {} : { users: await users }),
      ...(overlap === undefined ? {} : { overlap }),
      ...(isOtherWidth ? { note: `vectors had ${oldItems.matrix.dims} dims and have ${now.items.dims}` } : {}),
    };
  } finally {
    for (const matrix of opened) matrix.close();
    options.onProgress('drift', 1, 1);
  }
}

async function sideDrift(before: Side, now: Side): Promise<SideDrift> {
  const common: [before: number, now: number][] = [];
  for (let row = 0; row < now.ids.size; row++) {
    const old = before.ids.rowOf(now.ids.idOf(row));
    if (old !== undefined) common.push([old, row]);
  }
  const taken = [...spread(common.length, [], Math.min(SAMPLE, common.length))].map((at) => common[at]!);
  const isComparable = before.matrix.dims === now.matrix.dims && taken.length > 0;
  return {
    added: now.ids.size - common.length,
    removed: before.ids.size - common.length,
    common: common.length,
    normRatio: now.section.norms.mean / before.section.norms.mean,
    cosine: isComparable ? await medianCosine(before.matrix, now.matrix, taken) : null,
  };
}

async function medianCosine(
  before: NativeMatrix,
  now: NativeMatrix,
  pairs: readonly (readonly [number, number])[],
): Promise<number> {
  const { dims } = now;
  const a = await readRows(
    before,
    Uint32Array.from(pairs, ([row]) => row),
  );
  const b = await readRows(
    now,
    Uint32Array.from(pairs, ([, row]) => row),
  );
  return median(
    pairs.map((_, at) => {
      let [dot, aa, bb] = [0, 0, 0];
      for (let d = at * dims; d < (at + 1) * dims; d++) {
        dot += a[d]! * b[d]!;
        aa += a[d]! ** 2;
        bb += b[d]! ** 2;
      }
      return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
    }),
  );
}

/** The same users ask both generations, each with its own vector of then. */
async function answerOverlap(
  before: PublishedGeneration,
  oldItems: Side,
  oldUsers: Side,
  newUsers: Side,
  now: Generation,
  { k, signal }: DriftOptions,
): Promise<Interval | undefined> {
  const gone = new Set(before.manifest.users?.skippedRows ?? []);
  const common = [
    ...spread(newUsers.ids.size, [...now.skippedUsers], Math.min(4 * USERS, newUsers.ids.size - now.skippedUsers.size)),
  ]
    .map((row) => [oldUsers.ids.rowOf(newUsers.ids.idOf(row)), row] as const)
    .filter((pair): pair is readonly [number, number] => pair[0] !== undefined && !gone.has(pair[0]))
    .slice(0, USERS);
  if (common.length === 0) return undefined;
  const index = await loadAddon().createIndex({ matrix: oldItems.matrix, metric: before.manifest.metric });
  try {
    const old = await exactLists({
      index,
      queries: await readRows(
        oldUsers.matrix,
        Uint32Array.from(common, ([row]) => row),
      ),
      k,
      exclude: Uint32Array.from(before.manifest.items.skippedRows),
      signal,
    });
    const fresh = await exactLists({
      index: now.index,
      queries: await readRows(
        newUsers.matrix,
        Uint32Array.from(common, ([, row]) => row),
      ),
      k,
      exclude: Uint32Array.from(now.skippedItems),
      signal,
    });
    return meanInterval(
      common.map((_, q) => {
        const idsNow = new Set(
          Array.from(fresh.rows.subarray(q * fresh.width, q * fresh.width + fresh.counts[q]!), (row) =>
            now.itemIds.idOf(row),
          ),
        );
        const was = old.rows.subarray(q * old.width, q * old.width + old.counts[q]!);
        return (
          was.reduce((sum, row) => sum + (idsNow.has(oldItems.ids.idOf(row)) ? 1 : 0), 0) / Math.max(1, was.length)
        );
      }),
    );
  } finally {
    index.close();
  }
}
