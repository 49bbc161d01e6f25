/**
 * One bound feature: how a value, or a column of values, becomes `width` numbers. What can be looked up ahead (the
 * encoded value of every word of a column's dictionary) is looked up once per table.
 */
import { BelfryError, show } from '../errors.js';
import type { FeatureValue } from '../types.js';
import type { FeatureSource } from './binding-schema.js';
import type { FeatureColumn } from './feature-column.js';
import { Slices } from './slices.js';
import type { BindableDtype } from './tensor-writer.js';
import type { Vocabulary } from './vocabulary.js';

/** Entries between two looks at the clock. */
const STEP = 256;

/** What a request may send in one feature. */
export const FEATURE_LIMITS = { listLength: { max: 4096 }, stringLength: { max: 1024 } } as const;

export interface Slot {
  /** As in registry.yaml: `user.history`. */
  readonly source: string;
  /** `history` of `user.history`. */
  readonly feature: string;
  readonly width: number;
  readonly isList: boolean;
  readonly vocabulary: Vocabulary | null;
  readonly offset: number;
  /** NaN for `skip`. */
  readonly oov: number;
  readonly missing: number;
  readonly hasMissing: boolean;
  readonly pad: number;
  /** Value of `source: constant`. */
  readonly constant: number;
  readonly keepsLast: boolean;
  /** The vocabulary has numbers (ids, codes) or true and false among its words; a number sent for a name would only be unknown. */
  readonly takesNumbers: boolean;
  readonly takesBooleans: boolean;
  /** The tensor takes whole numbers only. */
  readonly isInteger: boolean;
  /** The tensor holds words, not their numbers: a missing value and padding are the empty word. */
  readonly isString: boolean;
  /** A number beyond it would wrap around or become infinite in the tensor. */
  readonly largest: number;
}

/** Writes the encoding of each of `rows` to `out[i * stride + at]` and on; a negative row is a missing one. */
export type ColumnEncoder = (rows: ArrayLike<number>, out: Float64Array, stride: number, at: number) => void;

const FLOAT32_MAX = 3.4028234663852886e38;
const LARGEST: Partial<Record<BindableDtype, number>> = {
  int32: 2 ** 31 - 1,
  int64: Number.MAX_SAFE_INTEGER,
  float16: 65504,
  float64: Number.MAX_VALUE,
};

export function makeSlot(
  binding: FeatureSource,
  vocabulary: Vocabulary | null,
  width: number,
  isList: boolean,
  dtype: BindableDtype,
): Slot {
  return {
    source: binding.source,
    feature: binding.source.slice(binding.source.indexOf('.') + 1),
    width,
    isList,
    vocabulary,
    offset: binding.offset ?? 0,
    oov: binding.oov === 'skip' ? Number.NaN : (binding.oov ?? 0),
    missing: binding.missing ?? 0,
    hasMissing: binding.missing !== undefined,
    pad: binding.pad ?? 0,
    constant: binding.value ?? 0,
    keepsLast: binding.truncate === 'last',
    takesNumbers: vocabulary !== null && endsInNumber(vocabulary),
    takesBooleans: vocabulary !== null && (vocabulary.has('true') || vocabulary.has('false')),
    isInteger: dtype === 'int32' || dtype === 'int64',
    isString: dtype === 'string',
    largest: LARGEST[dtype] ?? FLOAT32_MAX,
  };
}

/** One end of the vocabulary is a number: a list of numbers often begins or ends with a word for the unknown. */
function endsInNumber(vocabulary: Vocabulary): boolean {
  let first: string | undefined;
  let last = '';
  for (const word of vocabulary.keys()) {
    first ??= word;
    last = word;
  }
  return [first ?? '', last].some((word) => word.trim() !== '' && Number.isFinite(Number(word)));
}

function encodeWord(slot: Slot, value: string | number | boolean): number {
  const position = slot.vocabulary!.get(String(value));
  return position === undefined ? slot.oov : position + slot.offset;
}

/** Encoded entries of a list, words to skip left out, cut to the width; short lists are not padded here. */
export function encodeList(slot: Slot, value: FeatureValue | undefined): number[] {
  const entries = (value ?? []) as readonly (string | number)[];
  // A table cannot tell a null list from an empty one, so a request's empty list is missing too.
  if (entries.length === 0) return slot.hasMissing ? [slot.missing] : [];
  const encoded: number[] = [];
  for (const entry of entries) {
    const number = slot.vocabulary === null ? (entry as number) : encodeWord(slot, entry);
    if (!Number.isNaN(number)) encoded.push(number);
  }
  if (encoded.length <= slot.width) return encoded;
  return slot.keepsLast ? encoded.slice(-slot.width) : encoded.slice(0, slot.width);
}

