/**
 * Files of exclusions/ → sets of item rows. Ids that are not in the generation are counted and left out: lists of seen
 * items are older or newer than an export, and that is no reason not to serve it.
 */
import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { IdMap } from '../ann/ids.js';
import type { ExclusionFile } from '../config/models-folder.js';
import { asBelfryError, BelfryError, show } from '../errors.js';
import type { FeatureColumn } from '../features/feature-column.js';
import { readParquetInWorker } from '../features/parquet-reader.js';
import { Slices } from '../features/slices.js';
import type { Id } from '../types.js';
import { ExclusionSet, ExclusionSets } from './exclusion-sets.js';

export const EXCLUSION_LIMITS = {
  /** Entries of all sets of a generation: 4 bytes each. */
  entries: 200_000_000,
  /** Items of one list, which a search copies and sorts. */
  listItems: 1_000_000,
  /** Users that only a set knows: what one Map holds with room to grow. */
  unknownUsers: 8_000_000,
  /** JSON is read in one piece on the JS thread. */
  jsonBytes: 1024 * 1024,
} as const;

/** Entries between two looks at the clock. */
const STEP = 1024;
/** Lists up to this long are sorted once, here; a longer one would hold up the event loop, and searches sort it. */
const SORTED_ITEMS = 4096;
const USER_COLUMN = 'user_id';
const ITEM_COLUMNS = ['item_id', 'item_ids'];

/** Errors: BELFRY_EXCLUSIONS_INVALID, BELFRY_FILE_UNREADABLE. */
export async function readExclusionSets(
  folder: string,
  files: readonly ExclusionFile[],
  itemIds: IdMap,
  userIds: IdMap | undefined,
): Promise<ExclusionSets> {
  const sets: ExclusionSet[] = [];
  let entries = 0;
  for (const file of files) {
    const set = await readSet(join(folder, file.path), file, itemIds, userIds);
    entries += set.facts.entries;
    if (entries > EXCLUSION_LIMITS.entries)
      throw refuse(file, `the sets hold ${entries} entries and more; expected at most ${EXCLUSION_LIMITS.entries}`);
    sets.push(set);
  }
  return new ExclusionSets(sets);
}

async function readSet(
  path: string,
  file: ExclusionFile,
  itemIds: IdMap,
  userIds: IdMap | undefined,
): Promise<ExclusionSet> {
  if (file.path.endsWith('.parquet')) return readTable(path, file, itemIds, userIds);
  const ids = file.path.endsWith('.json') ? readJson(path, file) : readLines(path, file, itemIds);
  const rows: number[] = [];
  const slices = new Slices();
  let entries = 0;
  for await (const id of ids) {
    if (++entries % STEP === 0 && slices.isOver) await slices.next();
    if (entries > EXCLUSION_LIMITS.listItems) throw tooLong(file);
    rows.push(itemIds.rowOf(id) ?? -1);
  }
  return forEveryone(file, rows, itemIds.size, slices);
}

/** `itemRows` holds -1 for an id that is unknown. Ascending rows, each once, by way of a flag for each item: a sort of them all would hold up the event loop. */
async function forEveryone(
  file: ExclusionFile,
  itemRows: ArrayLike<number>,
  itemCount: number,
  slices: Slices,
): Promise<ExclusionSet> {
  const flags = new Uint8Array(itemCount);
  let unknownItems = 0;
  for (let at = 0; at < itemRows.length; at++) {
    if (at % STEP === 0 && slices.isOver) await slices.next();
    if (itemRows[at]! < 0) unknownItems++;
    else flags[itemRows[at]!] = 1;
  }
  const rows = new Uint32Array(itemRows.length);
  let count = 0;
  for (let row = 0; row < itemCount; row++) {
    if (row % STEP === 0 && slices.isOver) await slices.next();
    if (flags[row] === 1) rows[count++] = row;
  }
  const facts = { users: 0, entries: itemRows.length, unknownItems, unknownUsers: 0, bytes: rows.byteLength };
  return new ExclusionSet({ name: file.name, file: file.path, by: 'everyone', ...facts }, rows.subarray(0, count));
}

