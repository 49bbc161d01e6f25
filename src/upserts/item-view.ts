/**
 * The items that one request sees: those of a generation with the changes up to one moment. Rows of the generation keep
 * their numbers; a changed item is a row after them. Everything that names items by row goes through a view.
 */
import type { NativeFilter, NativeHits, NativeMatrix, NativeSearch, RowLists } from '../ann/addon.js';
import { readRows } from '../ann/read-rows.js';
import type { Found, Search, Searcher } from '../ann/searcher.js';
import type { FilterGroup } from '../features/filter.js';
import type { Generation } from '../generation/generation.js';
import type { Features, FeatureValue, Id, Metric, Row } from '../types.js';
import type { DeltaItem, DeltaSegment, SegmentHits } from './delta-segment.js';

export interface ViewSegment {
  readonly segment: DeltaSegment;
  /** Rows of it that have changed since. */
  readonly dead: Uint32Array;
}

/** Which items pass a filter: of the generation, and of each segment. */
export interface ViewFilter {
  readonly base: NativeFilter;
  readonly parts: readonly NativeFilter[];
  /** Items that pass; of the generation, those that changes hide are among them. */
  readonly count: number;
}

export interface ViewSearch extends Omit<Search, 'filter' | 'visible'> {
  readonly filter?: ViewFilter | undefined;
}

export interface ViewFound extends Found {
  /** Changed items that were scanned beside the search of the generation. */
  readonly deltaRows: number;
}

/** What a view asks of its delta. */
export interface Slots {
  /** No other delta of the process has this one. */
  readonly serial: number;
  /** The last slot below `end` of the item; -1 where it has none. */
  lastSlot(id: Id, end: number): number;
  /** Undefined for a slot that took the item away. */
  itemAt(slot: number): DeltaItem | undefined;
  idAt(slot: number): Id;
  /** Whether a row of the generation is not answered any more; later changes count too. */
  isHidden(row: Row): boolean;
}

/** No row. */
export const GONE = 0xffffffff;

export class ItemView {
  private holders = 1;
  /** Rows of the generation; the first changed item has this number. */
  readonly baseRows: number;
  /** Changed items that can be answered. */
  readonly deltaRows: number;

  constructor(
    readonly generation: Generation,
    /** Slots of the delta that the view knows. */
    readonly slots: number,
    private readonly segments: readonly ViewSegment[],
    private readonly visible: NativeFilter | undefined,
    private readonly delta: Slots,
  ) {
    this.baseRows = generation.itemIds.size;
    this.deltaRows = segments.reduce((sum, { segment, dead }) => sum + segment.rows - dead.length, 0);
  }

  /** Equal for views of the same items only: a compacted or remade delta counts its slots anew. */
  get state(): string {
    return `${this.delta.serial}:${this.slots}`;
  }

  /** Undefined when no request can be answered with the item. */
  rowOf(id: Id): Row | undefined {
    const slot = this.delta.lastSlot(id, this.slots);
    if (slot >= 0) return this.delta.itemAt(slot) === undefined ? undefined : this.baseRows + slot;
    const row = this.generation.itemIds.rowOf(id);
    return row === undefined || this.generation.skippedItems.has(row) ? undefined : row;
  }

  /** Where the item of a row of the generation is now; undefined when no request can be answered with it. */
  rowNow(row: Row): Row | undefined {
    return this.delta.isHidden(row) ? this.rowOf(this.generation.itemIds.idOf(row)) : row;
  }

  idOf(row: Row): Id {
    return row < this.baseRows ? this.generation.itemIds.idOf(row) : this.changed(row).id;
  }

  valueAt(row: Row, column: string): FeatureValue {
    if (row < this.baseRows) return this.generation.itemTable.valueAt(row, column);
    const { metadata } = this.changed(row);
    if (Object.hasOwn(metadata, column)) return metadata[column]!;
    return this.generation.itemTable.column(column)?.kind.endsWith('_list') === true ? [] : null; // as in the table
  }

  /** What a model may read of a changed item, its id among it; undefined for a row of the generation. */
  private featuresOf(row: Row): Features | undefined {
    if (row < this.baseRows) return undefined;
    const features: Record<string, FeatureValue> = { id: this.changed(row).id };
    for (const { name } of this.generation.itemTable.columns) {
      const value = this.valueAt(row, name);
      if (value !== null) features[name] = value;
    }
    return features;
  }

  /** Rows of the generation as the rows that their items have now: hidden ones may stay. */
  current(rows: Uint32Array): Uint32Array {
    if (this.slots === 0) return rows;
    const { itemIds } = this.generation;
    return rows.map((row) => (this.delta.isHidden(row) ? (this.rowOf(itemIds.idOf(row)) ?? row) : row));
  }

  /** Rows for whoever reads the item table: changed items are in no table, and bring their features. */
  tableRows(rows: Uint32Array): { rows: ArrayLike<number>; features?: readonly (Features | undefined)[] } {
    if (rows.every((row) => row < this.baseRows)) return { rows };
    return {
      rows: Int32Array.from(rows, (row) => (row < this.baseRows ? row : -1)),
      features: Array.from(rows, (row) => this.featuresOf(row)),
    };
  }

