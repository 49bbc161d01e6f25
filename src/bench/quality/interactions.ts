/**
 * What users took that no model has seen: pairs of user and item, from Parquet or CSV (columns user_id and item_id) or a
 * `.npy` of two columns of integer ids.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { loadAddon } from '../../ann/addon.js';
import type { IdMap } from '../../ann/ids.js';
import { asBelfryError, BelfryError, show } from '../../errors.js';
import type { FeatureColumn } from '../../features/feature-column.js';
import { readParquetInWorker } from '../../features/parquet-reader.js';
import type { Generation } from '../../generation/generation.js';
import type { Id, Row } from '../../types.js';

export interface HeldOut {
  readonly user: Id;
  /** Rows of items, each once. */
  readonly items: readonly Row[];
}

export interface Interactions {
  /** In the order of the file. */
  readonly users: readonly HeldOut[];
  readonly pairs: number;
  /** Pairs that the generation cannot answer for. */
  readonly unknownItems: number;
  readonly unknownUsers: number;
}

/** A whole file in one string, which JS bounds. */
const CSV_BYTES_MAX = 256 * 1024 * 1024;
const COLUMNS = ['user_id', 'item_id'] as const;

/** Errors: BELFRY_INTERACTIONS_INVALID, BELFRY_FILE_UNREADABLE, BELFRY_NPY_*. */
export async function readInteractions(path: string, generation: Generation): Promise<Interactions> {
  const [users, items] = await readPairs(path);
  const { itemIds, skippedItems } = generation;
  const taken = new Map<Id, Set<Row>>();
  let unknownItems = 0;
  let unknownUsers = 0;
  for (let i = 0; i < users.length; i++) {
    const user = asId(users[i]!, kindOfUsers(generation));
    const row = itemIds.rowOf(asId(items[i]!, itemIds.kind));
    if (!isKnown(user, generation)) unknownUsers++;
    else if (row === undefined || skippedItems.has(row)) unknownItems++;
    else taken.set(user, (taken.get(user) ?? new Set()).add(row));
  }
  if (taken.size === 0) {
    const first = users.length === 0 ? 'it holds no pairs' : `first pair: ${show(users[0])}, ${show(items[0])}`;
    throw refuse(
      path,
      `none of its ${users.length} pairs is of a user and an item of generation ${generation.id} (${first})`,
    );
  }
  return {
    users: [...taken].map(([user, rows]) => ({ user, items: [...rows] })),
    pairs: users.length,
    unknownItems,
    unknownUsers,
  };
}

/** A user whom the generation can make a query vector of. */
function isKnown(user: Id, { userIds, skippedUsers, tower, userTable }: Generation): boolean {
  const row = userIds?.rowOf(user);
  return (row !== undefined && !skippedUsers.has(row)) || (tower !== undefined && userTable.rowOf(user) !== undefined);
}

function kindOfUsers({ userIds, userTable }: Generation): IdMap['kind'] {
  return userIds?.kind ?? (typeof userTable.ids[0] === 'number' ? 'integer' : 'string');
}

/** Text of a CSV and integers of a table stand for ids of the other kind: they say the same. */
function asId(value: Id, kind: IdMap['kind']): Id {
  if (kind === 'string') return String(value);
  return typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value;
}

async function readPairs(path: string): Promise<readonly [users: readonly Id[], items: readonly Id[]]> {
  if (path.endsWith('.parquet')) return fromParquet(path);
  if (path.endsWith('.csv')) return fromCsv(path);
  if (path.endsWith('.npy')) return fromNpy(path);
  throw refuse(path, 'expected a .parquet, .csv or .npy');
}

