/**
 * Compiles the binding of a model's inputs against the graph, the tables and the vocabularies. All that can be wrong
 * is found here, at load, and told at once as a list (fault M3); what remains per request is arithmetic.
 */
import { BelfryError } from '../errors.js';
import type { TensorSpec } from '../types.js';
import type { FeatureSource, InputBinding, InputBindings } from './binding-schema.js';
import { candidateWriter } from './candidate-rows.js';
import { type BoundInput, BoundInputs, type BoundSlot, PER_CANDIDATE } from './bound-inputs.js';
import { encodeColumn, makeSlot } from './feature-slot.js';
import type { FeatureTable } from './feature-table.js';
import { ROW_TABLE_BYTES, RowTables } from './row-tables.js';
import { Slices } from './slices.js';
import { type BindableDtype, EXACT_INTEGERS, isBindable } from './tensor-writer.js';
import { loadVocabulary, type Vocabulary, type VocabularySources } from './vocabulary.js';

export interface CompileOptions {
  /** What messages call the model, for example `dlrm@1.0`. */
  readonly name: string;
  readonly inputs: InputBindings;
  readonly model: { readonly inputs: readonly TensorSpec[] };
  readonly vocabularies: VocabularySources;
  /** Width of user_embedding and item_embedding. */
  readonly dims: number;
  readonly users?: FeatureTable;
  /** In the row order of the item embeddings (FeatureTable.alignTo). */
  readonly items?: FeatureTable;
  /** Sources that make no sense for this model, with the reason; a user tower knows no items. */
  readonly refused?: (source: string) => string | null;
  /** Rows are the candidates of one request: what is of the request may be one row, and the graph may fix their number. */
  readonly isPerCandidate?: boolean;
  /** Without them, for a binding that is only asked what it reads. Default: where `items` are candidates. */
  readonly hasRowTables?: boolean;
  /** Others are answered meanwhile, and nobody waits for the binding. */
  readonly isBackground?: boolean | undefined;
}

export async function compileBinding(options: CompileOptions): Promise<BoundInputs> {
  const compiler = new Compiler(options);
  const specs = options.model.inputs;
  for (const name of Object.keys(options.inputs)) {
    if (!specs.some((spec) => spec.name === name)) {
      compiler.problems.push(
        `input ${name}: bound, but the model has no such input; it has ${specs.map((spec) => spec.name).join(', ')}`,
      );
    }
  }
  const bound: BoundInput[] = [];
  for (const spec of specs) {
    const binding = Object.hasOwn(options.inputs, spec.name) ? options.inputs[spec.name] : undefined;
    if (binding === undefined) {
      compiler.problems.push(
        `input ${spec.name} ${describe(spec)}: not bound; add it under \`inputs:\` in registry.yaml`,
      );
      continue;
    }
    const input = await compiler.input(spec, binding);
    if (input !== null) bound.push(input);
  }
  compiler.checkOffsets(bound);
  const fixedRows = options.isPerCandidate === true ? compiler.fixedRows(specs, bound) : null;
  if (compiler.problems.length > 0) {
    throw new BelfryError(
      'BELFRY_BINDING_MISMATCH',
      `model ${options.name} does not fit its binding:\n  - ${compiler.problems.join('\n  - ')}`,
      {
        field: options.name,
      },
    );
  }
  return new BoundInputs(options.name, bound, fixedRows);
}

export function describe({ dtype, shape }: Pick<TensorSpec, 'dtype' | 'shape'>): string {
  return `${dtype} [${shape === null ? '?' : shape.map((dim) => dim ?? 'N').join(', ')}]`;
}

class Compiler {
  readonly problems: string[] = [];
  readonly #tables: RowTables | undefined;
  readonly #slices = () => (this.options.isBackground === true ? Slices.withRests() : new Slices());

  constructor(private readonly options: CompileOptions) {
    const { isPerCandidate, items, hasRowTables = true } = options;
    const isWanted = isPerCandidate === true && items !== undefined && hasRowTables;
    this.#tables = isWanted ? new RowTables(items.rows, ROW_TABLE_BYTES, this.#slices) : undefined;
  }

