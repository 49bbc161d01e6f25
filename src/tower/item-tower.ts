/**
 * The item tower: features of an item in, its embedding out, for items that change between exports. Runs the part of the
 * graph that the item output needs, so a combined two_tower.onnx serves as well as an item_tower.onnx.
 */
import { BelfryError } from '../errors.js';
import { compileBinding } from '../features/binding.js';
import type { InputBindings, OutputBinding } from '../features/binding-schema.js';
import { type BoundInputs, checkKnownFeatures } from '../features/bound-inputs.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { VocabularySources } from '../features/vocabulary.js';
import { extractSubgraph, findTowerOutput } from '../inference/onnx-extract.js';
import { loadOnnx } from '../inference/onnx-file.js';
import { OnnxModel } from '../inference/onnx-model.js';
import { float32Of } from '../inference/output-values.js';
import type { Features } from '../types.js';
import { bindByConvention } from './convention.js';
import { checkShapes, partFor } from './user-tower.js';

export interface ItemTowerOptions {
  /** `two-tower@1.0`. */
  readonly name: string;
  readonly modelPath: string;
  readonly sha256?: string;
  /** From the registry; without it inputs are bound to equally named columns of the item table. */
  readonly inputs?: InputBindings;
  /** Only of a model of the role item_tower: in a combined graph the registry names the user output. */
  readonly output?: OutputBinding;
  readonly dims: number;
  /** In the row order of the item embeddings (FeatureTable.alignTo). */
  readonly items: FeatureTable;
  readonly vocabularies: VocabularySources;
}

export class ItemTower {
  private constructor(
    readonly name: string,
    private readonly dims: number,
    private readonly output: string,
    private readonly bound: BoundInputs,
    private readonly model: OnnxModel,
    private readonly known: ReadonlySet<string>,
  ) {}

  /** Errors: BELFRY_MODEL_INVALID, BELFRY_BINDING_MISMATCH, BELFRY_MODEL_OUTPUT_INVALID. */
  static async open(options: ItemTowerOptions): Promise<ItemTower> {
    const { name, modelPath, dims, items } = options;
    const file = await loadOnnx(modelPath, name, options.sha256);
    const { graph } = file.model;
    const declared = typeof options.output === 'string' ? options.output : options.output?.name;
    const chosen = findTowerOutput(graph, name, 'item', declared);
    const inputs = graph.inputs.filter((input) => chosen.inputs.includes(input.name));
    checkShapes(
      name,
      inputs,
      graph.outputs.find((candidate) => candidate.name === chosen.name)!,
      dims,
    );
    const bound = await compileBinding({
      name,
      inputs:
        options.inputs === undefined
          ? bindByConvention(name, inputs, items, 'item')
          : partFor(options.inputs, graph.inputs, inputs),
      model: { inputs },
      vocabularies: options.vocabularies,
      dims,
      items,
      refused: (source) =>
        source.startsWith('item.') || source === 'constant'
          ? null
          : 'an item tower knows only item.<column> and constant',
    });
    const model = await OnnxModel.open({
      name,
      source: chosen.isWholeGraph
        ? { path: modelPath, ...(options.sha256 === undefined ? {} : { sha256: options.sha256 }) }
        : { bytes: extractSubgraph(file.bytes, chosen.name, name, file.readExternal) },
    });
    const known = new Set([...bound.needs.item, ...items.columns.map((column) => column.name)]);
    const tower = new ItemTower(name, dims, chosen.name, bound, model, known);
    try {
      await tower.run([-1], [undefined]); // wrong shapes are found now; the values do not matter yet
    } catch (error) {
      await model.close();
      throw error;
    }
    return tower;
  }

  /** The embedding of an item by its features, `id` among them. Errors: BELFRY_INVALID_FEATURES, BELFRY_MODEL_OUTPUT_INVALID. */
  async embed(features: Features): Promise<Float32Array> {
    const { id: _, ...sent } = features;
    checkKnownFeatures(sent, this.known);
    this.bound.checkFeatures(sent, 'item');
    const own = this.bound.needs.item.filter((name) => name !== 'id');
    if (!own.some((name) => Object.hasOwn(sent, name) && sent[name] !== null)) {
      throw new BelfryError('BELFRY_INVALID_FEATURES', `features: expected at least one of ${own.join(', ')}`, {
        field: 'features',
      });
    }
    return this.run([-1], [features]);
  }

  /** As embed, for rows of the item table: rows x dims. */
  embedRows(rows: readonly number[]): Promise<Float32Array> {
    return this.run(
      rows,
      rows.map(() => undefined),
    );
  }

  close(): Promise<void> {
    return this.model.close();
  }

  private async run(
    itemRows: readonly number[],
    itemFeatures: readonly (Features | undefined)[],
  ): Promise<Float32Array> {
    const rows = itemRows.length;
    const { outputs } = await this.model.run(this.bound.fill({ rows, itemRows, itemFeatures }), {
      fetches: [this.output],
    });
    const what = `model ${this.name}, output ${this.output}`;
    const values = float32Of(outputs[this.output], what);
    if (values.length !== rows * this.dims) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `${what}: expected [${rows}, ${this.dims}], received ${values.length} values`,
      );
    }
    return values;
  }
}
