/** A compiled binding: features in, tensors out. Synchronous and free of per-value objects: it runs once per request. */
import { BelfryError } from '../errors.js';
import type { Features, FeatureValue, TensorData, TensorValues } from '../types.js';
import { type CandidateWriter, isWritable, repeatedRow, writeAbsent } from './candidate-rows.js';
import { type FeatureColumn, valueAt } from './feature-column.js';
import { FeedMemory } from './feed-memory.js';
import { type ColumnEncoder, checkFeature, encodeStrings, encodeValue, type Slot } from './feature-slot.js';
import { type BindableDtype, toTensorValues } from './tensor-writer.js';

export interface BoundSlot {
  readonly slot: Slot;
  readonly source: string;
  readonly side: 'user' | 'item' | 'context' | 'given';
  /** Where in the row of its tensor it starts. */
  readonly column: number;
  /** Present when a table has the column. */
  readonly encoder: ColumnEncoder | null;
  /** Present for an item column that fits its tensor as it is (candidate-rows.ts). */
  readonly writer: CandidateWriter | null;
  /** The column itself, for inputs of strings. */
  readonly strings: FeatureColumn | null;
}

export interface BoundInput {
  readonly name: string;
  readonly dtype: BindableDtype;
  /** `bag`: flat indices, lists end to end. `offsets`: where the lists of the named bags start, [bags, N]. */
  readonly kind: 'dense' | 'bag' | 'offsets';
  readonly bags: readonly string[];
  readonly rank: 1 | 2;
  readonly width: number;
  /** One row for the request, which the graph repeats itself. */
  readonly isBroadcast: boolean;
  readonly slots: readonly BoundSlot[];
}

/** What one call fills: N rows, of one user or of N users. */
export interface BindingBatch {
  readonly rows: number;
  /** Features of one user, repeated for all rows. */
  readonly user?: Features;
  /** Or rows of the users table that the binding was compiled with, one per tensor row. */
  readonly userRows?: ArrayLike<number>;
  /** Or features of each row's own user. */
  readonly users?: readonly Features[];
  readonly context?: Features;
  readonly userEmbedding?: Float32Array;
  /** Rows of the aligned item table; negative is missing. */
  readonly itemRows?: ArrayLike<number>;
  /** Features of the items that are in no table, by tensor row; their row in itemRows is negative. */
  readonly itemFeatures?: readonly (Features | undefined)[];
  /** Row-major, `rows` x dims. */
  readonly itemEmbeddings?: Float32Array;
  readonly retrievalScores?: ArrayLike<number>;
  readonly retrievalRanks?: ArrayLike<number>;
}

export interface BindingNeeds {
  readonly user: readonly string[];
  readonly item: readonly string[];
  readonly context: readonly string[];
  readonly userEmbedding: boolean;
  readonly itemEmbedding: boolean;
}

export class BoundInputs {
  readonly needs: BindingNeeds;
  readonly #slotsByFeature = new Map<string, Slot[]>();
  // One buffer for all inputs: fill() is synchronous and each tensor is copied out of it.
  #scratch = new Float64Array(0);

  constructor(
    readonly name: string,
    readonly inputs: readonly BoundInput[],
    /** Rows that the graph takes, no more and no fewer; null where it takes any number. */
    readonly fixedRows: number | null = null,
  ) {
    const slots = inputs.flatMap((input) => input.slots);
    const of = (side: BoundSlot['side']): string[] => [
      ...new Set(slots.filter((slot) => slot.side === side).map((slot) => slot.slot.feature)),
    ];
    const has = (source: string): boolean => slots.some((slot) => slot.source === source);
    this.needs = {
      user: of('user'),
      item: of('item'),
      context: of('context'),
      userEmbedding: has('user_embedding'),
      itemEmbedding: has('item_embedding'),
    };
    for (const { slot } of slots) {
      const known = this.#slotsByFeature.get(slot.source);
      if (known === undefined) this.#slotsByFeature.set(slot.source, [slot]);
      else known.push(slot);
    }
  }

