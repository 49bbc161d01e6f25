/**
 * A filter as a bitmap over item rows. It becomes one test of a row, in which strings are dictionary codes; the test
 * runs over all rows in slices, so that a large table or a hostile filter cannot hold up the event loop. The bitmaps of
 * recent filters are kept: a service sees few distinct ones.
 */
import { setImmediate } from 'node:timers/promises';
import { LIMITS } from '../config/schema.js';
import { BelfryError, invalid, show } from '../errors.js';
import type { FeatureColumn } from './feature-column.js';
import type { FeatureTable } from './feature-table.js';

export type Scalar = string | number | boolean;

/**
 * The conditions of one clause hold together; on a list column one entry must fit `eq`, `in` and the range together,
 * and `all` says that every value is there.
 */
export interface Condition {
  readonly field: string;
  readonly eq?: Scalar;
  readonly in?: readonly Scalar[];
  readonly all?: readonly Scalar[];
  readonly lt?: number;
  readonly lte?: number;
  readonly gt?: number;
  readonly gte?: number;
  readonly exists?: boolean;
}

export interface FilterGroup {
  readonly must?: readonly FilterClause[];
  readonly must_not?: readonly FilterClause[];
  readonly should?: readonly FilterClause[];
}

export type FilterClause = Condition | FilterGroup;

const GROUP_KEYS = ['must', 'must_not', 'should'] as const;
const RANGE_KEYS = ['lt', 'lte', 'gt', 'gte'] as const;
const CONDITION_KEYS = ['field', 'eq', 'in', 'all', ...RANGE_KEYS, 'exists'];
const CACHED_FILTERS = 64;
/** Longer filters (lists of ids, mostly) are hardly ever repeated, and their text would fill the cache. */
const CACHED_FILTER_LENGTH = 16_384;
const SLICE_MS = 1;
/** Rows, or words of a dictionary, between two looks at the clock. */
const STEP = 256;

/** Bit r (byte r >> 3, bit r & 7): row r may be returned. */
export type Bitmap = Uint8Array;

type RowTest = (row: number) => boolean;
type ValueTest = (value: Scalar) => boolean;

/** Lets the event loop turn after each slice, and stops work that nobody waits for any more. */
class Slices {
  private end = performance.now() + SLICE_MS;

  constructor(private readonly isLate: () => boolean) {}

  get isOver(): boolean {
    return performance.now() > this.end;
  }

  async next(): Promise<void> {
    await setImmediate();
    if (this.isLate())
      throw new BelfryError('BELFRY_DEADLINE_EXCEEDED', 'filter: the deadline passed while it was evaluated');
    this.end = performance.now() + SLICE_MS;
  }
}

/** Compiles and caches the filters of one generation. `table` is aligned to item rows. */
export class FilterCompiler {
  private readonly cache = new Map<string, Bitmap>();

  constructor(
    private readonly table: FeatureTable,
    private readonly rows: number,
  ) {}

  /**
   * Errors: BELFRY_INVALID_ARGUMENT, BELFRY_UNKNOWN_FIELD; BELFRY_DEADLINE_EXCEEDED once `isLate` says so. The bitmap is
   * shared: do not write to it.
   */
  async compile(filter: FilterGroup, isLate: () => boolean = () => false): Promise<Bitmap> {
    checkShape(filter); // before anything that recurses: a body may nest deeper than the stack
    const key = JSON.stringify(filter);
    const known = this.cache.get(key);
    if (known !== undefined) {
      this.cache.delete(key); // and set again: the map's order is the order of last use
      this.cache.set(key, known);
      return known;
    }
    const slices = new Slices(isLate);
    const test = await this.group(filter, 'filter', slices);
    const bitmap = new Uint8Array(Math.ceil(this.rows / 8));
    for (let row = 0; row < this.rows; row++) {
      if (row % STEP === 0 && slices.isOver) await slices.next();
      if (test(row)) bitmap[row >> 3]! |= 1 << (row & 7);
    }
    if (key.length <= CACHED_FILTER_LENGTH) {
      if (this.cache.size >= CACHED_FILTERS) this.cache.delete(this.cache.keys().next().value as string);
      this.cache.set(key, bitmap);
    }
    return bitmap;
  }

  private async group(group: FilterGroup, path: string, slices: Slices): Promise<RowTest> {
    const testsOf = async (key: (typeof GROUP_KEYS)[number]): Promise<RowTest[]> => {
      const tests: RowTest[] = [];
      for (const [at, clause] of (group[key] ?? []).entries()) {
        const place = `${path}.${key}.${at}`;
        tests.push(
          isGroup(clause) ? await this.group(clause, place, slices) : await this.condition(clause, place, slices),
        );
      }
      return tests;
    };
    const must = await testsOf('must');
    const mustNot = await testsOf('must_not');
    const should = await testsOf('should');
    if (must.length === 1 && mustNot.length === 0 && should.length === 0) return must[0]!;
    return (row) =>
      must.every((test) => test(row)) &&
      !mustNot.some((test) => test(row)) &&
      (should.length === 0 || should.some((test) => test(row)));
  }

