/**
 * Filters as people write them, besides random ones: values of the item table that leave about as much as a share. Real
 * columns go with directions of the vectors, random rows do not.
 */
import type { FilterGroup } from '../../features/filter.js';
import type { FeatureTable } from '../../features/feature-table.js';
import type { Generation } from '../../generation/generation.js';
import type { FilterCase } from './buckets.js';

/** A value stands for a share when it leaves between half and twice of it. */
const NEAR = 2;

/** Errors: those of a filter in a request, for the `own` one. */
export async function columnFilters(
  generation: Generation,
  shares: readonly number[],
  own: FilterGroup | undefined,
): Promise<FilterCase[]> {
  const { filters, itemTable, items } = generation;
  const wanted = shares.flatMap((share) => nearestValue(itemTable, share) ?? []);
  const unique = [...new Map(wanted.map((one) => [one.name, one])).values()];
  if (own !== undefined) unique.push({ name: JSON.stringify(own), group: own });
  const cases: FilterCase[] = [];
  for (const { name, group } of unique) {
    const filter = await filters.evaluate(group);
    if (filter.count > 0) cases.push({ name, share: filter.count / items.rows, filter });
  }
  return cases;
}

/** The value of a string column whose share of the rows is nearest, as a ratio. */
function nearestValue(table: FeatureTable, share: number): { name: string; group: FilterGroup } | undefined {
  let best: { name: string; group: FilterGroup } | undefined;
  let nearest = Math.log(NEAR);
  for (const { name, kind } of table.columns) {
    const column = table.column(name);
    if (kind !== 'string' || column?.kind !== 'string') continue;
    const counts = new Uint32Array(column.dictionary.length);
    for (const code of column.codes) if (code >= 0) counts[code]!++;
    counts.forEach((count, code) => {
      const distance = Math.abs(Math.log(count / table.rows / share));
      if (distance >= nearest) return;
      nearest = distance;
      const value = column.dictionary[code]!;
      best = { name: `${name} = ${value}`, group: { must: [{ field: name, eq: value }] } };
    });
  }
  return best;
}