  /** Refuses features of a request that this model cannot take. Names that it does not read are not its business: see checkKnown. */
  checkFeatures(
    features: Features,
    side: 'user' | 'item' | 'context' = 'user',
    field = side === 'context' ? 'context' : 'features',
  ): void {
    for (const [name, value] of Object.entries(features)) {
      for (const slot of this.#slotsByFeature.get(`${side}.${name}`) ?? [])
        checkFeature(slot, value, `${field}.${name}`);
    }
  }

  /** Large tensors lie in `memory`, as far as there is room. */
  fill(batch: BindingBatch, memory = new FeedMemory()): Record<string, TensorData> {
    const feeds: Record<string, TensorData> = {};
    const starts = new Map<string, number[]>();
    for (const input of this.inputs) {
      if (input.kind === 'dense') feeds[input.name] = this.#dense(input, batch, memory);
      else if (input.kind === 'bag') feeds[input.name] = this.#bag(input, batch, starts);
    }
    for (const input of this.inputs) {
      if (input.kind !== 'offsets') continue;
      const numbers = Float64Array.from(input.bags.flatMap((bag) => starts.get(bag)!));
      feeds[input.name] = {
        dtype: input.dtype,
        dims: [input.bags.length, batch.rows],
        data: toTensorValues(numeric(input), numbers, numbers.length),
      };
    }
    return feeds;
  }

  #dense(input: BoundInput, given: BindingBatch, memory: FeedMemory): TensorData {
    const batch = input.isBroadcast ? { ...given, rows: 1 } : given;
    const count = batch.rows * input.width;
    const dims = input.rank === 1 ? [batch.rows] : [batch.rows, input.width];
    if (input.dtype === 'string') return { dtype: 'string', dims, data: this.#strings(input.slots[0]!, batch) };
    const only = input.slots.length === 1 ? input.slots[0]!.source : null;
    if (only === 'item_embedding' && input.dtype === 'float32') {
      // The widest input of most scorers is already what the graph wants.
      const data = this.#given(batch.itemEmbeddings, only, count);
      return { dtype: 'float32', dims, data: data as Float32Array };
    }
    if (isOfOneUser(batch) && input.slots.every((slot) => canRepeat(slot, input.dtype)))
      return { dtype: input.dtype, dims, data: this.#repeated(input, batch, memory) };
    if (this.#scratch.length < count) this.#scratch = new Float64Array(count);
    for (const slot of input.slots) this.#write(slot, batch, this.#scratch, input.width, slot.column);
    return { dtype: input.dtype, dims, data: toTensorValues(numeric(input), this.#scratch, count) };
  }

  /** A bag is encoded like a dense list with NaN as padding (see binding.ts), and then closed up. */
  #bag(input: BoundInput, batch: BindingBatch, starts: Map<string, number[]>): TensorData {
    const bound = input.slots[0]!;
    const { width } = bound.slot;
    const rows = new Float64Array(batch.rows * width);
    this.#write(bound, batch, rows, width, 0);
    const begins: number[] = [];
    let filled = 0;
    for (let row = 0; row < batch.rows; row++) {
      begins.push(filled);
      for (let i = 0; i < width; i++) {
        const value = rows[row * width + i]!;
        if (!Number.isNaN(value)) rows[filled++] = value;
      }
    }
    starts.set(input.name, begins);
    return { dtype: input.dtype, dims: [filled], data: toTensorValues(numeric(input), rows, filled) };
  }

  /** One row for all candidates, then what each of them has. */
  #repeated(input: BoundInput, batch: BindingBatch, memory: FeedMemory): TensorValues {
    const { slots, width } = input;
    if (this.#scratch.length < width) this.#scratch = new Float64Array(width);
    for (const bound of slots) {
      if (bound.side === 'item') writeAbsent(bound.slot, this.#scratch, bound.column);
      else if (isPerCandidate(bound)) this.#scratch.fill(0, bound.column, bound.column + bound.slot.width);
      else this.#write(bound, { ...batch, rows: 1 }, this.#scratch, width, bound.column);
    }
    const row = toTensorValues(numeric(input), this.#scratch, width);
    const { cells, values, step } = repeatedRow(row, batch.rows, memory);
    for (const { writer, source, side, column, slot } of slots) {
      const [stride, at] = [width * step, column * step];
      if (writer !== null) writer(this.#rowsOf('item', batch), cells, stride, at, step);
      else if (side === 'given' && PER_CANDIDATE.has(source)) {
        const given = this.#given(givenOf(source, batch), source, batch.rows * slot.width);
        for (let row = 0, from = 0; row < batch.rows; row++)
          for (let i = 0; i < slot.width; i++) cells[row * stride + at + i * step] = given[from++]!;
      }
    }
    return values;
  }

  /** Words as they are, for graphs that hold their own vocabulary. */
  #strings({ slot, side, column, strings }: BoundSlot, batch: BindingBatch): string[] {
    const { width } = slot;
    const out = new Array<string>(batch.rows * width);
    const put = (row: number, value: FeatureValue | undefined): void =>
      encodeStrings(slot, value, out, row * width + column);
    if (side === 'item') {
      const rows = strings === null ? null : this.#rowsOf('item', batch);
      for (let row = 0; row < batch.rows; row++) {
        const given = batch.itemFeatures?.[row];
        if (given !== undefined) put(row, own(given, slot.feature));
        else put(row, rows === null || rows[row]! < 0 ? null : valueAt(strings!, rows[row]!));
      }
      return out;
    }
    if (side === 'user' && (batch.users !== undefined || batch.userRows !== undefined)) {
      for (let row = 0; row < batch.rows; row++) {
        const userRow = batch.userRows?.[row] ?? -1;
        if (batch.users !== undefined) put(row, own(batch.users[row]!, slot.feature));
        else put(row, strings === null || userRow < 0 ? null : valueAt(strings, userRow));
      }
      return out;
    }
    put(0, own((side === 'user' ? batch.user : batch.context) ?? {}, slot.feature));
    for (let at = width; at < out.length; at++) out[at] = out[at - width]!;
    return out;
  }

  #write(bound: BoundSlot, batch: BindingBatch, out: Float64Array, stride: number, at: number): void {
    const { slot, encoder, side, source } = bound;
    if (encoder !== null && (side === 'item' || (side === 'user' && batch.userRows !== undefined))) {
      encoder(this.#rowsOf(side, batch), out, stride, at);
    } else if (side === 'user' && batch.users !== undefined) {
      for (let row = 0; row < batch.rows; row++)
        encodeValue(slot, own(batch.users[row]!, slot.feature), out, row * stride + at);
    } else if (side === 'user' || side === 'context') {
      const features = side === 'user' ? batch.user : batch.context;
      encodeValue(slot, own(features ?? {}, slot.feature), out, at);
      repeatFirst(out, batch.rows, stride, at, slot.width);
    } else if (side === 'item') {
      encodeValue(slot, null, out, at);
      repeatFirst(out, batch.rows, stride, at, slot.width);
    } else if (source === 'constant') {
      for (let row = 0; row < batch.rows; row++)
        out.fill(slot.constant, row * stride + at, row * stride + at + slot.width);
    } else if (source === 'user_embedding') {
      const embedding = this.#given(batch.userEmbedding, source, slot.width);
      for (let i = 0; i < slot.width; i++) out[at + i] = embedding[i]!;
      repeatFirst(out, batch.rows, stride, at, slot.width);
    } else {
      const given = this.#given(givenOf(source, batch), source, batch.rows * slot.width);
      for (let row = 0; row < batch.rows; row++) {
        for (let i = 0; i < slot.width; i++) out[row * stride + at + i] = given[row * slot.width + i]!;
      }
    }
    if (side === 'item' && batch.itemFeatures !== undefined) {
      for (const [row, features] of batch.itemFeatures.entries())
        if (features !== undefined) encodeValue(slot, own(features, slot.feature), out, row * stride + at);
    }
  }

  #rowsOf(side: BoundSlot['side'], batch: BindingBatch): ArrayLike<number> {
    return this.#given(side === 'item' ? batch.itemRows : batch.userRows, `${side} rows`, batch.rows);
  }

  #given(values: ArrayLike<number> | undefined, what: string, length: number): ArrayLike<number> {
    if (values?.length !== length) {
      throw new BelfryError(
        'BELFRY_INTERNAL',
        `model ${this.name}: ${what} needs ${length} values, the caller gave ${values?.length ?? 'none'}`,
      );
    }
    return values;
  }
}

/** Of the sources that no table has: one value for each candidate. */
export const PER_CANDIDATE: ReadonlySet<string> = new Set(['item_embedding', 'retrieval.score', 'retrieval.rank']);

function isPerCandidate({ side, source }: BoundSlot): boolean {
  return side === 'given' && PER_CANDIDATE.has(source);
}

function givenOf(source: string, batch: BindingBatch): ArrayLike<number> | undefined {
  if (source === 'item_embedding') return batch.itemEmbeddings;
  return source === 'retrieval.score' ? batch.retrievalScores : batch.retrievalRanks;
}

/** Candidates that are all in the table, of one user. */
function isOfOneUser({ users, userRows, itemFeatures, rows }: BindingBatch): boolean {
  return users === undefined && userRows === undefined && itemFeatures === undefined && rows > 0;
}

/** Whole numbers up to a rank fit the low half of an int64; scores and embeddings belong into floats. */
function canRepeat(bound: BoundSlot, dtype: BindableDtype): boolean {
  if (!isWritable(dtype)) return false;
  if (bound.side === 'item') return bound.writer !== null || bound.encoder === null;
  return !isPerCandidate(bound) || dtype !== 'int64' || bound.source === 'retrieval.rank';
}

/** Strings go their own way, and binding.ts makes no bags of them. */
function numeric({ dtype }: BoundInput): Exclude<BindableDtype, 'string'> {
  return dtype as Exclude<BindableDtype, 'string'>;
}

/** A feature may be called `constructor`; one that is absent is not what every object inherits. */
function own(features: Features, name: string): FeatureValue | undefined {
  return Object.hasOwn(features, name) ? features[name] : undefined;
}

/** One user's encoding stands in row 0; the model wants it in each row. */
function repeatFirst(out: Float64Array, rows: number, stride: number, at: number, width: number): void {
  if (width === 1) {
    const value = out[at]!;
    for (let row = 1, to = at + stride; row < rows; row++, to += stride) out[to] = value;
    return;
  }
  for (let row = 1; row < rows; row++) out.copyWithin(row * stride + at, at, at + width);
}

/** The name is the caller's and may be as long as a body. */
function shortName(name: string): string {
  return name.length > 80 ? `${name.slice(0, 77)}...` : name;
}

/** Names that no model reads are refused with the list of those that are. */
export function checkKnownFeatures(features: Features, known: ReadonlySet<string>, field = 'features'): void {
  for (const name of Object.keys(features)) {
    if (!known.has(name)) {
      throw new BelfryError(
        'BELFRY_INVALID_FEATURES',
        `${field}.${shortName(name)}: unknown feature; expected one of ${[...known].sort().join(', ') || 'none'}`,
        {
          field: `${field}.${shortName(name)}`,
        },
      );
    }
  }
}