  private async condition(condition: Condition, path: string, slices: Slices): Promise<RowTest> {
    const column = this.columnOf(condition.field, path);
    for (const key of RANGE_KEYS) if (condition[key] !== undefined) requireNumbers(column, `${path}.${key}`);
    for (const key of ['eq', 'in', 'all'] as const) {
      for (const value of ([] as Scalar[]).concat((condition[key] as Scalar | Scalar[] | undefined) ?? []))
        requireType(column, value, `${path}.${key}`);
    }
    const tests: RowTest[] = [];
    const fits = valueTest(condition);
    if (fits !== undefined) tests.push(await anyValue(column, fits, slices));
    if (condition.all !== undefined) tests.push(await everyValue(column, new Set(condition.all), slices));
    if (condition.exists !== undefined) {
      const isThere = presence(column);
      tests.push(condition.exists ? isThere : (row) => !isThere(row));
    }
    return tests.length === 1 ? tests[0]! : (row) => tests.every((test) => test(row));
  }

  private columnOf(field: string, path: string): FeatureColumn {
    const column = this.table.column(field);
    if (column === undefined) {
      const known = ['id', ...this.table.columns.map(({ name }) => name)].join(', ');
      throw new BelfryError(
        'BELFRY_UNKNOWN_FIELD',
        `${path}.field: no column ${show(field)} in ${this.table.name}; known: ${known}`,
        { field: `${path}.field` },
      );
    }
    return column;
  }
}

/** Counts of set bits: how many rows a filter admits. */
export function countBits(bitmap: Bitmap): number {
  let count = 0;
  for (let byte of bitmap) {
    for (; byte !== 0; byte &= byte - 1) count++;
  }
  return count;
}

function isGroup(clause: FilterClause): clause is FilterGroup {
  return GROUP_KEYS.some((key) => key in clause);
}

function valueTest(condition: Condition): ValueTest | undefined {
  const tests: ValueTest[] = [];
  const { eq, lt, lte, gt, gte } = condition;
  if (eq !== undefined) tests.push((value) => value === eq);
  if (condition.in !== undefined) {
    const wanted = new Set<Scalar>(condition.in);
    tests.push((value) => wanted.has(value));
  }
  if (lt !== undefined) tests.push((value) => (value as number) < lt);
  if (lte !== undefined) tests.push((value) => (value as number) <= lte);
  if (gt !== undefined) tests.push((value) => (value as number) > gt);
  if (gte !== undefined) tests.push((value) => (value as number) >= gte);
  if (tests.length === 0) return undefined;
  return tests.length === 1 ? tests[0] : (value) => tests.every((test) => test(value));
}

/** The row's value fits, or one entry of its list does. */
async function anyValue(column: FeatureColumn, fits: ValueTest, slices: Slices): Promise<RowTest> {
  switch (column.kind) {
    case 'number': {
      const { values } = column;
      return (row) => !Number.isNaN(values[row]) && fits(values[row]!);
    }
    case 'boolean': {
      const { values } = column;
      return (row) => values[row] !== 2 && fits(values[row] === 1);
    }
    case 'string': {
      const { codes } = column;
      const hits = await codesOf(column.dictionary, fits, slices);
      return (row) => hits.has(codes[row]!);
    }
    case 'string_list': {
      const hits = await codesOf(column.dictionary, fits, slices);
      return anyEntry(column, (code) => hits.has(code));
    }
    case 'number_list':
      return anyEntry({ offsets: column.offsets, codes: column.values }, fits);
  }
}

/** Codes of the words that fit. A word is tested once, not once a row. */
async function codesOf(dictionary: readonly string[], fits: ValueTest, slices: Slices): Promise<Set<number>> {
  const codes = new Set<number>();
  for (let code = 0; code < dictionary.length; code++) {
    if (code % STEP === 0 && slices.isOver) await slices.next();
    if (fits(dictionary[code]!)) codes.add(code);
  }
  return codes;
}

interface Entries {
  readonly offsets: Uint32Array;
  readonly codes: Int32Array | Float64Array;
}

function anyEntry({ offsets, codes }: Entries, fits: (entry: number) => boolean): RowTest {
  return (row) => {
    for (let at = offsets[row]!; at < offsets[row + 1]!; at++) if (fits(codes[at]!)) return true;
    return false;
  };
}

