/** Metadata of changed items as columns, of the kinds that the item table of the generation has: for filters and for builds. */
import { Dictionary, type FeatureColumn } from '../features/feature-column.js';
import { FeatureTable } from '../features/feature-table.js';
import type { ColumnKind } from '../features/feature-column.js';
import type { Features, FeatureValue, Id } from '../types.js';

export interface TableRow {
  readonly id: Id;
  /** Values of the kinds of the columns; a column that is absent is null, one of another kind too. */
  readonly metadata: Features;
}

/** A table of these rows with the columns, and under the name, of `like`. */
export function tableOf(like: FeatureTable, rows: readonly TableRow[]): FeatureTable {
  const columns = like.columns.map(({ name, kind }) =>
    columnOf(
      name,
      kind,
      rows.map(({ metadata }) => (Object.hasOwn(metadata, name) ? metadata[name]! : null)),
    ),
  );
  const ids = rows.map(({ id }) => id);
  const isNumeric = ids.every((id) => typeof id === 'number');
  const idColumn: FeatureColumn = isNumeric
    ? { kind: 'number', name: 'id', values: Float64Array.from(ids as number[]) }
    : { kind: 'string', name: 'id', codes: Int32Array.from(ids, (_, row) => row), dictionary: ids.map(String) };
  return FeatureTable.fromColumns([idColumn, ...columns], { name: like.name });
}

export function columnOf(name: string, kind: ColumnKind, values: readonly FeatureValue[]): FeatureColumn {
  switch (kind) {
    case 'number':
      return { kind, name, values: Float64Array.from(values, (one) => (typeof one === 'number' ? one : Number.NaN)) };
    case 'boolean':
      return { kind, name, values: Uint8Array.from(values, (one) => (typeof one === 'boolean' ? Number(one) : 2)) };
    case 'string': {
      const words = new Dictionary();
      const codes = Int32Array.from(values, (one) => (typeof one === 'string' ? words.encode(one) : -1));
      return { kind, name, codes, dictionary: words.values };
    }
    case 'string_list': {
      const words = new Dictionary();
      const lists = listsOf(values, (entry): entry is string => typeof entry === 'string');
      const codes = Int32Array.from(lists.entries, (entry) => words.encode(entry));
      return { kind, name, offsets: lists.offsets, codes, dictionary: words.values };
    }
    case 'number_list': {
      const lists = listsOf(values, (entry): entry is number => typeof entry === 'number');
      return { kind, name, offsets: lists.offsets, values: Float64Array.from(lists.entries) };
    }
  }
}

function listsOf<T extends string | number>(
  values: readonly FeatureValue[],
  fits: (entry: string | number) => entry is T,
): { offsets: Uint32Array; entries: T[] } {
  const offsets = new Uint32Array(values.length + 1);
  const entries: T[] = [];
  for (const [row, value] of values.entries()) {
    if (Array.isArray(value)) for (const entry of value as (string | number)[]) if (fits(entry)) entries.push(entry);
    offsets[row + 1] = entries.length;
  }
  return { offsets, entries };
}
