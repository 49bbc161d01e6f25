/** What a scorer answers, as one score per candidate: which outputs and tasks, which activation and calibration, combined how. */
import { BelfryError } from '../errors.js';
import type { OutputBinding } from '../features/binding-schema.js';
import { float32Of } from '../inference/output-values.js';
import type { TensorData, TensorSpec } from '../types.js';
import type { Calibration } from './calibration.js';

/** One number of a candidate. */
interface Task {
  readonly output: string;
  /** Column of an [N, tasks] output; null where it has one. */
  readonly column: number | null;
  readonly weight: number;
  readonly isSigmoid: boolean;
  readonly calibration: Calibration | null;
}

export interface OutputSources {
  /** Calibrations by their path in the models folder. */
  readonly calibrations?: ReadonlyMap<string, Calibration> | undefined;
  /** Of the model's file; a calibration may be pinned to it. */
  readonly sha256?: string | undefined;
}

export class ScoreOutputs {
  /** Outputs of the graph that must be computed. */
  readonly names: readonly string[];

  constructor(
    private readonly label: string,
    private readonly tasks: readonly Task[],
    private readonly combine: 'sum' | 'product',
  ) {
    this.names = [...new Set(tasks.map((task) => task.output))];
  }

  /** Scores of `rows` candidates from tensors [rows], [rows, 1] or [rows, tasks]. Error: BELFRY_MODEL_OUTPUT_INVALID. */
  scoresOf(outputs: Readonly<Record<string, TensorData>>, rows: number): Float32Array {
    const parts = this.tasks.map((task) => ({ ...task, ...this.#column(outputs[task.output], rows, task) }));
    const [only] = parts;
    const isPlain = parts.length === 1 && only!.weight === 1;
    const scores = new Float32Array(rows);
    for (let row = 0; row < rows; row++) {
      if (isPlain) {
        scores[row] = finished(only!, only!.values[row * only!.stride + only!.at]!);
        continue;
      }
      let score = this.combine === 'sum' ? 0 : 1;
      for (const part of parts) {
        const value = finished(part, part.values[row * part.stride + part.at]!);
        score = this.combine === 'sum' ? score + part.weight * value : score * value ** part.weight;
      }
      scores[row] = score;
    }
    return scores;
  }

  #column(
    tensor: TensorData | undefined,
    rows: number,
    { output, column }: Task,
  ): { values: Float32Array; stride: number; at: number } {
    const what = `model ${this.label}, output ${output}`;
    const values = float32Of(tensor, what);
    const dims = tensor!.dims;
    const stride = dims.length === 1 ? 1 : (dims[1] ?? 0);
    if (dims[0] !== rows || dims.length > 2 || stride < 1 || values.length !== rows * stride) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `${what}: expected [${rows}], [${rows}, 1] or [${rows}, tasks], received [${dims.join(', ')}]`,
      );
    }
    if (column === null ? stride > 1 : column >= stride) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `${what}: it has ${stride} tasks; set \`output: { name: ${output}, task: 0 to ${stride - 1} }\`, now ${column ?? 'not set'}`,
      );
    }
    return { values, stride, at: column ?? 0 };
  }
}

function finished({ isSigmoid, calibration }: Task, value: number): number {
  const score = isSigmoid ? 1 / (1 + Math.exp(-value)) : value;
  return calibration === null ? score : calibration.apply(score);
}

/** The outputs that the binding names, else the only one. Errors: BELFRY_BINDING_MISMATCH, BELFRY_CALIBRATION_INVALID. */
export function chooseOutputs(
  label: string,
  outputs: readonly TensorSpec[],
  binding: OutputBinding | undefined,
  sources: OutputSources = {},
): ScoreOutputs {
  const mismatch = (reason: string) =>
    new BelfryError('BELFRY_BINDING_MISMATCH', `model ${label}: ${reason}`, { field: label });
  const names = outputs.map((output) => output.name);
  const declared = typeof binding === 'string' ? { name: binding } : (binding ?? {});
  const nameOf = (name: string | undefined): string => {
    const found = name ?? declared.name ?? (names.length === 1 ? names[0] : undefined);
    if (found === undefined)
      throw mismatch(`it has the outputs ${names.join(', ')}; name the score as \`output:\` in registry.yaml`);
    if (!names.includes(found)) throw mismatch(`output ${found} is not in the graph, which has ${names.join(', ')}`);
    return found;
  };
  const taskOf = (part: TaskBinding): Task => {
    const calibration = calibrationFor(part, label, sources);
    if (calibration?.takesLogits === true && part.activation === 'sigmoid') {
      throw mismatch(
        `calibration ${part.calibration} (${calibration.kind}) ends in a sigmoid itself; set \`activation: none\``,
      );
    }
    return {
      output: nameOf(part.name),
      column: part.task ?? null,
      weight: part.weight ?? 1,
      isSigmoid: part.activation === 'sigmoid',
      calibration,
    };
  };
  if ('tasks' in declared) return new ScoreOutputs(label, declared.tasks.map(taskOf), declared.combine ?? 'sum');
  return new ScoreOutputs(label, [taskOf(declared)], 'sum');
}

type TaskBinding = Extract<Exclude<OutputBinding, string>, { tasks: unknown }>['tasks'][number];

/** Paths of the calibration files that an output names. */
export function calibrationFiles(binding: unknown): string[] {
  if (typeof binding !== 'object' || binding === null) return [];
  const { calibration, tasks } = binding as { calibration?: unknown; tasks?: unknown };
  return [
    ...(typeof calibration === 'string' ? [calibration] : []),
    ...(Array.isArray(tasks) ? tasks.flatMap(calibrationFiles) : []),
  ];
}

function calibrationFor({ calibration: path }: TaskBinding, label: string, sources: OutputSources): Calibration | null {
  if (path === undefined) return null;
  const found = sources.calibrations?.get(path);
  if (found === undefined) throw new BelfryError('BELFRY_INTERNAL', `model ${label}: ${path} was not read`);
  const { modelSha256 } = found;
  if (modelSha256 !== undefined && sources.sha256 !== undefined && modelSha256 !== sources.sha256) {
    throw new BelfryError(
      'BELFRY_CALIBRATION_INVALID',
      `${path}: it was fitted for the model ${modelSha256}, ${label} is ${sources.sha256}; fit it again for this model`,
      { field: path },
    );
  }
  return found;
}