/** Encodes one checked value (see checkFeature). */
export function encodeValue(slot: Slot, value: FeatureValue | undefined, out: Float64Array, at: number): void {
  if (slot.isList) {
    const encoded = encodeList(slot, value);
    for (let i = 0; i < slot.width; i++) out[at + i] = i < encoded.length ? encoded[i]! : slot.pad;
    return;
  }
  let number = slot.missing;
  if (value !== null && value !== undefined) {
    number = slot.vocabulary === null ? Number(value) : encodeWord(slot, value as string | number | boolean);
  }
  out[at] = Number.isNaN(number) ? slot.missing : number;
}

/** Writes the words of one checked value; numbers and booleans as they print. */
export function encodeStrings(slot: Slot, value: FeatureValue | undefined, out: string[], at: number): void {
  const entries = value === null || value === undefined ? [] : typeof value === 'object' ? value : [value];
  const kept = slot.keepsLast ? entries.slice(-slot.width) : entries;
  for (let i = 0; i < slot.width; i++) out[at + i] = i < kept.length ? String(kept[i]) : '';
}

/** Refuses a value of a request that the slot cannot take; `field` is its path in the body. */
export function checkFeature(slot: Slot, value: FeatureValue | undefined, field: string): void {
  if (value === null || value === undefined) return;
  const refuse = (expected: string, received: unknown, limit?: number): BelfryError =>
    new BelfryError('BELFRY_INVALID_FEATURES', `${field}: expected ${expected}, received ${show(received)}`, {
      field,
      ...(limit === undefined ? {} : { limit }),
    });
  const entryKind = slot.vocabulary !== null || slot.isString ? 'string' : slot.isInteger ? 'whole number' : 'number';
  const checkEntry = (entry: unknown, expected: string): void => {
    if (slot.vocabulary !== null || slot.isString) {
      const isWord =
        typeof entry === 'string' ||
        (typeof entry === 'number' && (slot.takesNumbers || slot.isString)) ||
        (typeof entry === 'boolean' && (slot.takesBooleans || slot.isString));
      if (!isWord) throw refuse(expected, entry);
      const { max } = FEATURE_LIMITS.stringLength;
      if (typeof entry === 'string' && entry.length > max)
        throw refuse(`a string of at most ${max} characters`, entry, max);
      return;
    }
    if (typeof entry === 'boolean' && !slot.isList) return;
    if (typeof entry !== 'number' || !Number.isFinite(entry) || (slot.isInteger && !Number.isSafeInteger(entry)))
      throw refuse(expected, entry);
    // The tensor would hold an infinity, and the caller would get a failure of the model for it.
    if (Math.abs(entry) > slot.largest) throw refuse(`${expected} within ±${slot.largest}`, entry, slot.largest);
  };
  if (!slot.isList) {
    if (typeof value === 'object') throw refuse(`a single ${entryKind}`, value);
    checkEntry(value, `a ${entryKind}`);
    return;
  }
  if (!Array.isArray(value)) throw refuse(`a list of ${entryKind}s`, value);
  const { max } = FEATURE_LIMITS.listLength;
  if (value.length > max) {
    throw new BelfryError(
      'BELFRY_INVALID_FEATURES',
      `${field}: expected at most ${max} entries, received ${value.length}`,
      { field, limit: max },
    );
  }
  for (const entry of value) checkEntry(entry, `a list of ${entryKind}s`);
}

export interface EncodedColumn {
  readonly encoder: ColumnEncoder;
  /** By stored entry or by word of the dictionary; in lists NaN is skipped. */
  readonly encoded: Float64Array;
}

