/**
 * The filters of one generation: its item columns in native memory, the way of a filter from text to bitmap, and the
 * bitmaps of recent filters, since a service sees few distinct ones.
 */
import { setImmediate } from 'node:timers/promises';
import { loadAddon, type NativeColumn, type NativeColumnBuilder, type NativeFilter } from '../ann/addon.js';
import { BelfryError } from '../errors.js';
import type { ColumnKind, FeatureColumn } from '../features/feature-column.js';
import type { FeatureTable } from '../features/feature-table.js';
import { checkFilter, compileFilter, type FilterFields, type FilterGroup, ID_FIELD } from '../features/filter.js';
import { Slices } from '../features/slices.js';
import { WordIndex } from '../features/word-index.js';
import type { Id, Row } from '../types.js';

/** Bytes of the bitmaps and texts that are kept: 500 filters of a million items. */
const CACHE_BYTES = 64 * 1024 * 1024;
/** Longer filters (lists of ids, mostly) are hardly ever repeated. */
const CACHED_LENGTH = 16_384;
/** Values that one call copies into native memory: well under a millisecond. */
const CALL_VALUES = 65_536;
const CALL_IDS = 8_192;

interface CachedFilter {
  readonly filter: NativeFilter;
  readonly bytes: number;
}

export interface ItemFiltersOptions {
  readonly threads?: number | undefined;
  readonly cacheBytes?: number;
}

export class ItemFilters {
  private readonly columns = new Map<string, Promise<NativeColumn>>();
  private readonly words = new Map<string, WordIndex>();
  private readonly fields: FilterFields;
  private readonly cache = new Map<string, CachedFilter>();
  private cachedBytes = 0;
  private hits = 0;
  private misses = 0;
  private columnBytes = 0;
  private isClosed = false;

  private constructor(
    private readonly table: FeatureTable,
    rowOf: (id: Id) => Row | undefined,
    private readonly options: ItemFiltersOptions,
  ) {
    const kinds = new Map(table.columns.map(({ name, kind }) => [name, kind]));
    const idKind: ColumnKind = typeof table.idOf(0) === 'number' ? 'number' : 'string';
    if (table.rows > 0) kinds.set(ID_FIELD, idKind);
    this.fields = {
      table: table.name,
      names: [ID_FIELD, ...table.columns.map(({ name }) => name)],
      kindOf: (field) => kinds.get(field),
      codeOf: (field, word) => this.words.get(field)?.codeOf(word),
      rowOf,
    };
  }

  /** Hands the columns over. `table` is in the row order of the index; `rowOf` knows its ids. */
  static async open(
    table: FeatureTable,
    rowOf: (id: Id) => Row | undefined,
    options: ItemFiltersOptions = {},
  ): Promise<ItemFilters> {
    const filters = new ItemFilters(table, rowOf, options);
    try {
      for (const { name } of table.columns) await filters.columnOf(name);
    } catch (error) {
      filters.close();
      throw error;
    }
    return filters;
  }

  /** Bytes of native memory, of the dictionaries' hash tables and of the cached bitmaps. */
  get bytes(): number {
    let bytes = this.columnBytes + this.cachedBytes;
    for (const index of this.words.values()) bytes += index.bytes;
    return bytes;
  }

  /** Lookups of the cache so far, and what it holds. */
  get cacheFacts(): { readonly hits: number; readonly misses: number; readonly bytes: number } {
    return { hits: this.hits, misses: this.misses, bytes: this.cachedBytes };
  }

