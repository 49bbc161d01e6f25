/** What about these vectors makes retrieval hard, or makes its answers worse than its recall says. */
import type { Generation } from '../../generation/generation.js';
import { type ItemFacts, itemFacts } from './item-facts.js';
import { type Outside, outsideOf } from './outside.js';
import type { Queries } from './queries.js';
import { type Reach, reachOf } from './reach.js';

export interface Hubs {
  /** Row that stands in most exact lists, and the share of the lists that it stands in. */
  readonly row: number;
  readonly share: number;
  /** Share of all places that the first 1 % of the items take. */
  readonly firstPercent: number;
  /** Share of the items that stand in none. */
  readonly unused: number;
}

export interface Diagnosis {
  readonly items: ItemFacts;
  readonly hubs: Hubs;
  readonly reach?: Reach | undefined;
  readonly outside?: Outside | undefined;
}

export interface DiagnoseOptions {
  readonly queries: Queries;
  /** By row: exact lists of length k that it stands in. */
  readonly hubs: Float64Array;
  readonly k: number;
  readonly reachRows: number;
  readonly onProgress: (stage: string, done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

export async function diagnose(generation: Generation, options: DiagnoseOptions): Promise<Diagnosis> {
  const { queries, onProgress, signal } = options;
  const items = await itemFacts(
    generation.items,
    generation.skippedItems,
    (done, total) => onProgress('item vectors', done, total),
    signal,
  );
  const reach = await reachOf(
    generation,
    options.reachRows,
    (done, total) => onProgress('reach of the graph', done, total),
    signal,
  );
  return {
    items,
    hubs: hubsOf(options.hubs, queries.count, generation.skippedItems.size),
    reach,
    // Items that stand in for users lie where items lie.
    outside: queries.source === 'items' ? undefined : await outsideOf(generation, queries.vectors),
  };
}

function hubsOf(times: Float64Array, lists: number, skipped: number): Hubs {
  const sorted = times.slice().sort().reverse();
  const places = times.reduce((sum, one) => sum + one, 0);
  const first = sorted.subarray(0, Math.ceil(times.length / 100)).reduce((sum, one) => sum + one, 0);
  const used = times.reduce((sum, one) => sum + (one > 0 ? 1 : 0), 0);
  return {
    row: times.indexOf(sorted[0]!),
    share: sorted[0]! / lists,
    firstPercent: first / places,
    unused: 1 - used / (times.length - skipped),
  };
}
