/**
 * A filter as a caller writes it: checked, and compiled to a program of plain data in which strings are dictionary codes
 * and item ids are rows. Native code evaluates the program (native/filter/). A hostile filter holds a quarter of a
 * million values, so both steps work in slices.
 */
import { LIMITS } from '../config/schema.js';
import { BelfryError, invalid, show } from '../errors.js';
import type { Id, Row } from '../types.js';
import type { ColumnKind } from './feature-column.js';
import { type FilterProgram, OPEN_ABOVE, OPEN_BELOW, ProgramWriter } from './filter-program.js';
import type { Slices } from './slices.js';

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

/** What a filter may name. `id` is a field too: of kind string or number, with a value in every row. */
export interface FilterFields {
  /** What messages call the table. */
  readonly table: string;
  readonly names: readonly string[];
  kindOf(field: string): ColumnKind | undefined;
  /** The code of a word in a column of strings; undefined when no row holds it. */
  codeOf(field: string, word: string): number | undefined;
  rowOf(id: Id): Row | undefined;
}

export const ID_FIELD = 'id';

const GROUP_KEYS = ['must', 'must_not', 'should'] as const;
const RANGE_KEYS = ['lt', 'lte', 'gt', 'gte'] as const;
const CONDITION_KEYS = ['field', 'eq', 'in', 'all', ...RANGE_KEYS, 'exists'];
/** Values between two looks at the clock. */
const STEP = 256;
/** Longer than most numbers, with its comma. */
const NUMBER_LENGTH = 20;

/** Errors: BELFRY_INVALID_ARGUMENT, BELFRY_UNKNOWN_FIELD. The shape of `filter` has been checked (checkFilter). */
export async function compileFilter(filter: FilterGroup, fields: FilterFields, slices: Slices): Promise<FilterProgram> {
  const compiler = new Compiler(fields, slices);
  await compiler.group(filter, 'filter');
  return compiler.program.finish();
}

class Compiler {
  readonly program = new ProgramWriter();
  private looked = 0;

  constructor(
    private readonly fields: FilterFields,
    private readonly slices: Slices,
  ) {}

  /** Leaves one bitmap on the stack, as every method here that pushes. */
  async group({ must = [], must_not: mustNot = [], should = [] }: FilterGroup, path: string): Promise<void> {
    const { program } = this;
    for (const [at, clause] of must.entries()) {
      await this.clause(clause, `${path}.must.${at}`);
      if (at > 0) program.join('and');
    }
    const isAlone = must.length + mustNot.length === 0 && should.length > 0;
    if (must.length === 0 && !isAlone) program.pushAll();
    for (const [at, clause] of mustNot.entries()) {
      await this.clause(clause, `${path}.must_not.${at}`);
      program.join('andNot');
    }
    for (const [at, clause] of should.entries()) {
      await this.clause(clause, `${path}.should.${at}`);
      if (at > 0) program.join('or');
    }
    if (should.length > 0 && !isAlone) program.join('and');
  }

  private clause(clause: FilterClause, path: string): Promise<void> {
    return isGroup(clause) ? this.group(clause, path) : this.condition(clause, path);
  }

  private async condition(condition: Condition, path: string): Promise<void> {
    const { program } = this;
    const { field, eq, all, exists } = condition;
    if (this.slices.isOver) await this.slices.next();
    const kind = this.kindOf(field, path);
    for (const key of RANGE_KEYS) if (condition[key] !== undefined) requireNumbers(field, kind, `${path}.${key}`);
    for (const key of ['eq', 'in', 'all'] as const) {
      for (const value of ([] as Scalar[]).concat((condition[key] as Scalar | Scalar[] | undefined) ?? []))
        requireType(field, kind, value, `${path}.${key}`);
    }
    let tests = 0;
    const join = () => {
      if (tests++ > 0) program.join('and');
    };
    const range = rangeOf(condition);
    if (eq !== undefined || condition.in !== undefined) {
      const values = (condition.in ?? [eq!]).filter(
        (value) => (eq === undefined || value === eq) && (range === undefined || isWithin(value as number, range)),
      );
      await this.anyValue(field, kind, values);
      join();
    } else if (range !== undefined) {
      const first = program.numbersEnd;
      program.addNumber(range.low);
      program.addNumber(range.high);
      program.push(
        'inRange',
        field,
        first,
        (range.isOpenBelow ? OPEN_BELOW : 0) + (range.isOpenAbove ? OPEN_ABOVE : 0),
      );
      join();
    }
    if (all !== undefined) {
      await this.everyValue(field, kind, [...new Set(all)]);
      join();
    }
    if (exists !== undefined) {
      if (!exists) program.pushAll();
      if (field === ID_FIELD) program.pushAll();
      else program.push('present', field);
      if (!exists) program.join('andNot');
      join();
    }
    if (tests === 0) program.pushAll(); // keys without values
  }

  /** The row's value is one of these, or one entry of its list is. */
  private async anyValue(field: string, kind: ColumnKind, values: readonly Scalar[]): Promise<void> {
    const { program } = this;
    if (field === ID_FIELD) {
      const first = program.codesEnd;
      for (const value of values) {
        await this.turn();
        const row = this.fields.rowOf(value as Id);
        if (row !== undefined) program.addCode(row);
      }
      program.pushRows(first);
    } else if (kind === 'boolean') {
      const [isTrue, isFalse] = [values.includes(true), values.includes(false)];
      if (isTrue && isFalse) program.push('present', field);
      else if (isTrue || isFalse) program.push(isTrue ? 'isTrue' : 'isFalse', field);
      else program.pushNone();
    } else if (kind === 'string' || kind === 'string_list') {
      const first = program.codesEnd;
      await this.addWords(field, values);
      program.push('anyWord', field, first, program.codesEnd - first);
    } else {
      const first = program.numbersEnd;
      for (const value of values) program.addNumber(value as number);
      program.push('anyNumber', field, first, values.length);
    }
  }