  /**
   * Which items pass. Others may use the same handle: do not close it. `remainingMs` says how long anyone still waits.
   * Errors: BELFRY_INVALID_ARGUMENT, BELFRY_UNKNOWN_FIELD, BELFRY_DEADLINE_EXCEEDED.
   */
  async evaluate(
    filter: FilterGroup,
    remainingMs: () => number = () => Number.POSITIVE_INFINITY,
  ): Promise<NativeFilter> {
    const slices = new Slices(() => {
      if (remainingMs() <= 0)
        throw new BelfryError('BELFRY_DEADLINE_EXCEEDED', 'filter: the deadline passed while it was evaluated');
    });
    const length = await checkFilter(filter, slices); // before anything that recurses: a body may nest without end
    const key = length <= CACHED_LENGTH ? JSON.stringify(filter) : undefined;
    const known = key === undefined ? undefined : this.cache.get(key);
    if (known === undefined) this.misses++;
    else {
      this.hits++;
      this.cache.delete(key!); // and set again: the map's order is the order of last use
      this.cache.set(key!, known);
      return known.filter;
    }
    const program = await compileFilter(filter, this.fields, slices);
    const columns = await Promise.all(program.columns.map((name) => this.columnOf(name)));
    const evaluated = await loadAddon().evaluateFilter({
      rows: this.table.rows,
      columns,
      program,
      deadlineMs: remainingMs(),
      ...(this.options.threads === undefined ? {} : { threads: this.options.threads }),
    });
    if (key !== undefined && !this.isClosed) this.keep(key, evaluated);
    return evaluated;
  }

  /** After the last use. */
  close(): void {
    this.isClosed = true;
    for (const { filter } of this.cache.values()) filter.close();
    this.cache.clear();
    for (const column of this.columns.values()) column.then((one) => one.close()).catch(() => undefined);
    this.columns.clear();
  }

  private keep(key: string, filter: NativeFilter): void {
    const entry = { filter, bytes: Math.ceil(filter.rows / 8) + 2 * key.length };
    const limit = this.options.cacheBytes ?? CACHE_BYTES;
    const before = this.cache.get(key); // two requests may have asked for it at once
    if (before !== undefined) this.drop(key, before);
    this.cache.set(key, entry);
    this.cachedBytes += entry.bytes;
    for (const [oldest, one] of this.cache) {
      if (this.cachedBytes <= limit) break;
      this.drop(oldest, one);
    }
  }

  /** Not closed: a request may be about to search with it. The garbage collector knows its size. */
  private drop(key: string, { bytes }: CachedFilter): void {
    this.cache.delete(key);
    this.cachedBytes -= bytes;
  }

  /** Handed over at most once. Ids are compared as rows; only a range of numeric ones needs them as a column. */
  private columnOf(name: string): Promise<NativeColumn> {
    const known = this.columns.get(name);
    if (known !== undefined) return known;
    const column = name === ID_FIELD ? this.handOverIds() : this.handOver(this.table.column(name)!);
    this.columns.set(name, column);
    column.catch(() => this.columns.delete(name)); // out of memory, say: the next filter tries again
    return column;
  }

  private async handOverIds(): Promise<NativeColumn> {
    const { table } = this;
    const { rows } = table;
    const builder = await loadAddon().createColumn({ kind: 'number', rows });
    for (let start = 0; start < rows; start += CALL_IDS) {
      const length = Math.min(CALL_IDS, rows - start);
      builder.append(Float64Array.from({ length }, (_, at) => table.idOf(start + at) as number));
      await setImmediate();
    }
    return this.finish(builder);
  }

  private async handOver(column: FeatureColumn): Promise<NativeColumn> {
    const { rows } = this.table;
    const values = 'values' in column ? column.values : column.codes;
    const builder = await loadAddon().createColumn({
      kind: column.kind,
      rows,
      entries: values.length,
      ...('dictionary' in column ? { words: column.dictionary.length } : {}),
    });
    for (let start = 0; start < values.length; start += CALL_VALUES) {
      builder.append(values.subarray(start, start + CALL_VALUES));
      await setImmediate();
    }
    if ('offsets' in column) {
      for (let start = 0; start < column.offsets.length; start += CALL_VALUES) {
        builder.appendOffsets(column.offsets.subarray(start, start + CALL_VALUES));
        await setImmediate();
      }
    }
    if ('dictionary' in column) this.words.set(column.name, await WordIndex.build(column.dictionary, new Slices()));
    return this.finish(builder);
  }

  private async finish(builder: NativeColumnBuilder): Promise<NativeColumn> {
    const native = await builder.finish();
    this.columnBytes += native.bytes;
    return native;
  }
}
