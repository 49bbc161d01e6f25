/**
 * The judge of filters: one test of a row after the other, in plain TypeScript over the columns of a table. It shares
 * no code with the compiled and native evaluation but the types.
 */
import type { FeatureColumn, NumberListColumn, StringListColumn } from '../../src/features/feature-column.js';
import type { FeatureTable } from '../../src/features/feature-table.js';
import type { Condition, FilterClause, FilterGroup, Scalar } from '../../src/features/filter.js';

type RowTest = (row: number) => boolean;
type ValueTest = (value: Scalar) => boolean;

/** Rows of the table that pass. */
export function judgeFilter(table: FeatureTable, filter: FilterGroup): number[] {
  const test = groupTest(table, filter);
  return Array.from({ length: table.rows }, (_, row) => row).filter(test);
}

function groupTest(table: FeatureTable, group: FilterGroup): RowTest {
  const testsOf = (clauses: readonly FilterClause[] = []): RowTest[] =>
    clauses.map((clause) =>
      'field' in clause ? conditionTest(table.column(clause.field)!, clause) : groupTest(table, clause),
    );
  const [must, mustNot, should] = [testsOf(group.must), testsOf(group.must_not), testsOf(group.should)];
  return (row) =>
    must.every((test) => test(row)) &&
    !mustNot.some((test) => test(row)) &&
    (should.length === 0 || should.some((test) => test(row)));
}

function conditionTest(column: FeatureColumn, condition: Condition): RowTest {
  const tests: RowTest[] = [];
  const fits = valueTest(condition);
  if (fits !== undefined) tests.push(anyValue(column, fits));
  if (condition.all !== undefined) tests.push(everyValue(column, new Set(condition.all)));
  if (condition.exists !== undefined) {
    const isThere = presence(column);
    tests.push(condition.exists ? isThere : (row) => !isThere(row));
  }
  return (row) => tests.every((test) => test(row));
}

function valueTest({ eq, in: list, lt, lte, gt, gte }: Condition): ValueTest | undefined {
  const tests: ValueTest[] = [];
  if (eq !== undefined) tests.push((value) => value === eq);
  if (list !== undefined) {
    const wanted = new Set<Scalar>(list);
    tests.push((value) => wanted.has(value));
  }
  if (lt !== undefined) tests.push((value) => (value as number) < lt);
  if (lte !== undefined) tests.push((value) => (value as number) <= lte);
  if (gt !== undefined) tests.push((value) => (value as number) > gt);
  if (gte !== undefined) tests.push((value) => (value as number) >= gte);
  return tests.length === 0 ? undefined : (value) => tests.every((test) => test(value));
}

/** The row's value fits, or one entry of its list does. */
function anyValue(column: FeatureColumn, fits: ValueTest): RowTest {
  switch (column.kind) {
    case 'number':
      return (row) => !Number.isNaN(column.values[row]) && fits(column.values[row]!);
    case 'boolean':
      return (row) => column.values[row] !== 2 && fits(column.values[row] === 1);
    case 'string':
      return (row) => column.codes[row]! >= 0 && fits(column.dictionary[column.codes[row]!]!);
    default:
      return (row) => entriesOf(column, row).some(fits);
  }
}

function everyValue(column: FeatureColumn, wanted: ReadonlySet<Scalar>): RowTest {
  if (column.kind !== 'string_list' && column.kind !== 'number_list')
    return wanted.size === 1 ? anyValue(column, (value) => wanted.has(value)) : () => false;
  return (row) => {
    const entries = new Set(entriesOf(column, row));
    return [...wanted].every((value) => entries.has(value));
  };
}

function entriesOf(column: StringListColumn | NumberListColumn, row: number): Scalar[] {
  const [start, end] = [column.offsets[row]!, column.offsets[row + 1]!];
  if (column.kind === 'number_list') return [...column.values.subarray(start, end)];
  return Array.from(column.codes.subarray(start, end), (code) => column.dictionary[code]!);
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
