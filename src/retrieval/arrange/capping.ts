/** Caps over candidates: which groups a row counts for, and how many of each may still be taken. */
import type { NativeCaps } from '../../ann/addon.js';
import { BelfryError, show } from '../../errors.js';
import type { Condition, Scalar } from '../../features/filter.js';
import type { Row } from '../../types.js';
import type { ItemView } from '../../upserts/item-view.js';
import type { Cap } from './rules.js';

interface Group {
  readonly field: string;
  readonly value: Scalar;
  readonly max: number;
}

/** Values of a filter clause, as many as it may have. */
const CLAUSE_VALUES = 1024;

/** A group is one value of one capped column; it has a number from its first sight on. */
export class Capping {
  readonly groups: Group[] = [];
  private readonly numbers: Map<Scalar, number>[];

  /** Error: BELFRY_UNKNOWN_FIELD. */
  constructor(
    private readonly caps: readonly Cap[],
    private readonly view: ItemView,
  ) {
    const { itemTable } = view.generation;
    const known = itemTable.columns.map(({ name }) => name);
    for (const [at, { field }] of caps.entries()) {
      if (known.includes(field)) continue;
      throw new BelfryError(
        'BELFRY_UNKNOWN_FIELD',
        `caps.${at}.field: no column ${show(field)} in ${itemTable.name}; known: ${known.join(', ') || 'none'}`,
        { field: `caps.${at}.field` },
      );
    }
    this.numbers = caps.map(() => new Map<Scalar, number>());
  }

  /** Numbers of the groups that a row counts for; an entry that stands twice in a list counts once. */
  groupsOf(row: Row): number[] {
    const groups: number[] = [];
    for (const [at, { field }] of this.caps.entries()) {
      const value = this.view.valueAt(row, field);
      if (value === null) continue;
      for (const one of typeof value === 'object' ? new Set(value) : [value]) groups.push(this.numberOf(at, one));
    }
    return groups;
  }

  /** As the native core takes them. */
  ofRows(rows: Uint32Array): NativeCaps {
    const offsets = new Uint32Array(rows.length + 1);
    const groups: number[] = [];
    for (const [at, row] of rows.entries()) {
      groups.push(...this.groupsOf(row));
      offsets[at + 1] = groups.length;
    }
    return { offsets, groups: Uint32Array.from(groups), limits: Uint32Array.from(this.groups, ({ max }) => max) };
  }

  private numberOf(cap: number, value: Scalar): number {
    const numbers = this.numbers[cap]!;
    let number = numbers.get(value);
    if (number === undefined) {
      number = this.groups.length;
      const { field, max } = this.caps[cap]!;
      this.groups.push({ field, value, max });
      numbers.set(value, number);
    }
    return number;
  }
}

/** What a list that is being put together may still hold. */
export class Allowance {
  private readonly taken: number[] = [];

  constructor(private readonly capping: Capping) {}

  /** Counts a row that is in the list whatever the caps say. */
  count(row: Row): void {
    for (const group of this.capping.groupsOf(row)) this.taken[group] = (this.taken[group] ?? 0) + 1;
  }

  /** Takes the row, unless one of its groups is full. */
  take(row: Row): boolean {
    const groups = this.capping.groupsOf(row);
    if (groups.some((group) => (this.taken[group] ?? 0) >= this.capping.groups[group]!.max)) return false;
    for (const group of groups) this.taken[group] = (this.taken[group] ?? 0) + 1;
    return true;
  }

  /** Filter clauses that the items of full groups match. */
  fullGroups(): Condition[] {
    const values = new Map<string, Scalar[]>();
    for (const [group, { field, value, max }] of this.capping.groups.entries()) {
      if ((this.taken[group] ?? 0) < max) continue;
      values.set(field, [...(values.get(field) ?? []), value]);
    }
    const clauses: Condition[] = [];
    for (const [field, full] of values) {
      for (let at = 0; at < full.length; at += CLAUSE_VALUES)
        clauses.push({ field, in: full.slice(at, at + CLAUSE_VALUES) });
    }
    return clauses;
  }
}
