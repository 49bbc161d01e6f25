/** A scorer in process: an ONNX model in its own worker threads, behind a binding. */
import { compileBinding } from '../features/binding.js';
import type { InputBindings, OutputBinding } from '../features/binding-schema.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { VocabularySources } from '../features/vocabulary.js';
import { OnnxModel, type OnnxModelOptions } from '../inference/onnx-model.js';
import { BoundScorer } from './bound-scorer.js';
import type { Calibration } from './calibration.js';
import { chooseOutputs } from './score-output.js';

export interface OnnxRerankerOptions extends Pick<
  OnnxModelOptions,
  'workers' | 'intraOpThreads' | 'maxQueue' | 'onRun'
> {
  /** Slug: `dlrm`. */
  readonly name: string;
  readonly version: string;
  readonly modelPath: string;
  readonly sha256?: string;
  readonly inputs: InputBindings;
  readonly output?: OutputBinding;
  /** Calibration files that the output names, by path. */
  readonly calibrations?: ReadonlyMap<string, Calibration>;
  /** Most candidates of one run. */
  readonly rowsMax?: number;
  readonly dims: number;
  readonly users?: FeatureTable;
  /** In the row order of the item embeddings (FeatureTable.alignTo). */
  readonly items?: FeatureTable;
  readonly vocabularies: VocabularySources;
  readonly isBackground?: boolean | undefined;
}

/** Errors: BELFRY_MODEL_INVALID, BELFRY_BINDING_MISMATCH, BELFRY_CALIBRATION_INVALID, BELFRY_MODEL_OUTPUT_INVALID. */
export async function openOnnxReranker(options: OnnxRerankerOptions): Promise<BoundScorer> {
  const { name, version, modelPath, sha256, calibrations } = options;
  const label = `${name}@${version}`;
  const model = await OnnxModel.open({
    ...options,
    name: label,
    source: { path: modelPath, ...(sha256 === undefined ? {} : { sha256 }) },
  });
  try {
    const outputs = chooseOutputs(label, model.info.outputs, options.output, { calibrations, sha256 });
    const bound = await compileBinding({ ...options, name: label, model: model.info, isPerCandidate: true });
    const scorer = new BoundScorer({
      name,
      version,
      bound,
      outputs,
      rowsMax: options.rowsMax,
      run: (feeds, run) => model.run(feeds, run),
      close: () => model.close(),
    });
    await scorer.warmUp(options.dims);
    return scorer;
  } catch (error) {
    await model.close();
    throw error;
  }
}