async function fromParquet(path: string) {
  const { columns } = await readParquetInWorker(path, basename(path)).catch((error: unknown) => {
    const known = asBelfryError(error);
    throw known.code === 'BELFRY_FEATURES_INVALID' ? refuse(path, known.message, error) : known;
  });
  const ids = (name: string): Id[] => {
    const column = columns.find((one) => one.name === name);
    if (column?.kind !== 'string' && column?.kind !== 'number') {
      const found = columns.map((one) => `${one.name} (${one.kind.replace('_', ' ')})`).join(', ');
      throw refuse(
        path,
        `expected columns user_id and item_id of strings or integers, one pair a row; found ${found || 'none'}`,
      );
    }
    return cells(column, (row) => refuse(path, `column ${name}, row ${row}: expected an id, received null`));
  };
  return [ids(COLUMNS[0]), ids(COLUMNS[1])] as const;
}

function cells(column: Extract<FeatureColumn, { kind: 'string' | 'number' }>, bad: (row: number) => BelfryError): Id[] {
  if (column.kind === 'number')
    return Array.from(column.values, (value, row) => {
      if (Number.isNaN(value)) throw bad(row);
      return value;
    });
  return Array.from(column.codes, (code, row) => {
    if (code < 0) throw bad(row);
    return column.dictionary[code]!;
  });
}

async function fromCsv(path: string) {
  const bytes = await readFile(path);
  if (bytes.length > CSV_BYTES_MAX)
    throw refuse(
      path,
      `expected at most ${CSV_BYTES_MAX} bytes of CSV, received ${bytes.length}; write a Parquet file`,
    );
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  const lines = text.split(/\r?\n/);
  const header = fieldsOf(lines[0] ?? '');
  const [userAt, itemAt] = COLUMNS.map((name) => header.indexOf(name)) as [number, number];
  if (userAt < 0 || itemAt < 0)
    throw refuse(path, `line 1: expected a header with user_id and item_id, received ${show(lines[0])}`);
  const users: Id[] = [];
  const items: Id[] = [];
  for (let at = 1; at < lines.length; at++) {
    if (lines[at] === '') continue;
    const fields = fieldsOf(lines[at]!);
    const [user, item] = [fields[userAt], fields[itemAt]];
    if (fields.length !== header.length || user === '' || item === '')
      throw refuse(path, `line ${at + 1}: expected ${header.length} fields with two ids, received ${show(lines[at])}`);
    users.push(user!);
    items.push(item!);
  }
  return [users, items] as const;
}

/** One line of RFC 4180; an id holds no line break, so neither does a line. */
function fieldsOf(line: string): string[] {
  if (!line.includes('"')) return line.split(',');
  return Array.from(line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g), ([, quoted, plain]) =>
    quoted === undefined ? plain! : quoted.replaceAll('""', '"'),
  );
}

async function fromNpy(path: string) {
  const info = await loadAddon().npyInfo(path);
  const isWide = info.dtype === 'i8' || info.dtype === 'u8';
  const isPair = info.shape.length === 2 && info.shape[1] === 2;
  if (!isPair || !(isWide || info.dtype === 'i4' || info.dtype === 'u4') || info.fortranOrder || info.bigEndian) {
    throw refuse(
      path,
      `expected integers (i4, i8, u4 or u8, little-endian, C order) of shape (pairs, 2), received ${info.dtype} of shape (${info.shape.join(', ')})`,
    );
  }
  const file = await readFile(path);
  const view = new DataView(file.buffer, file.byteOffset + info.dataOffset);
  const size = isWide ? 8 : 4;
  const at = (place: number): number => {
    if (isWide)
      return Number(info.dtype === 'i8' ? view.getBigInt64(place * 8, true) : view.getBigUint64(place * 8, true));
    return info.dtype === 'i4' ? view.getInt32(place * size, true) : view.getUint32(place * size, true);
  };
  const rows = Array.from({ length: info.shape[0]! }, (_, row) => row);
  return [rows.map((row) => at(2 * row)), rows.map((row) => at(2 * row + 1))] as const;
}

function refuse(path: string, reason: string, cause?: unknown): BelfryError {
  return new BelfryError('BELFRY_INTERACTIONS_INVALID', `interactions: ${path}: ${reason}`, {
    field: 'interactions',
    ...(cause === undefined ? {} : { cause }),
  });
}