  /** Row-major f32 values, in `into` where it is given. */
  async readVectors(rows: Uint32Array, into?: Float32Array): Promise<Float32Array> {
    const { items } = this.generation;
    if (rows.every((row) => row < this.baseRows)) return readRows(items, rows, into);
    const stored = rows.map((row) => (row < this.baseRows ? row : 0));
    const values = await readRows(items, stored, into);
    for (const [at, row] of rows.entries())
      if (row >= this.baseRows) values.set(this.changed(row).embedding, at * items.dims);
    return values;
  }

  /** Errors: those of ItemFilters.evaluate. */
  async evaluate(filter: FilterGroup, remainingMs: () => number): Promise<ViewFilter> {
    const [base, ...parts] = await Promise.all([
      this.generation.filters.evaluate(filter, remainingMs),
      ...this.segments.map(({ segment }) => segment.evaluate(filter, remainingMs)),
    ]);
    return { base, parts, count: parts.reduce((sum, { count }) => sum + count, base.count) };
  }

  /** 1 for each of these rows that passes, else 0. */
  allows({ base, parts }: ViewFilter, rows: Uint32Array): Uint8Array {
    if (rows.every((row) => row < this.baseRows)) return base.allows(rows);
    return Uint8Array.from(rows, (row) => {
      if (row < this.baseRows) return base.allows(Uint32Array.of(row))[0]!;
      const [part, at] = this.placeOf(row);
      return parts[part]!.allows(Uint32Array.of(at))[0]!;
    });
  }

  /** Where the vectors of rows are in native memory: row i is row rows[i] of sources[of[i]]. */
  vectorRows(rows: Uint32Array): { sources: NativeMatrix[]; of: Uint32Array; rows: Uint32Array } {
    const { items } = this.generation;
    const of = new Uint32Array(rows.length);
    if (rows.every((row) => row < this.baseRows)) return { sources: [items], of, rows };
    const own = rows.map((row, i) => {
      if (row < this.baseRows) return row;
      const [part, at] = this.placeOf(row);
      of[i] = part + 1;
      return at;
    });
    return { sources: [items, ...this.segments.map(({ segment }) => segment.matrix)], of, rows: own };
  }

  /** The best k of the generation's items as `searcher` finds them, and of the changed ones, exactly. At once where it can be. */
  search(searcher: Searcher, search: ViewSearch): ViewFound | Promise<ViewFound> {
    const { filter, exclude, query, k, recall, exact, ef, until } = search;
    const base = searcher.search({
      query,
      k,
      recall,
      exact,
      ef,
      until,
      filter: filter?.base,
      exclude: this.segments.length === 0 ? exclude : exclude.filter((row) => row < this.baseRows),
      visible: this.visible,
    });
    if (this.segments.length > 0) return this.searchChanged(base, searcher.index.info.metric, search);
    return base instanceof Promise ? base.then(withoutDelta) : withoutDelta(base);
  }

  private async searchChanged(
    base: Found | Promise<Found>,
    metric: Metric,
    { filter, exclude, query, k }: ViewSearch,
  ): Promise<ViewFound> {
    const changed = this.segments.map((part, at) =>
      this.searchSegment(part, query, k, metric, exclude, filter?.parts[at]),
    );
    const [found, ...others] = await Promise.all([base, ...changed]);
    return { ...found, ...mergeHits(found, others, k), deltaRows: this.deltaRows };
  }

  /**
   * As NativeIndex.search of the generation for many queries, with the changed items. `allowed` are the rows of the
   * generation that may be returned, hidden ones not among them; `parts` those of each segment.
   */
  async searchMany(
    search: NativeSearch,
    allowed: NativeSearch['filter'],
    parts: readonly Uint8Array[],
    excludeEach: RowLists | undefined,
  ): Promise<NativeHits> {
    const { queries, k } = search;
    const excludes = (rowOf: (row: Row) => Row | undefined) =>
      excludeEach === undefined ? {} : { excludeEach: mapLists(excludeEach, rowOf) };
    const base = this.generation.index.search({
      ...search,
      ...(allowed === undefined ? {} : { filter: allowed }),
      ...(this.segments.length > 0
        ? excludes((row) => (row < this.baseRows ? row : undefined))
        : excludeEach === undefined
          ? {}
          : { excludeEach }),
    });
    if (this.segments.length === 0) return base;
    const others = this.segments.map(({ segment }, at) =>
      segment.searchMany({
        queries,
        k,
        mode: 'exact',
        filter: parts[at]!,
        ...excludes((row) => (row < this.baseRows ? undefined : segment.rowOf(row - this.baseRows))),
      }),
    );
    const [first, ...rest] = await Promise.all([base, ...others]);
    const { rows, scores, counts } = first;
    for (let q = 0; q < counts.length; q++) {
      const lists = rest.map((hits, at) => {
        const { slots } = this.segments[at]!.segment;
        const found = hitsOf(hits, q, k);
        return { rows: found.rows.map((row) => this.baseRows + slots[row]!), scores: found.scores };
      });
      const merged = mergeHits(hitsOf(first, q, k), lists, k);
      counts[q] = merged.rows.length;
      rows.set(merged.rows, q * k);
      scores.set(merged.scores, q * k);
    }
    return first;
  }

