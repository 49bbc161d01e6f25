/** The query vector of a request: stored, fresh from the user tower, given, or the mean of items. */
import { BelfryError, show } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import { historyOf } from '../generation/history.js';
import type { Degradation, Features, Id } from '../types.js';
import type { ItemView } from '../upserts/item-view.js';
import { countInvalidOutput, type Pass } from './pass.js';
import type { QuerySource } from './request.js';

export interface Query {
  /** dims values, finite. */
  readonly vector: Float32Array;
  /** How it was found, for `explain`. */
  readonly how: 'stored user' | 'default user' | 'user tower' | 'given' | 'mean of items';
  readonly degraded: readonly Degradation[];
  readonly userId?: Id;
  /** What is known of the user, for re-ranking; the id is one of its features. */
  readonly features: Features;
  /** Rows of the items that the user has, for exclude_seen. */
  readonly seen: Uint32Array;
}

/** The query of a request, within its deadline. Errors: those of the source, BELFRY_DEADLINE_EXCEEDED. */
export async function findQuery({ request, view, deadline, timer, degraded, metrics }: Pass): Promise<Query> {
  const finding = resolveQuery(request.source, view).catch((error: unknown) => {
    countInvalidOutput(metrics, view.generation.tower?.name, error);
    throw error;
  });
  const query = await deadline.orThrow(finding, 'computing the query embedding');
  degraded.push(...query.degraded);
  timer.mark(query.how === 'user tower' ? 'tower' : 'query');
  return query;
}

export async function resolveQuery(source: QuerySource, view: ItemView): Promise<Query> {
  switch (source.kind) {
    case 'user':
      return ofUser(source.id, view);
    case 'features':
      return ofFeatures(source.features, view);
    case 'embedding':
      return {
        vector: checkVector(source.vector, view.generation),
        how: 'given',
        degraded: [],
        features: {},
        seen: new Uint32Array(0),
      };
    case 'items':
      return ofItems(source.ids, view);
  }
}

async function ofUser(id: Id, view: ItemView): Promise<Query> {
  const { generation } = view;
  const { users, userIds, userTable, tower } = generation;
  const stored = userTable.featuresOf(id);
  const features = { ...stored, id };
  const { seen } = historyOf(features, view);
  const user = { userId: id, features, seen };
  const row = userIds?.rowOf(id);
  if (users !== undefined && row !== undefined && !generation.skippedUsers.has(row)) {
    return { ...user, vector: users.readRows(Uint32Array.of(row)), how: 'stored user', degraded: [] };
  }
  // A user whose features came after the export: known to the tower, not to user_embeddings.npy.
  if (tower !== undefined && stored !== undefined) {
    return { ...user, vector: await embed(stored, generation), how: 'user tower', degraded: [] };
  }
  if (users === undefined && userTable.rows === 0) {
    throw new BelfryError(
      'BELFRY_NO_USERS',
      'user_id: this generation holds no users; send an embedding, item_ids or features',
      { field: 'user_id' },
    );
  }
  return { ...user, vector: generation.defaultQuery, how: 'default user', degraded: ['cold_start'] };
}

async function ofFeatures(features: Features, view: ItemView): Promise<Query> {
  const { generation } = view;
  if (generation.tower === undefined) {
    throw new BelfryError(
      'BELFRY_NO_USER_TOWER',
      `features: ${generation.towerProblem ?? 'this generation has no user tower'}; send user_id, embedding or item_ids`,
      {
        field: 'features',
      },
    );
  }
  const { seen, hasUnknown } = historyOf(features, view);
  return {
    vector: await embed(features, generation),
    how: 'user tower',
    degraded: hasUnknown ? ['unknown_items_ignored'] : [],
    features,
    seen,
  };
}

async function embed(features: Features, generation: Generation): Promise<Float32Array> {
  const { vector } = await generation.tower!.embed(features);
  return vector;
}

async function ofItems(ids: readonly Id[], view: ItemView): Promise<Query> {
  const { generation } = view;
  const rows = new Uint32Array(ids.length);
  let known = 0;
  let firstUnknown: Id | undefined;
  for (const id of ids) {
    const row = view.rowOf(id);
    if (row !== undefined) rows[known++] = row;
    else firstUnknown ??= id;
  }
  const seen = rows.subarray(0, known);
  if (known === 0) {
    throw new BelfryError(
      'BELFRY_UNKNOWN_ITEM',
      `item_ids: none of the ${ids.length} ids is in generation ${generation.id} (first: ${show(firstUnknown)})`,
      {
        field: 'item_ids',
      },
    );
  }
  const { dims } = generation.items;
  const values = await view.readVectors(seen);
  const vector = new Float32Array(dims);
  for (let i = 0; i < known; i++) {
    const item = values.subarray(i * dims, (i + 1) * dims);
    // Under cosine only directions count, so long items must not outvote short ones.
    const scale = (generation.index.info.metric === 'cosine' ? 1 / (Math.hypot(...item) || 1) : 1) / known;
    for (let d = 0; d < dims; d++) vector[d]! += item[d]! * scale;
  }
  return {
    vector,
    how: 'mean of items',
    degraded: firstUnknown === undefined ? [] : ['unknown_items_ignored'],
    features: {},
    seen,
  };
}

/** Errors: BELFRY_DIMS_MISMATCH, BELFRY_INVALID_QUERY_VECTOR. */
export function checkVector(values: readonly number[], generation: Generation): Float32Array {
  const { dims, metric } = generation.index.info;
  if (values.length !== dims) {
    throw new BelfryError(
      'BELFRY_DIMS_MISMATCH',
      `embedding: expected ${dims} dims (generation ${generation.id}), received ${values.length}`,
      {
        field: 'embedding',
        limit: dims,
      },
    );
  }
  const vector = Float32Array.from(values);
  const bad = vector.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new BelfryError(
      'BELFRY_INVALID_QUERY_VECTOR',
      `embedding.${bad}: expected a finite 32-bit number, received ${show(values[bad])}`,
      {
        field: `embedding.${bad}`,
      },
    );
  }
  // Under ip every score would be 0, under cosine there is no direction: in both the answer would be noise.
  if (metric !== 'l2' && vector.every((value) => value === 0)) {
    throw new BelfryError('BELFRY_INVALID_QUERY_VECTOR', `embedding: a zero vector ranks nothing under ${metric}`, {
      field: 'embedding',
    });
  }
  return vector;
}