/** An encoder for a whole column, or the reason why the column does not fit the slot; in slices, since others are answered meanwhile. */
export async function encodeColumn(
  slot: Slot,
  column: FeatureColumn,
  slices = new Slices(),
): Promise<EncodedColumn | string> {
  const isListColumn = column.kind === 'string_list' || column.kind === 'number_list';
  if (slot.width > 1 && !isListColumn) return `it is a ${column.kind} column, and width ${slot.width} needs a list`;
  if (slot.vocabulary === null && (column.kind === 'string' || column.kind === 'string_list'))
    return 'it holds strings, so it needs a vocabulary';
  const numbers = column.kind === 'number' || column.kind === 'number_list' ? column.values : null;
  if (slot.vocabulary === null && slot.isInteger && numbers !== null) {
    const bad = numbers.find((value) => !Number.isNaN(value) && !Number.isInteger(value));
    if (bad !== undefined) return `it holds ${bad}, and the input takes whole numbers`;
  }
  if (slot.vocabulary === null && numbers !== null) {
    const bad = numbers.find((value) => Math.abs(value) > slot.largest);
    if (bad !== undefined) return `it holds ${bad}, and the input takes numbers within ±${slot.largest}`;
  }
  const encoded = await encodedEntries(slot, column, slices);
  return { encoder: encoderOf(slot, column, encoded), encoded };
}

function encoderOf(slot: Slot, column: FeatureColumn, encoded: Float64Array): ColumnEncoder {
  if (column.kind === 'string_list' || column.kind === 'number_list')
    return listEncoder(slot, column.offsets, encoded, column);
  const { missing } = slot;
  if (column.kind === 'string') {
    const { codes } = column;
    return (rows, out, stride, at) => {
      for (let i = 0, to = at; i < rows.length; i++, to += stride) {
        const row = rows[i]!;
        const code = row < 0 ? -1 : codes[row]!;
        out[to] = code < 0 ? missing : encoded[code]!;
      }
    };
  }
  return (rows, out, stride, at) => {
    for (let i = 0, to = at; i < rows.length; i++, to += stride) {
      const row = rows[i]!;
      out[to] = row < 0 ? missing : encoded[row]!;
    }
  };
}

/**
 * What each dictionary word (string columns) or each stored value (number and boolean columns) encodes to. Nulls and
 * words to skip have become `missing` in scalar columns and NaN in lists.
 */
async function encodedEntries(slot: Slot, column: FeatureColumn, slices: Slices): Promise<Float64Array> {
  const isListColumn = column.kind === 'string_list' || column.kind === 'number_list';
  const settled = (number: number): number => (Number.isNaN(number) && !isListColumn ? slot.missing : number);
  switch (column.kind) {
    case 'string':
    case 'string_list':
      return mapInSlices(slices, column.dictionary, (word) => settled(encodeWord(slot, word)));
    case 'boolean':
      return mapInSlices(slices, column.values, (value) =>
        value === 2 ? slot.missing : settled(slot.vocabulary === null ? value : encodeWord(slot, value === 1)),
      );
    case 'number':
    case 'number_list':
      if (slot.vocabulary === null && column.kind === 'number_list') return column.values;
      return mapInSlices(slices, column.values, (value) =>
        Number.isNaN(value) ? settled(Number.NaN) : settled(slot.vocabulary === null ? value : encodeWord(slot, value)),
      );
  }
}

async function mapInSlices<T>(
  slices: Slices,
  values: ArrayLike<T>,
  encode: (value: T) => number,
): Promise<Float64Array> {
  const encoded = new Float64Array(values.length);
  for (let at = 0; at < values.length; at++) {
    if (at % STEP === STEP - 1 && slices.isOver) await slices.next();
    encoded[at] = encode(values[at]!);
  }
  return encoded;
}

function listEncoder(slot: Slot, offsets: Uint32Array, encoded: Float64Array, column: FeatureColumn): ColumnEncoder {
  const codes = column.kind === 'string_list' ? column.codes : null;
  const { width, pad, keepsLast } = slot;
  const absent = slot.hasMissing ? slot.missing : pad;
  return (rows, out, stride, base) => {
    for (let i = 0, to = base; i < rows.length; i++, to += stride) {
      const row = rows[i]!;
      const start = row < 0 ? 0 : offsets[row]!;
      const end = row < 0 ? 0 : offsets[row + 1]!;
      let filled = 0;
      if (keepsLast) {
        // Walk back until the width is full, then move what was found to the front.
        for (let at = end - 1; at >= start && filled < width; at--) {
          const number = encoded[codes === null ? at : codes[at]!]!;
          if (!Number.isNaN(number)) out[to + width - 1 - filled++] = number;
        }
        if (filled < width) out.copyWithin(to, to + width - filled, to + width);
      } else {
        for (let at = start; at < end && filled < width; at++) {
          const number = encoded[codes === null ? at : codes[at]!]!;
          if (!Number.isNaN(number)) out[to + filled++] = number;
        }
      }
      if (filled === 0 && start === end) out[to + filled++] = absent;
      for (; filled < width; filled++) out[to + filled] = pad;
    }
  };
}
