/**
 * A filter as a bitmap over item rows. Each condition is evaluated once over a whole column (a dictionary code is
 * compared once, not once a row), and the bitmaps of recent filters are kept: a service sees few distinct ones.
 */
import { LIMITS } from '../config/schema.js';
import { BelfryError, invalid, show } from '../errors.js';
import type { FeatureColumn } from './feature-column.js';
import type { FeatureTable } from './feature-table.js';

export type Scalar = string | number | boolean;

/** The conditions of one clause hold together; on a list column each holds when any entry fits (`all`: every value is there). */
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

/** Bit r (byte r >> 3, bit r & 7): row r may be returned. */
export type Bitmap = Uint8Array;

/** Compiles and caches the filters of one generation. `table` is aligned to item rows. */
export class FilterCompiler {
  private readonly cache = new Map<string, Bitmap>();

  constructor(
    private readonly table: FeatureTable,
    private readonly rows: number,
  ) {}

  /** Errors: BELFRY_INVALID_ARGUMENT, BELFRY_UNKNOWN_FIELD. The bitmap is shared: do not write to it. */
  compile(filter: FilterGroup): Bitmap {
    const key = JSON.stringify(filter);
    const known = this.cache.get(key);
    if (known !== undefined) {
      this.cache.delete(key); // and set again: the map's order is the order of last use
      this.cache.set(key, known);
      return known;
    }
    checkShape(filter);
    const bitmap = packBits(this.group(filter, 'filter'));
    if (this.cache.size >= CACHED_FILTERS) this.cache.delete(this.cache.keys().next().value as string);
    this.cache.set(key, bitmap);
    return bitmap;
  }

  /** One byte a row while combining: plain loops that the engine compiles well. */
  private group(group: FilterGroup, path: string): Uint8Array {
    const result = new Uint8Array(this.rows).fill(1);
    group.must?.forEach((clause, at) => {
      and(result, this.clause(clause, `${path}.must.${at}`), 1);
    });
    group.must_not?.forEach((clause, at) => {
      and(result, this.clause(clause, `${path}.must_not.${at}`), 0);
    });
    if (group.should !== undefined && group.should.length > 0) {
      const any = new Uint8Array(this.rows);
      group.should.forEach((clause, at) => {
        or(any, this.clause(clause, `${path}.should.${at}`));
      });
      and(result, any, 1);
    }
    return result;
  }

  private clause(clause: FilterClause, path: string): Uint8Array {
    return isGroup(clause) ? this.group(clause, path) : this.condition(clause, path);
  }

  private condition(condition: Condition, path: string): Uint8Array {
    const column = this.columnOf(condition.field, path);
    const result = new Uint8Array(this.rows).fill(1);
    for (const key of RANGE_KEYS) if (condition[key] !== undefined) requireNumbers(column, `${path}.${key}`);
    for (const key of ['eq', 'in', 'all'] as const) {
      for (const value of ([] as Scalar[]).concat((condition[key] as Scalar | Scalar[] | undefined) ?? []))
        requireType(column, value, `${path}.${key}`);
    }
    const test = testOf(condition);
    if (test !== undefined) and(result, matches(column, this.rows, test, path), 1);
    if (condition.all !== undefined) {
      for (const value of condition.all)
        and(
          result,
          matches(column, this.rows, (one) => one === value, path),
          1,
        );
    }
    if (condition.exists !== undefined) and(result, presence(column, this.rows), condition.exists ? 1 : 0);
    return result;
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

export function packBits(flags: Uint8Array): Bitmap {
  const bitmap = new Uint8Array(Math.ceil(flags.length / 8));
  for (let row = 0; row < flags.length; row++) if (flags[row] === 1) bitmap[row >> 3]! |= 1 << (row & 7);
  return bitmap;
}

function isGroup(clause: FilterClause): clause is FilterGroup {
  return GROUP_KEYS.some((key) => key in clause);
}

type Test = (value: Scalar) => boolean;

function testOf(condition: Condition): Test | undefined {
  const tests: Test[] = [];
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

function matches(column: FeatureColumn, rows: number, test: Test, path: string): Uint8Array {
  const result = new Uint8Array(rows);
  switch (column.kind) {
    case 'number':
      for (let row = 0; row < rows; row++) {
        const value = column.values[row]!;
        if (!Number.isNaN(value) && test(value)) result[row] = 1;
      }
      return result;
    case 'boolean':
      for (let row = 0; row < rows; row++)
        if (column.values[row] !== 2 && test(column.values[row] === 1)) result[row] = 1;
      return result;
    case 'string': {
      const hit = column.dictionary.map(test);
      for (let row = 0; row < rows; row++) if (column.codes[row]! >= 0 && hit[column.codes[row]!]) result[row] = 1;
      return result;
    }
    case 'string_list': {
      const hit = column.dictionary.map(test);
      return anyEntry(column.offsets, rows, (at) => hit[column.codes[at]!]!);
    }
    case 'number_list':
      return anyEntry(column.offsets, rows, (at) => test(column.values[at]!));
    default:
      throw invalid(path, 'a column that can be filtered', (column as FeatureColumn).name);
  }
}

function anyEntry(offsets: Uint32Array, rows: number, test: (at: number) => boolean): Uint8Array {
  const result = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    for (let at = offsets[row]!; at < offsets[row + 1]!; at++) {
      if (test(at)) {
        result[row] = 1;
        break;
      }
    }
  }
  return result;
}

function presence(column: FeatureColumn, rows: number): Uint8Array {
  const result = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    const isThere =
      column.kind === 'number'
        ? !Number.isNaN(column.values[row])
        : column.kind === 'boolean'
          ? column.values[row] !== 2
          : column.kind === 'string'
            ? column.codes[row]! >= 0
            : column.offsets[row + 1]! > column.offsets[row]!;
    if (isThere) result[row] = 1;
  }
  return result;
}

function and(target: Uint8Array, other: Uint8Array, wanted: 0 | 1): void {
  for (let row = 0; row < target.length; row++) if (other[row] !== wanted) target[row] = 0;
}

function or(target: Uint8Array, other: Uint8Array): void {
  for (let row = 0; row < target.length; row++) target[row]! |= other[row]!;
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
