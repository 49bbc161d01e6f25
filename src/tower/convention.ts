/** Binding without a registry: an input that is named like a feature column takes that column. */
import { BelfryError } from '../errors.js';
import { describe } from '../features/binding.js';
import type { InputBindings } from '../features/binding-schema.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { TensorSpec } from '../types.js';

export function bindByConvention(
  name: string,
  inputs: readonly TensorSpec[],
  table: FeatureTable | undefined,
  side: 'user' | 'item' = 'user',
): InputBindings {
  const reasons: string[] = [];
  const bindings: InputBindings = {};
  for (const input of inputs) {
    const column = table?.column(input.name);
    const width = input.shape?.[1] ?? 1;
    if (column === undefined)
      reasons.push(`input ${input.name} ${describe(input)}: no ${side} feature column has this name`);
    else if ((column.kind === 'string' || column.kind === 'string_list') && input.dtype !== 'string')
      reasons.push(`input ${input.name}: column ${column.name} holds strings, and the vocabulary is not known`);
    else bindings[input.name] = { source: `${side}.${column.name}`, width };
  }
  if (reasons.length > 0) {
    throw new BelfryError(
      'BELFRY_BINDING_MISMATCH',
      `model ${name} has no \`inputs:\` in registry.yaml and cannot be bound by name:\n  - ${reasons.join('\n  - ')}`,
      {
        field: name,
      },
    );
  }
  return bindings;
}
