/** The query vector of a request: stored, fresh from the user tower, given, or the mean of items. */
import { BelfryError, type ErrorCode, show } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import { historyOf } from '../generation/history.js';
import type { Degradation, Features, Id } from '../types.js';
import type { ItemView } from '../upserts/item-view.js';
import type { UserTower } from '../tower/user-tower.js';
import { type Asking, countInvalidOutput, type OnTowerFailed, type Pass } from './pass.js';
import { asksStores, lookUpUser } from './user-lookup.js';

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
export async function findQuery(pass: Pass): Promise<Query> {
  const { view, deadline, timer, degraded, metrics, onProblem } = pass;
  const tower = view.generation.tower?.name;
  const finding = resolveQuery(pass, (error) => {
    countInvalidOutput(metrics, tower, error);
    if (error.code !== 'BELFRY_CIRCUIT_OPEN') onProblem(tower ?? 'user tower', error);
  });
  const query = !(finding instanceof Promise)
    ? finding
    : await deadline.orThrow(
        finding.catch((error: unknown) => {
          countInvalidOutput(metrics, tower, error);
          throw error;
        }),
        'computing the query embedding',
      );
  degraded.push(...query.degraded);
  timer.mark(query.how === 'user tower' ? 'tower' : 'query');
  return query;
}

/** At once where nobody has to be asked. Errors: those of the source, from here or by the promise. */
export function resolveQuery(pass: Asking, onTowerFailed?: OnTowerFailed): Query | Promise<Query> {
  const { view } = pass;
  const { source } = pass.request;
  switch (source.kind) {
    case 'user':
      return ofUser(source.id, pass, onTowerFailed);
    case 'features':
      return ofFeatures(source.features, pass);
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

function ofUser(id: Id, pass: Asking, onTowerFailed: OnTowerFailed): Query | Promise<Query> {
  const { generation } = pass.view;
  const { tower } = generation;
  const vector = storedVector(id, generation);
  const isFresh = pass.request.fresh === true;
  if (isFresh && tower === undefined) throw noTower('fresh', generation);
  // Without a stored vector too: a user whose features came after the export, or that only a store knows.
  const running = isFresh || vector === undefined ? tower : undefined;
  // The way of most requests, without a promise.
  if (vector !== undefined && running === undefined && !asksStores(pass, running))
    return new StoredUser(id, vector, pass.view);
  return ofKnownUser(id, vector, running, pass, onTowerFailed);
}

/** Most requests read nothing of the user but the vector: what the table says is looked up for those that do. */
class StoredUser implements Query {
  readonly how = 'stored user';
  readonly degraded = [];
  private read: Features | undefined;

  constructor(
    readonly userId: Id,
    readonly vector: Float32Array,
    private readonly view: ItemView,
  ) {}

  get features(): Features {
    this.read ??= { ...this.view.generation.userTable.featuresOf(this.userId), id: this.userId };
    return this.read;
  }

  get seen(): Uint32Array {
    return historyOf(this.features, this.view).seen;
  }
}

async function ofKnownUser(
  id: Id,
  vector: Float32Array | undefined,
  running: UserTower | undefined,
  pass: Asking,
  onTowerFailed: OnTowerFailed,
): Promise<Query> {
  const { generation } = pass.view;
  const { users, userTable } = generation;
  const { features, known, degraded } = await lookUpUser(id, pass, running);
  const { seen } = historyOf(features, pass.view);
  if (running?.ownFeatures.some((name) => known.has(name)) === true) {
    const read = Object.entries(features).filter(([name]) => running.ownFeatures.includes(name));
    const embedded = await embedOrUndefined(Object.fromEntries(read), pass, onTowerFailed);
    if (embedded !== undefined) return { vector: embedded, how: 'user tower', degraded, userId: id, features, seen };
  }
  if (vector !== undefined) {
    const isWithout = pass.request.fresh === true && !degraded.includes('features_default');
    return {
      vector,
      how: 'stored user',
      degraded: isWithout ? [...degraded, 'features_default'] : degraded,
      userId: id,
      features,
      seen,
    };
  }
  if (users === undefined && userTable.rows === 0 && pass.userFeatures.names.size === 0) {
    throw new BelfryError(
      'BELFRY_NO_USERS',
      'user_id: this generation holds no users; send an embedding, item_ids or features',
      { field: 'user_id' },
    );
  }
  return {
    vector: generation.defaultQuery,
    how: 'default user',
    degraded: [...degraded, 'cold_start'],
    userId: id,
    features,
    seen,
  };
}

function storedVector(id: Id, { users, userIds, skippedUsers }: Generation): Float32Array | undefined {
  const row = userIds?.rowOf(id);
  return users === undefined || row === undefined || skippedUsers.has(row)
    ? undefined
    : users.readRows(Uint32Array.of(row));
}

function noTower(field: 'features' | 'fresh', { towerProblem }: Generation): BelfryError {
  return new BelfryError(
    'BELFRY_NO_USER_TOWER',
    `${field}: ${towerProblem ?? 'this generation has no user tower'}; send user_id${field === 'fresh' ? ' alone' : ''}, embedding or item_ids`,
    { field },
  );
}

async function ofFeatures(features: Features, pass: Asking): Promise<Query> {
  const { view } = pass;
  const { generation } = view;
  if (generation.tower === undefined) throw noTower('features', generation);
  const { seen, hasUnknown } = historyOf(features, view);
  return {
    vector: await embed(features, pass),
    how: 'user tower',
    degraded: hasUnknown ? ['unknown_items_ignored'] : [],
    features,
    seen,
  };
}

async function embed(features: Features, { view, deadline }: Pick<Asking, 'view' | 'deadline'>): Promise<Float32Array> {
  const { vector } = await view.generation.tower!.embed(features, deadline.end);
  return vector;
}

/** What the model is to blame for, not the request. */
const TOWER_FAULTS: ReadonlySet<ErrorCode> = new Set([
  'BELFRY_MODEL_OUTPUT_INVALID',
  'BELFRY_MODEL_FAILED',
  'BELFRY_CIRCUIT_OPEN',
]);

/** Undefined where the tower fails and something else may stand for it. */
async function embedOrUndefined(
  features: Features,
  pass: Asking,
  onTowerFailed: OnTowerFailed,
): Promise<Float32Array | undefined> {
  try {
    return await embed(features, pass);
  } catch (error) {
    const isFault = error instanceof BelfryError && TOWER_FAULTS.has(error.code);
    if (!isFault || onTowerFailed === undefined || pass.request.strict) throw error;
    onTowerFailed(error);
    return undefined;
  }
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
