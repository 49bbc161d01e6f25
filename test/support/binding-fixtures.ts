/** A small item table and the shorthand of the binding tests. */
import { type CompileOptions, compileBinding } from '../../src/features/binding.js';
import type { InputBindings } from '../../src/features/binding-schema.js';
import type { FeatureColumn } from '../../src/features/feature-column.js';
import { FeatureTable } from '../../src/features/feature-table.js';
import type { TensorSpec } from '../../src/types.js';

export const id: FeatureColumn = {
  kind: 'string',
  name: 'id',
  codes: Int32Array.from([0, 1, 2]),
  dictionary: ['a', 'b', 'c'],
};
export const items = FeatureTable.fromColumns(
  [
    id,
    { kind: 'number', name: 'size', values: Float64Array.from([1, Number.NaN, 2.5]) },
    { kind: 'number', name: 'huge', values: Float64Array.from([1, 1e39, 0]) },
    { kind: 'number', name: 'long', values: Float64Array.from([1, 3e9, 0]) },
    { kind: 'boolean', name: 'free', values: Uint8Array.from([1, 0, 2]) },
    { kind: 'string', name: 'section', codes: Int32Array.from([0, -1, 1]), dictionary: ['net', 'odd'] },
    {
      kind: 'string_list',
      name: 'tags',
      offsets: Uint32Array.from([0, 3, 3, 4]),
      codes: Int32Array.from([0, 1, 2, 1]),
      dictionary: ['x', 'odd', 'y'],
    },
    {
      kind: 'number_list',
      name: 'weights',
      offsets: Uint32Array.from([0, 2, 2, 3]),
      values: Float64Array.from([5, 6, 7]),
    },
  ],
  { name: 'features/items.parquet' },
);
export const vocabularies = {
  file: (path: string) => Promise.resolve(path === 'sections.txt' ? ['net', 'web'] : ['x', 'y', 'z', 'x']),
  ids: () => ['a', 'b', 'c'],
};

export function compile(inputs: InputBindings, model: TensorSpec[], options: Partial<CompileOptions> = {}) {
  return compileBinding({ name: 'm@1', inputs, model: { inputs: model }, vocabularies, dims: 2, items, ...options });
}
export const spec = (name: string, dtype: TensorSpec['dtype'], ...shape: (number | null)[]): TensorSpec => ({
  name,
  dtype,
  shape,
});
export const ROWS = { rows: 4, itemRows: [0, 1, 2, -1] };

/** The bound source alone, in one float64 input. */
export async function encoded(
  source: InputBindings[string] & object,
  width: number,
  options: Partial<CompileOptions> = {},
): Promise<number[]> {
  const bound = await compile({ x: source }, [spec('x', 'float64', null, width)], options);
  return Array.from(bound.fill(ROWS).x!.data as Float64Array);
}
