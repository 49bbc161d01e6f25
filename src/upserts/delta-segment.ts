/** Some changed items in native memory: searched exactly, filtered by their own columns. Never changes after it is made. */
import {
  loadAddon,
  type NativeFilter,
  type NativeHits,
  type NativeIndex,
  type NativeMatrix,
  type NativeSearch,
} from '../ann/addon.js';
import { rowsPerCall } from '../ann/read-rows.js';
import type { FilterGroup } from '../features/filter.js';
import type { Generation } from '../generation/generation.js';
import { ItemFilters } from '../generation/item-filters.js';
import type { Features, Id, Metric } from '../types.js';
import { tableOf } from './delta-table.js';

/** What a slot of the delta holds; immutable. */
export interface DeltaItem {
  readonly id: Id;
  readonly embedding: Float32Array;
  readonly metadata: Features;
}

/** Rows that are asked for beyond the k best: none. */
export interface SegmentHits {
  /** Rows of the segment. */
  readonly rows: Uint32Array;
  readonly scores: Float32Array;
}

export class DeltaSegment {
  private holders = 1;
  private similarity: Promise<NativeIndex> | undefined;
  private filters: Promise<ItemFilters> | undefined;

  private constructor(
    private readonly generation: Generation,
    /** Slots of the delta, ascending: row r of the segment is slot slots[r]. */
    readonly slots: Uint32Array,
    private readonly items: readonly DeltaItem[],
    readonly matrix: NativeMatrix,
    private readonly index: NativeIndex,
  ) {}

  static async make(generation: Generation, slots: Uint32Array, items: readonly DeltaItem[]): Promise<DeltaSegment> {
    const { dims, metric } = generation.index.info;
    const builder = await loadAddon().createMatrix({ rows: items.length, dims });
    const step = Math.max(1, Math.floor(rowsPerCall(dims) / 64)); // copies of a tenth of a millisecond
    for (let start = 0; start < items.length; start += step) {
      const some = items.slice(start, start + step);
      const values = new Float32Array(some.length * dims);
      for (const [at, { embedding }] of some.entries()) values.set(embedding, at * dims);
      builder.append(values);
      if (start + step < items.length) await new Promise((resolve) => setImmediate(resolve));
    }
    const matrix = builder.finish();
    try {
      return new DeltaSegment(generation, slots, items, matrix, await createIndex(generation, matrix, metric));
    } catch (error) {
      matrix.close();
      throw error;
    }
  }

  get rows(): number {
    return this.slots.length;
  }

  /** Undefined when the slot is not in this segment. */
  rowOf(slot: number): number | undefined {
    let [low, high] = [0, this.slots.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.slots[middle]! < slot) low = middle + 1;
      else high = middle;
    }
    return this.slots[low] === slot ? low : undefined;
  }

  /** The true best k. `metric` is the generation's, or the one that similar items are compared by. */
  async search(
    query: Float32Array,
    k: number,
    metric: Metric,
    exclude: Uint32Array,
    filter: NativeFilter | undefined,
  ): Promise<SegmentHits> {
    const index = metric === this.index.info.metric ? this.index : await this.similarityIndex(metric);
    const { rows, scores, counts } = await index.search({
      queries: query,
      k,
      mode: 'exact',
      ...(exclude.length === 0 ? {} : { exclude }),
      ...(filter === undefined ? {} : { filter }),
    });
    return { rows: rows.subarray(0, counts[0]), scores: scores.subarray(0, counts[0]) };
  }

  /** As NativeIndex.search. */
  searchMany(search: NativeSearch): Promise<NativeHits> {
    return this.index.search(search);
  }

  /** Errors: those of ItemFilters.evaluate. */
  async evaluate(filter: FilterGroup, remainingMs: () => number): Promise<NativeFilter> {
    this.filters ??= this.openFilters();
    return (await this.filters).evaluate(filter, remainingMs);
  }

  retain(): this {
    this.holders++;
    return this;
  }

  /** The last one frees the native memory; searches that run keep it until they are done. */
  release(): void {
    if (--this.holders > 0) return;
    this.index.close();
    this.matrix.close();
    this.similarity?.then((index) => index.close()).catch(() => undefined); // whoever asked for it has heard
    this.filters?.then((filters) => filters.close()).catch(() => undefined);
  }

  private similarityIndex(metric: Metric): Promise<NativeIndex> {
    this.similarity ??= createIndex(this.generation, this.matrix, metric);
    return this.similarity;
  }

  private openFilters(): Promise<ItemFilters> {
    const rows = new Map(this.items.map(({ id }, row) => [id, row]));
    return ItemFilters.open(tableOf(this.generation.itemTable, this.items), (id) => rows.get(id), { cacheBytes: 0 });
  }
}

function createIndex({ index }: Generation, matrix: NativeMatrix, metric: Metric): Promise<NativeIndex> {
  const { kernel, threads } = index.info;
  return loadAddon().createIndex({ matrix, metric, kernel, threads });
}