/** One id a line, as in item_ids.txt; digits where ids are integers. */
async function* readLines(path: string, file: ExclusionFile, itemIds: IdMap): AsyncGenerator<Id> {
  const handle = await open(path).catch((error: Error) => {
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `${file.path}: ${error.message}`, {
      field: file.path,
      cause: error,
    });
  });
  try {
    let line = 0;
    for await (const read of handle.readLines()) {
      const text = line++ === 0 && read.startsWith('\uFEFF') ? read.slice(1) : read;
      if (text === '') continue;
      if (itemIds.kind === 'string') yield text;
      else if (/^\d{1,16}$/.test(text)) yield Number(text);
      else throw refuse(file, `line ${line}: expected an integer (as the item ids are), received ${show(text)}`);
    }
  } finally {
    await handle.close();
  }
}

async function* readJson(path: string, file: ExclusionFile): AsyncGenerator<Id> {
  const { size } = await stat(path);
  if (size > EXCLUSION_LIMITS.jsonBytes) {
    throw refuse(
      file,
      `expected at most ${EXCLUSION_LIMITS.jsonBytes} bytes of JSON, received ${size}; write a .txt or .parquet`,
    );
  }
  let list: unknown;
  try {
    list = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw refuse(file, `not JSON (${(error as Error).message})`, error);
  }
  if (!Array.isArray(list)) throw refuse(file, `expected a list of item ids, received ${show(list)}`);
  for (const [at, id] of list.entries()) {
    if (typeof id !== 'string' && !Number.isSafeInteger(id))
      throw refuse(file, `entry ${at}: expected an item id (a string or an integer), received ${show(id)}`);
    yield id as Id;
  }
}

/** Columns `user_id` and `item_id`, one pair a row, or a list of items a row; without `user_id` a set for everyone. */
async function readTable(
  path: string,
  file: ExclusionFile,
  itemIds: IdMap,
  userIds: IdMap | undefined,
): Promise<ExclusionSet> {
  const { columns, rows } = await readParquetInWorker(path, file.path).catch((error: unknown) => {
    const known = asBelfryError(error);
    if (known.code !== 'BELFRY_FEATURES_INVALID') throw known;
    throw new BelfryError('BELFRY_EXCLUSIONS_INVALID', known.message, { field: file.path, cause: error });
  });
  const named = (names: readonly string[]) => columns.find(({ name }) => names.includes(name));
  const users = named([USER_COLUMN]);
  const items = named(ITEM_COLUMNS);
  const isScalar = (column: FeatureColumn) => column.kind === 'string' || column.kind === 'number';
  if (items === undefined || items.kind === 'boolean' || (users !== undefined && !isScalar(users))) {
    const found = columns.map(({ name, kind }) => `${name} (${kind.replace('_', ' ')})`).join(', ');
    throw refuse(
      file,
      `expected columns user_id (a string or integer) and item_id or item_ids (an id or a list of them), or item_id alone; found ${found || 'none'}`,
    );
  }
  const slices = new Slices();
  const itemRows = await rowsOfItems(items, itemIds, slices);
  const offsets = 'offsets' in items ? items.offsets : undefined;
  if (users === undefined) {
    if (itemRows.length > EXCLUSION_LIMITS.listItems) throw tooLong(file);
    return forEveryone(file, itemRows, itemIds.size, slices);
  }

  const others = new Map<Id, number>();
  const lists = await listsOfUsers(users, userIds, others, slices);
  if (others.size > EXCLUSION_LIMITS.unknownUsers)
    throw refuse(
      file,
      `more than ${EXCLUSION_LIMITS.unknownUsers} of its users are not in user_ids; export both from the same run`,
    );
  const ends = new Uint32Array((userIds?.size ?? 0) + others.size + 1);
  let unknownItems = 0;
  // Two passes: how long each list is, then its items.
  for (let row = 0, at = 0; row < rows; row++) {
    if (row % STEP === 0 && slices.isOver) await slices.next();
    const end = offsets === undefined ? row + 1 : offsets[row + 1]!;
    for (; at < end; at++) {
      if (itemRows[at]! < 0) unknownItems++;
      else if (lists[row]! >= 0) ends[lists[row]! + 1]!++;
    }
  }
  let withList = 0;
  for (let list = 0; list + 1 < ends.length; list++) {
    if (list % STEP === 0 && slices.isOver) await slices.next();
    const length = ends[list + 1]!;
    if (length > EXCLUSION_LIMITS.listItems) throw tooLong(file);
    if (length > 0) withList++;
    ends[list + 1] = ends[list]! + length;
  }
  const kept = new Uint32Array(ends.at(-1)!);
  const next = ends.slice(0, -1);
  for (let row = 0, at = 0; row < rows; row++) {
    if (row % STEP === 0 && slices.isOver) await slices.next();
    const end = offsets === undefined ? row + 1 : offsets[row + 1]!;
    const list = lists[row]!;
    for (; at < end; at++) if (itemRows[at]! >= 0 && list >= 0) kept[next[list]!++] = itemRows[at]!;
  }
  for (let list = 0; list + 1 < ends.length; list++) {
    if (slices.isOver) await slices.next();
    const length = ends[list + 1]! - ends[list]!;
    if (length > 1 && length <= SORTED_ITEMS) kept.subarray(ends[list], ends[list + 1]).sort();
  }
  const facts = {
    name: file.name,
    file: file.path,
    by: 'user' as const,
    users: withList,
    entries: itemRows.length,
    unknownItems,
    unknownUsers: others.size,
    bytes: kept.byteLength + ends.byteLength,
  };
  return new ExclusionSet(facts, kept, { userIds, others, offsets: ends });
}

