/** Binding without a registry: an input that is named like a feature column takes that column. */
import { BelfryError } from '../errors.js';
import { describe } from '../features/binding.js';
import type { InputBindings } from '../features/binding-schema.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { TensorSpec } from '../types.js';

export function bindByConvention(
  name: string,
  inputs: readonly TensorSpec[],
  users: FeatureTable | undefined,
): InputBindings {
  const reasons: string[] = [];
  const bindings: InputBindings = {};
  for (const input of inputs) {
    const column = users?.column(input.name);
    const width = input.shape?.[1] ?? 1;
    if (column === undefined)
      reasons.push(`input ${input.name} ${describe(input)}: no user feature column has this name`);
    else if (column.kind === 'string' || column.kind === 'string_list')
      reasons.push(`input ${input.name}: column ${column.name} holds strings, and the vocabulary is not known`);
    else bindings[input.name] = { source: `user.${column.name}`, width };
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