  async input(spec: TensorSpec, binding: InputBinding): Promise<BoundInput | null> {
    const at = `input ${spec.name}`;
    if (!isBindable(spec.dtype)) {
      this.problems.push(`${at}: the model wants ${spec.dtype}, which no binding can feed; cast inside the graph`);
      return null;
    }
    if (binding.dtype !== undefined && binding.dtype !== spec.dtype) {
      this.problems.push(`${at}: bound as ${binding.dtype}, the model wants ${describe(spec)}`);
      return null;
    }
    const dtype = spec.dtype;
    if ('offsets_of' in binding) {
      this.#checkRank(spec, 2, null, 'offsets [bags, N]');
      const bags = spec.shape?.[0];
      if (typeof bags === 'number' && bags !== binding.offsets_of.length)
        this.problems.push(
          `${at}: offsets_of names ${binding.offsets_of.length} bags, the model wants ${describe(spec)}`,
        );
      return {
        name: spec.name,
        dtype,
        kind: 'offsets',
        bags: binding.offsets_of,
        rank: 2,
        width: 0,
        isBroadcast: false,
        slots: [],
      };
    }
    const isBag = 'layout' in binding && binding.layout === 'bag';
    const sources: readonly FeatureSource[] = 'pack' in binding ? binding.pack : [binding];
    if (dtype === 'string' && (sources.length > 1 || isBag)) {
      this.problems.push(`${at}: strings are bound one feature an input, and not as bags`);
      return null;
    }
    const slots: BoundSlot[] = [];
    let width = 0;
    for (const source of sources) {
      const slot = await this.#slot(at, source, dtype, width, isBag);
      if (slot === null) return null;
      slots.push(slot);
      width += slot.slot.width;
    }
    if (isBag) {
      this.#checkRank(spec, 1, null, 'a flat list of indices');
      return { name: spec.name, dtype, kind: 'bag', bags: [], rank: 1, width, isBroadcast: false, slots };
    }
    const rank = spec.shape?.length ?? (width === 1 && !('pack' in binding) ? 1 : 2);
    if (rank === 1 && width !== 1)
      this.problems.push(`${at}: bound with width ${width}, the model wants ${describe(spec)}`);
    else this.#checkRank(spec, rank === 1 ? 1 : 2, rank === 1 ? null : width, `width ${width}`);
    const isBroadcast = this.#isBroadcast(spec, binding, slots);
    const joined = (await this.#tables?.joined(slots, dtype)) ?? slots;
    return {
      name: spec.name,
      dtype,
      kind: 'dense',
      bags: [],
      rank: rank === 1 ? 1 : 2,
      width,
      isBroadcast,
      slots: joined,
    };
  }

  /** The number of candidates that the graph fixes; its inputs must agree. */
  fixedRows(specs: readonly TensorSpec[], bound: readonly BoundInput[]): number | null {
    const fixed = specs.flatMap((spec) => {
      const input = bound.find(({ name }) => name === spec.name);
      if (input === undefined || input.isBroadcast || input.kind === 'bag') return [];
      const rows = spec.shape?.[input.kind === 'offsets' ? 1 : 0];
      return typeof rows === 'number' ? [{ rows, text: `${spec.name} ${describe(spec)}` }] : [];
    });
    if (new Set(fixed.map(({ rows }) => rows)).size > 1)
      this.problems.push(`its inputs fix different numbers of candidates: ${fixed.map(({ text }) => text).join(', ')}`);
    return fixed[0]?.rows ?? null;
  }

  checkOffsets(bound: readonly BoundInput[]): void {
    const bags = bound.filter((input) => input.kind === 'bag').map((input) => input.name);
    const named = bound.flatMap((input) => input.bags);
    for (const name of named)
      if (!bags.includes(name))
        this.problems.push(`offsets_of names ${name}, which is not an input with \`layout: bag\``);
    for (const name of bags)
      if (!named.includes(name))
        this.problems.push(`input ${name}: \`layout: bag\` needs an input with \`offsets_of\` that names it`);
  }

  /** One row for the request: because the registry says so, or because the graph takes one where others take N. */
  #isBroadcast(spec: TensorSpec, binding: InputBinding, slots: readonly BoundSlot[]): boolean {
    const said = 'broadcast' in binding ? binding.broadcast : undefined;
    const perCandidate = slots.find(({ side, source }) => side === 'item' || PER_CANDIDATE.has(source));
    if (said === true && perCandidate !== undefined) {
      this.problems.push(
        `input ${spec.name}: \`broadcast\` sends one row, and ${perCandidate.source} has one per candidate`,
      );
      return false;
    }
    if (said === true && this.options.isPerCandidate !== true) {
      this.problems.push(`input ${spec.name}: \`broadcast\` belongs to rerankers`);
      return false;
    }
    return said ?? (this.options.isPerCandidate === true && spec.shape?.[0] === 1 && perCandidate === undefined);
  }