/** The item row of each entry; -1 for null and for an id that the generation lacks. */
async function rowsOfItems(column: FeatureColumn, itemIds: IdMap, slices: Slices): Promise<Int32Array> {
  return mapIds(column, (id) => itemIds.rowOf(id) ?? -1, slices);
}

/** The list of each table row; -1 where the user is null. New users are added to `others`. */
async function listsOfUsers(
  column: FeatureColumn,
  userIds: IdMap | undefined,
  others: Map<Id, number>,
  slices: Slices,
): Promise<Int32Array> {
  const first = userIds?.size ?? 0;
  return mapIds(
    column,
    (id) => {
      const known = userIds?.rowOf(id) ?? others.get(id);
      if (known !== undefined) return known;
      if (others.size > EXCLUSION_LIMITS.unknownUsers) return -1; // refused by the caller
      others.set(id, first + others.size);
      return first + others.size - 1;
    },
    slices,
  );
}

/** Strings are looked up once for all rows that hold them. */
async function mapIds(column: FeatureColumn, place: (id: Id) => number, slices: Slices): Promise<Int32Array> {
  const turn = (at: number) => (at % STEP === 0 && slices.isOver ? slices.next() : undefined);
  if ('dictionary' in column) {
    const places = new Int32Array(column.dictionary.length);
    for (let code = 0; code < places.length; code++) {
      if (code % STEP === 0) await turn(code);
      places[code] = place(column.dictionary[code]!);
    }
    const mapped = new Int32Array(column.codes.length);
    for (let at = 0; at < mapped.length; at++) {
      if (at % STEP === 0) await turn(at);
      mapped[at] = column.codes[at]! < 0 ? -1 : places[column.codes[at]!]!;
    }
    return mapped;
  }
  const mapped = new Int32Array(column.values.length);
  for (let at = 0; at < mapped.length; at++) {
    if (at % STEP === 0) await turn(at);
    mapped[at] = Number.isNaN(column.values[at]) ? -1 : place(column.values[at]!);
  }
  return mapped;
}

function tooLong(file: ExclusionFile): BelfryError {
  return refuse(
    file,
    `one list holds more than ${EXCLUSION_LIMITS.listItems} items; mark them in features/items.parquet and filter instead`,
  );
}

function refuse(file: ExclusionFile, reason: string, cause?: unknown): BelfryError {
  return new BelfryError('BELFRY_EXCLUSIONS_INVALID', `${file.path}: ${reason}`, {
    field: file.path,
    ...(cause === undefined ? {} : { cause }),
  });
}