  /** All of these distinct values are in the row's list. */
  private async everyValue(field: string, kind: ColumnKind, wanted: readonly Scalar[]): Promise<void> {
    const { program } = this;
    if (kind === 'string_list') {
      const first = program.codesEnd;
      const found = await this.addWords(field, wanted);
      if (found === wanted.length) program.push('everyWord', field, first, found);
      else program.pushNone();
    } else if (kind === 'number_list') {
      const first = program.numbersEnd;
      for (const value of wanted) program.addNumber(value as number);
      program.push('everyNumber', field, first, wanted.length);
    } else if (wanted.length === 1) await this.anyValue(field, kind, wanted);
    else program.pushNone();
  }

  /** Adds the codes of words that some row holds; resolves to how many there are. */
  private async addWords(field: string, words: readonly Scalar[]): Promise<number> {
    let found = 0;
    for (const word of words) {
      await this.turn();
      const code = this.fields.codeOf(field, word as string);
      if (code === undefined) continue;
      this.program.addCode(code);
      found++;
    }
    return found;
  }

  private turn(): Promise<void> | undefined {
    return ++this.looked % STEP === 0 && this.slices.isOver ? this.slices.next() : undefined;
  }

  private kindOf(field: string, path: string): ColumnKind {
    const kind = this.fields.kindOf(field);
    if (kind !== undefined) return kind;
    throw new BelfryError(
      'BELFRY_UNKNOWN_FIELD',
      `${path}.field: no column ${show(field)} in ${this.fields.table}; known: ${this.fields.names.join(', ')}`,
      { field: `${path}.field` },
    );
  }
}

interface Range {
  readonly low: number;
  readonly high: number;
  readonly isOpenBelow: boolean;
  readonly isOpenAbove: boolean;
}

function rangeOf({ lt, lte, gt, gte }: Condition): Range | undefined {
  if ((lt ?? lte ?? gt ?? gte) === undefined) return undefined;
  const [above, from] = [gt ?? Number.NEGATIVE_INFINITY, gte ?? Number.NEGATIVE_INFINITY];
  const [below, to] = [lt ?? Number.POSITIVE_INFINITY, lte ?? Number.POSITIVE_INFINITY];
  return {
    low: Math.max(above, from),
    high: Math.min(below, to),
    isOpenBelow: gt !== undefined && gt >= from,
    isOpenAbove: lt !== undefined && lt <= to,
  };
}

function isWithin(value: number, { low, high, isOpenBelow, isOpenAbove }: Range): boolean {
  return (isOpenBelow ? value > low : value >= low) && (isOpenAbove ? value < high : value <= high);
}

function isGroup(clause: FilterClause): clause is FilterGroup {
  return GROUP_KEYS.some((key) => key in clause);
}

function requireNumbers(field: string, kind: ColumnKind, path: string): void {
  if (kind === 'number' || kind === 'number_list') return;
  throw invalid(path, `a column of numbers (${field} holds ${kind.replace('_', ' ')}s)`, field);
}

/** `"5"` never equals 5, so a value of the wrong type would silently match nothing. */
function requireType(field: string, kind: ColumnKind, value: Scalar, path: string): void {
  const wanted = kind === 'string_list' ? 'string' : kind === 'number_list' ? 'number' : kind;
  if (typeof value !== wanted) throw invalid(path, `a ${wanted} (as in column ${field})`, value);
}

/**
 * Groups nest, so their shape is checked here and not by the HTTP schema: one walk that also counts. Resolves to about
 * the length of the filter as text. Error: BELFRY_INVALID_ARGUMENT.
 */
export async function checkFilter(filter: FilterGroup, slices: Slices): Promise<number> {
  let clauses = 0;
  let length = 0;
  const walk = async (group: FilterGroup, path: string, depth: number): Promise<void> => {
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
        if (slices.isOver) await slices.next();
        clauses++;
        if (clauses > LIMITS.filterClauses.max) {
          throw invalid('filter', `at most ${LIMITS.filterClauses.max} clauses`, `${clauses} or more`, {
            limit: LIMITS.filterClauses.max,
          });
        }
        const place = `${path}.${key}.${at}`;
        if (typeof clause !== 'object' || clause === null || Array.isArray(clause))
          throw invalid(place, 'a condition or a group', clause);
        if (isGroup(clause)) await walk(clause, place, depth + 1);
        else length += checkCondition(clause as unknown as Record<string, unknown>, place);
      }
    }
  };
  await walk(filter, 'filter', 1);
  return length;
}

/** Returns about its length as text. */
function checkCondition(condition: Record<string, unknown>, path: string): number {
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
  let length = condition.field.length + 2 * NUMBER_LENGTH + lengthOf(condition.eq);
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
    for (const value of list) length += lengthOf(value);
  }
  for (const key of RANGE_KEYS) {
    if (condition[key] !== undefined && !Number.isFinite(condition[key]))
      throw invalid(`${path}.${key}`, 'a number', condition[key]);
  }
  if (condition.exists !== undefined && typeof condition.exists !== 'boolean')
    throw invalid(`${path}.exists`, 'true or false', condition.exists);
  return length;
}

function lengthOf(value: unknown): number {
  return typeof value === 'string' ? value.length + 3 : NUMBER_LENGTH;
}

function isScalar(value: unknown): value is Scalar {
  return (
    typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))
  );
}
