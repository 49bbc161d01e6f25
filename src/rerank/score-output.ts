/** What a scorer answers, as one score per candidate: which output, which task of it, which activation. */
import { BelfryError } from '../errors.js';
import type { OutputBinding } from '../features/binding-schema.js';
import { float32Of } from '../inference/output-values.js';
import type { TensorData, TensorSpec } from '../types.js';

export interface ScoreOutput {
  readonly name: string;
  readonly isSigmoid: boolean;
  /** Column of an [N, tasks] output; null where it has one. */
  readonly task: number | null;
}

/** The output that the binding names, else the only one. Error: BELFRY_BINDING_MISMATCH. */
export function chooseOutput(
  label: string,
  outputs: readonly TensorSpec[],
  binding: OutputBinding | undefined,
): ScoreOutput {
  const mismatch = (reason: string) =>
    new BelfryError('BELFRY_BINDING_MISMATCH', `model ${label}: ${reason}`, { field: label });
  const names = outputs.map((output) => output.name);
  const declared = typeof binding === 'string' ? { name: binding } : binding;
  const name = declared?.name ?? (names.length === 1 ? names[0]! : undefined);
  if (name === undefined)
    throw mismatch(`it has the outputs ${names.join(', ')}; name the score as \`output:\` in registry.yaml`);
  if (!names.includes(name)) throw mismatch(`output ${name} is not in the graph, which has ${names.join(', ')}`);
  return { name, isSigmoid: declared?.activation === 'sigmoid', task: declared?.task ?? null };
}

/** Scores of `rows` candidates from a tensor [rows], [rows, 1] or [rows, tasks]. Error: BELFRY_MODEL_OUTPUT_INVALID. */
export function scoresOf(
  tensor: TensorData | undefined,
  rows: number,
  { name, task, isSigmoid }: ScoreOutput,
  model: string,
): Float32Array {
  const what = `${model}, output ${name}`;
  const values = float32Of(tensor, what);
  const dims = tensor!.dims;
  const tasks = dims.length === 1 ? 1 : (dims[1] ?? 0);
  if (dims[0] !== rows || dims.length > 2 || tasks < 1 || values.length !== rows * tasks) {
    throw new BelfryError(
      'BELFRY_MODEL_OUTPUT_INVALID',
      `${what}: expected [${rows}], [${rows}, 1] or [${rows}, tasks], received [${dims.join(', ')}]`,
    );
  }
  if (task === null ? tasks > 1 : task >= tasks) {
    throw new BelfryError(
      'BELFRY_MODEL_OUTPUT_INVALID',
      `${what}: it has ${tasks} tasks; set \`output: { name: ${name}, task: 0 to ${tasks - 1} }\`, now ${task ?? 'not set'}`,
    );
  }
  const scores = new Float32Array(rows);
  for (let row = 0; row < rows; row++) {
    const value = values[row * tasks + (task ?? 0)]!;
    scores[row] = isSigmoid ? 1 / (1 + Math.exp(-value)) : value;
  }
  return scores;
}