/** Every wanted value is in the row's list. One look at each entry, however many are wanted. */
async function everyValue(column: FeatureColumn, wanted: ReadonlySet<Scalar>, slices: Slices): Promise<RowTest> {
  const isWanted: ValueTest = (value) => wanted.has(value);
  if (column.kind !== 'string_list' && column.kind !== 'number_list')
    return wanted.size === 1 ? anyValue(column, isWanted, slices) : () => false;
  const { offsets } = column;
  const [entries, keys] =
    column.kind === 'number_list'
      ? [column.values, wanted as ReadonlySet<number>]
      : [column.codes, await codesOf(column.dictionary, isWanted, slices)];
  if (keys.size < wanted.size) return () => false;
  const places = new Map([...keys].map((key, place) => [key, place]));
  // The row that last held each key, so that an entry that stands twice counts once.
  const lastRow = new Int32Array(keys.size).fill(-1);
  return (row) => {
    let missing = keys.size;
    for (let at = offsets[row]!; at < offsets[row + 1]! && missing > 0; at++) {
      const place = places.get(entries[at]!);
      if (place === undefined || lastRow[place] === row) continue;
      lastRow[place] = row;
      missing--;
    }
    return missing === 0;
  };
}

function presence(column: FeatureColumn): RowTest {
  switch (column.kind) {
    case 'number':
      return (row) => !Number.isNaN(column.values[row]);
    case 'boolean':
      return (row) => column.values[row] !== 2;
    case 'string':
      return (row) => column.codes[row]! >= 0;
    default:
      return (row) => column.offsets[row + 1]! > column.offsets[row]!;
  }
}

function requireNumbers(column: FeatureColumn, path: string): void {
  if (column.kind === 'number' || column.kind === 'number_list') return;
  throw invalid(path, `a column of numbers (${column.name} holds ${column.kind.replace('_', ' ')}s)`, column.name);
}

/** `"5"` never equals 5, so a value of the wrong type would silently match nothing. */
function requireType(column: FeatureColumn, value: Scalar, path: string): void {
  const wanted = column.kind === 'string_list' ? 'string' : column.kind === 'number_list' ? 'number' : column.kind;
  if (typeof value !== wanted) throw invalid(path, `a ${wanted} (as in column ${column.name})`, value);
}

/** Groups nest, so their shape is checked here and not by the HTTP schema: one walk that also counts. */
function checkShape(filter: FilterGroup): void {
  let clauses = 0;
  const walk = (group: FilterGroup, path: string, depth: number): void => {
    if (depth > LIMITS.filterDepth.max)
      throw invalid(path, `at most ${LIMITS.filterDepth.max} nested groups`, depth, { limit: LIMITS.filterDepth.max });
    for (const key of Object.keys(group)) {
      if (!(GROUP_KEYS as readonly string[]).includes(key))
        throw invalid(`${path}.${key}`, `one of the keys ${GROUP_KEYS.join(', ')}`, key);
    }
    for (const key of GROUP_KEYS) {
      const list: unknown = group[key];
      if (list === undefined) continue;
      if (!Array.isArray(list)) throw invalid(`${path}.${key}`, 'a list of clauses', list);
      for (const [at, clause] of list.entries()) {
        clauses++;
        if (clauses > LIMITS.filterClauses.max) {
          throw invalid('filter', `at most ${LIMITS.filterClauses.max} clauses`, `${clauses} or more`, {
            limit: LIMITS.filterClauses.max,
          });
        }
        const place = `${path}.${key}.${at}`;
        if (typeof clause !== 'object' || clause === null || Array.isArray(clause))
          throw invalid(place, 'a condition or a group', clause);
        if (isGroup(clause)) walk(clause, place, depth + 1);
        else checkCondition(clause as unknown as Record<string, unknown>, place);
      }
    }
  };
  walk(filter, 'filter', 1);
}

function checkCondition(condition: Record<string, unknown>, path: string): void {
  for (const key of Object.keys(condition)) {
    if (!CONDITION_KEYS.includes(key))
      throw invalid(`${path}.${key}`, `one of the keys ${CONDITION_KEYS.join(', ')}`, key);
  }
  if (typeof condition.field !== 'string')
    throw invalid(`${path}.field`, 'the name of an item column', condition.field);
  if (Object.keys(condition).length === 1)
    throw invalid(path, `a condition on ${show(condition.field)} (${CONDITION_KEYS.slice(1).join(', ')})`, condition);
  if (condition.eq !== undefined && !isScalar(condition.eq))
    throw invalid(`${path}.eq`, 'a string, a number or a boolean', condition.eq);
  for (const key of ['in', 'all']) {
    const list = condition[key];
    if (list === undefined) continue;
    const { max } = LIMITS.filterValues;
    if (!Array.isArray(list) || list.length === 0 || list.length > max || !list.every(isScalar)) {
      throw invalid(
        `${path}.${key}`,
        `a list of 1 to ${max} strings, numbers or booleans`,
        Array.isArray(list) && list.length > max ? `${list.length} values` : list,
        { limit: max },
      );
    }
  }
  for (const key of RANGE_KEYS) {
    if (condition[key] !== undefined && !Number.isFinite(condition[key]))
      throw invalid(`${path}.${key}`, 'a number', condition[key]);
  }
  if (condition.exists !== undefined && typeof condition.exists !== 'boolean')
    throw invalid(`${path}.exists`, 'true or false', condition.exists);
}

function isScalar(value: unknown): value is Scalar {
  return (
    typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))
  );
}