  /** Rows of the generation that no request is answered with. */
  hiddenRows(): Uint32Array {
    const bytes = this.visible?.toBytes();
    if (bytes === undefined) return new Uint32Array(0);
    const rows: Row[] = [];
    for (let row = 0; row < this.baseRows; row++) if ((bytes[row >> 3]! & (1 << (row & 7))) === 0) rows.push(row);
    return Uint32Array.from(rows);
  }

  /** The rows of each segment as rows of the view; GONE where an item has changed since. */
  get segmentRows(): Uint32Array[] {
    return this.segments.map(({ segment, dead }) => {
      const rows = segment.slots.map((slot) => this.baseRows + slot);
      for (const row of dead) rows[row] = GONE;
      return rows;
    });
  }

  /** By slot, so that row baseRows + s is changedIds()[s]; a slot that took an item away has the id of that. */
  changedIds(): Id[] {
    return Array.from({ length: this.slots }, (_, slot) => this.delta.idAt(slot));
  }

  retain(): this {
    this.holders++;
    return this;
  }

  release(): void {
    if (--this.holders === 0) for (const { segment } of this.segments) segment.release();
  }

  private async searchSegment(
    { segment, dead }: ViewSegment,
    query: Float32Array,
    k: number,
    metric: Metric,
    exclude: Uint32Array,
    filter: NativeFilter | undefined,
  ): Promise<SegmentHits> {
    const left: number[] = [];
    for (const row of exclude) {
      const at = row < this.baseRows ? undefined : segment.rowOf(row - this.baseRows);
      if (at !== undefined) left.push(at);
    }
    const excluded = left.length === 0 ? dead : Uint32Array.from([...dead, ...left]);
    const { rows, scores } = await segment.search(query, k, metric, excluded, filter);
    return { rows: rows.map((row) => this.baseRows + segment.slots[row]!), scores };
  }

  /** The segment of a changed item, and its row there. */
  private placeOf(row: Row): [segment: number, row: number] {
    for (const [at, { segment }] of this.segments.entries()) {
      const own = segment.rowOf(row - this.baseRows);
      if (own !== undefined) return [at, own];
    }
    throw new Error(`row ${row} is in no segment of this view`);
  }

  private changed(row: Row): DeltaItem {
    const item = this.delta.itemAt(row - this.baseRows);
    if (item === undefined) throw new Error(`row ${row} is no item of this view`);
    return item;
  }
}

function withoutDelta({ rows, scores, plan, path, scored }: Found): ViewFound {
  return { rows, scores, plan, path, scored, deltaRows: 0 };
}

function hitsOf({ rows, scores, counts }: NativeHits, q: number, k: number): SegmentHits {
  const end = q * k + counts[q]!;
  return { rows: rows.slice(q * k, end), scores: scores.slice(q * k, end) };
}

/** Lists of other rows; those that have none are left out. */
function mapLists({ offsets, rows }: RowLists, rowOf: (row: Row) => Row | undefined): RowLists {
  const mapped: Row[] = [];
  const ends = new Uint32Array(offsets.length);
  for (let list = 0; list + 1 < offsets.length; list++) {
    for (let at = offsets[list]!; at < offsets[list + 1]!; at++) {
      const row = rowOf(rows[at]!);
      if (row !== undefined) mapped.push(row);
    }
    ends[list + 1] = mapped.length;
  }
  return { offsets: ends, rows: Uint32Array.from(mapped) };
}

/** The best k of lists that are ordered already; equal scores in the order of the rows. */
function mergeHits(first: SegmentHits, others: readonly SegmentHits[], k: number): SegmentHits {
  const lists = [first, ...others];
  const places = lists.map(() => 0);
  const count = Math.min(
    k,
    lists.reduce((sum, { rows }) => sum + rows.length, 0),
  );
  const [rows, scores] = [new Uint32Array(count), new Float32Array(count)];
  for (let at = 0; at < count; at++) {
    let best = -1;
    for (const [list, hits] of lists.entries()) {
      const place = places[list]!;
      if (place >= hits.rows.length) continue;
      if (best >= 0) {
        const [a, b] = [hits.scores[place]!, lists[best]!.scores[places[best]!]!];
        if (a < b || (a === b && hits.rows[place]! > lists[best]!.rows[places[best]!]!)) continue;
      }
      best = list;
    }
    const place = places[best]!++;
    rows[at] = lists[best]!.rows[place]!;
    scores[at] = lists[best]!.scores[place]!;
  }
  return { rows, scores };
}
