/**
 * Do queries lie where items lie? The angle to the nearest item, for users and for items themselves (an item's nearest other).
 * A graph that is built from items alone is poor at queries that lie far outside (arXiv 2408.08933).
 */
import { spread } from '../../ann/build-graph.js';
import { spreadQueries } from '../../ann/calibrate.js';
import { readRows } from '../../ann/read-rows.js';
import { VectorIndex } from '../../ann/vector-index.js';
import type { Generation } from '../../generation/generation.js';
import { quantile } from '../interval.js';

export interface Outside {
  /** Degrees to the nearest of the same sample of items: median of the queries, median and 95th percentile of items. */
  readonly queryAngle: number;
  readonly itemAngle: number;
  readonly itemAngleP95: number;
}

const BASE = 50_000;
const PROBES = 1000;

/** Undefined where there are too few items, or they have no direction. */
export async function outsideOf(generation: Generation, queries: Float32Array): Promise<Outside | undefined> {
  const { items, skippedItems } = generation;
  const { dims } = items;
  const skipped = [...skippedItems];
  const left = items.rows - skipped.length;
  const probes = spread(items.rows, skipped, Math.min(PROBES, Math.floor(left / 5)));
  const base = spread(items.rows, [...skipped, ...probes], Math.min(BASE, left - probes.length));
  const near = withDirection(await readRows(items, base), dims);
  const others = withDirection(await readRows(items, probes), dims);
  const asked = withDirection(spreadQueries(queries, dims, PROBES), dims);
  if (near.length === 0 || others.length === 0 || asked.length === 0) return undefined;
  const index = await VectorIndex.open({ vectors: { data: near, dims }, metric: 'cosine' });
  try {
    const angles = async (vectors: Float32Array): Promise<Float32Array> => {
      const { scores } = await index.search(vectors, { k: 1, exact: true });
      return scores.map((cosine) => (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI).sort();
    };
    const [ofQueries, ofItems] = [await angles(asked), await angles(others)];
    return {
      queryAngle: quantile(ofQueries, 0.5),
      itemAngle: quantile(ofItems, 0.5),
      itemAngleP95: quantile(ofItems, 0.95),
    };
  } finally {
    index.close();
  }
}

/** Rows other than zero, which point nowhere. */
function withDirection(values: Float32Array, dims: number): Float32Array {
  const kept: Float32Array[] = [];
  for (let first = 0; first < values.length; first += dims) {
    const row = values.subarray(first, first + dims);
    if (row.some((value) => value !== 0)) kept.push(row);
  }
  const made = new Float32Array(kept.length * dims);
  kept.forEach((row, at) => made.set(row, at * dims));
  return made;
}