  #checkRank(spec: TensorSpec, rank: 1 | 2, width: number | null, bound: string): void {
    if (spec.shape === null) return;
    const inner = spec.shape[1];
    const fits =
      spec.shape.length === rank &&
      (rank === 1 || width === null || inner === null || inner === undefined || inner === width);
    if (!fits) this.problems.push(`input ${spec.name}: bound with ${bound}, the model wants ${describe(spec)}`);
  }

  async #slot(
    input: string,
    binding: FeatureSource,
    dtype: BindableDtype,
    column: number,
    isBag: boolean,
  ): Promise<BoundSlot | null> {
    const { source } = binding;
    const fail = (reason: string): null => {
      this.problems.push(`${input}, source ${source}: ${reason}`);
      return null;
    };
    const refused = this.options.refused?.(source) ?? null;
    if (refused !== null) return fail(refused);
    if (source === 'constant' && binding.value === undefined) return fail('needs `value`');
    if (source !== 'constant' && binding.value !== undefined) return fail('`value` belongs to `source: constant`');
    const side = source.startsWith('user.')
      ? 'user'
      : source.startsWith('item.')
        ? 'item'
        : source.startsWith('context.')
          ? 'context'
          : 'given';
    if (side === 'given' && binding.vocabulary !== undefined) return fail('is a number, so it takes no vocabulary');
    const isEmbedding = source === 'user_embedding' || source === 'item_embedding';
    const width = binding.width ?? (isEmbedding ? this.options.dims : 1);
    if (isEmbedding && width !== this.options.dims)
      return fail(`has ${this.options.dims} dims, bound with width ${width}`);
    if (source.startsWith('retrieval.') && width !== 1) return fail(`is one number, bound with width ${width}`);
    const vocabulary =
      binding.vocabulary === undefined
        ? null
        : await loadVocabulary(binding.vocabulary, this.options.vocabularies, this.#slices);
    if (dtype === 'string' && (side === 'given' || vocabulary !== null))
      return fail(
        side === 'given' ? 'is a number, and the input takes strings' : 'the input takes words, not their numbers',
      );
    const imprecise = this.#imprecise(vocabulary, binding, dtype);
    if (imprecise !== null) return fail(imprecise);
    const table = side === 'user' ? this.options.users : side === 'item' ? this.options.items : undefined;
    const name = source.slice(source.indexOf('.') + 1);
    const found = table?.column(name);
    const isList = found === undefined ? width > 1 : found.kind === 'string_list' || found.kind === 'number_list';
    // A bag is not padded: NaN marks the gaps that BoundInputs closes.
    const slot = makeSlot(isBag ? { ...binding, pad: Number.NaN } : binding, vocabulary, width, isList, dtype);
    const bound = { slot, side, column, source, strings: null, writer: null } as const;
    if (found !== undefined && dtype === 'string') {
      const isListColumn = found.kind === 'string_list' || found.kind === 'number_list';
      if (width > 1 && !isListColumn)
        return fail(`column ${name} of ${table!.name} holds no lists, and width is ${width}`);
      return { ...bound, encoder: null, strings: found };
    }
    if (found !== undefined) {
      const column = await encodeColumn(slot, found, this.#slices());
      if (typeof column === 'string') return fail(`column ${name} of ${table!.name} does not fit: ${column}`);
      const writer = side === 'item' ? candidateWriter(slot, found, column.encoded, dtype) : null;
      return { ...bound, encoder: column.encoder, writer };
    }
    if (side === 'item' && !slot.hasMissing) {
      const columns = table?.columns.map((entry) => entry.name).join(', ') || 'none';
      return fail(
        `there is no such item column; columns: ${columns}; set \`missing:\` if the model may run without it`,
      );
    }
    return { ...bound, encoder: null };
  }

  #imprecise(vocabulary: Vocabulary | null, binding: FeatureSource, dtype: BindableDtype): string | null {
    const largest = vocabulary === null ? 0 : vocabulary.size - 1 + (binding.offset ?? 0);
    const exact = EXACT_INTEGERS[dtype];
    return largest <= exact
      ? null
      : `index ${largest} is not exact in ${dtype} (up to ${exact}); export the input with a wider dtype`;
  }
}
