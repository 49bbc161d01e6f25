/** Which items the job may return at all: the filter, less what is excluded. */
import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { NativeSearch } from '../ann/addon.js';
import { invalid } from '../errors.js';
import type { FilterGroup } from '../features/filter.js';
import { Slices } from '../features/slices.js';
import type { Id, Row } from '../types.js';
import { GONE, type ItemView } from '../upserts/item-view.js';

/** Rows between two looks at the clock. */
const STEP = 1024;
const BYTES_PER_TURN = 16_384;

/** Bit r (byte r >> 3, bit r & 7): row r may be returned. */
type Bitmap = Uint8Array;

export interface Admission {
  /** Undefined when every item may be returned; a bitmap where the filter alone does not say it. */
  readonly allowed?: NativeSearch['filter'];
  /** Of each segment of changed items, in their order. */
  readonly parts: readonly Bitmap[];
  /** Items that may be returned. */
  readonly admitted: number;
  /** Excluded ids that are no items of the generation; they change nothing, as online. */
  readonly unknownExcluded: number;
  /** SHA-256 of the bitmap; null without one. */
  readonly fingerprint: string | null;
}

export interface AdmissionOptions {
  readonly filter?: FilterGroup | undefined;
  readonly exclude?: readonly Id[] | undefined;
  /** Those of them that are for everyone; the rest are each user's own (UserExclusions). */
  readonly excludeSets?: readonly string[] | undefined;
}

/** Errors: BELFRY_INVALID_ARGUMENT, BELFRY_UNKNOWN_FIELD, BELFRY_UNKNOWN_EXCLUSION_SET. */
export async function admit(
  view: ItemView,
  { filter, exclude = [], excludeSets = [] }: AdmissionOptions,
): Promise<Admission> {
  const { generation, baseRows: rows } = view;
  if (filter !== undefined && (typeof filter !== 'object' || filter === null || Array.isArray(filter)))
    throw invalid('filter', 'an object with must, must_not or should, as in POST /retrieve', filter);
  const passing = filter === undefined ? undefined : await view.evaluate(filter, () => Number.POSITIVE_INFINITY);
  const slices = new Slices();
  const named = new Uint32Array(exclude.length);
  let known = 0;
  for (const id of exclude) {
    if (slices.isOver) await slices.next();
    const row = view.rowOf(id);
    if (row !== undefined) named[known++] = row;
  }
  const sets = generation.exclusions.choose(excludeSets).filter(({ isPerUser }) => !isPerUser);
  const lists = [
    view.hiddenRows(),
    named.subarray(0, known),
    ...sets.map((set) => view.current(set.rowsFor(undefined))),
  ];
  const unknownExcluded = exclude.length - known;
  const hasExcluded = lists.some(({ length }) => length > 0);
  if (passing === undefined && !hasExcluded && view.slots === 0)
    return { parts: [], admitted: rows, unknownExcluded, fingerprint: null };
  const bitmap = passing?.base.toBytes() ?? allRows(rows);
  const left = new Set<Row>();
  for (const list of lists) {
    for (let at = 0; at < list.length; at++) {
      if (at % STEP === 0 && slices.isOver) await slices.next();
      if (list[at]! < rows) bitmap[list[at]! >> 3]! &= ~(1 << (list[at]! & 7));
      else left.add(list[at]!);
    }
  }
  const parts = view.segmentRows.map((segment, at) => {
    const part = passing?.parts[at]!.toBytes() ?? allRows(segment.length);
    for (const [row, changed] of segment.entries())
      if (changed === GONE || left.has(changed)) part[row >> 3]! &= ~(1 << (row & 7));
    return part;
  });
  const allowed = hasExcluded || passing === undefined ? bitmap : passing.base;
  return { allowed, parts, unknownExcluded, ...(await countAndHash([bitmap, ...parts])) };
}

function allRows(rows: number): Bitmap {
  const bitmap = new Uint8Array(Math.ceil(rows / 8)).fill(255);
  if (rows % 8 > 0) bitmap[bitmap.length - 1] = (1 << (rows % 8)) - 1;
  return bitmap;
}

async function countAndHash(bitmaps: readonly Bitmap[]): Promise<{ admitted: number; fingerprint: string }> {
  const hash = createHash('sha256');
  let admitted = 0;
  for (const bitmap of bitmaps) {
    for (let start = 0; start < bitmap.length; start += BYTES_PER_TURN) {
      const part = bitmap.subarray(start, start + BYTES_PER_TURN);
      for (let byte of part) for (; byte !== 0; byte &= byte - 1) admitted++;
      hash.update(part);
      await nextTurn();
    }
  }
  return { admitted, fingerprint: hash.digest('hex') };
}
