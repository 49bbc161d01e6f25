/** What a caller sends of an item, checked against the generation that it is for. */
import type { IdKind } from '../ann/ids.js';
import { LIMITS } from '../config/schema.js';
import { BelfryError, invalid, show } from '../errors.js';
import type { ColumnKind } from '../features/feature-column.js';
import type { FeatureTable } from '../features/feature-table.js';
import type { Generation } from '../generation/generation.js';
import type { Features, FeatureValue, Id } from '../types.js';

const FLOAT16_MAX = 65_504;

/** The id as it stands in a path. Error: BELFRY_INVALID_ITEM_ID. */
export function checkItemId(text: string, kind: IdKind): Id {
  const refuse = (expected: string) =>
    new BelfryError('BELFRY_INVALID_ITEM_ID', `id: expected ${expected}, received ${show(text)}`, { field: 'id' });
  if (kind !== 'string') {
    const id = Number(text);
    if (!/^(0|[1-9]\d*)$/.test(text) || !Number.isSafeInteger(id))
      throw refuse(`an integer from 0 to ${Number.MAX_SAFE_INTEGER}, as the ids of this generation are`);
    return id;
  }
  const { max } = LIMITS.idLength;
  if (text.length === 0 || text.length > max) throw refuse(`1 to ${max} characters`);
  // A line of item_ids.txt, which the next build writes.
  if (/[\r\n\uFEFF]|\p{Surrogate}/u.test(text))
    throw refuse('text without line ends, byte order marks and half characters');
  return text;
}

/** Errors: BELFRY_DIMS_MISMATCH, BELFRY_INVALID_ITEM_VECTOR. */
export function checkItemVector(values: ArrayLike<number>, generation: Generation): Float32Array {
  const { dims, metric } = generation.index.info;
  if (values.length !== dims) {
    throw new BelfryError(
      'BELFRY_DIMS_MISMATCH',
      `embedding: expected ${dims} dims (generation ${generation.id}), received ${values.length}`,
      { field: 'embedding', limit: dims },
    );
  }
  const isHalf = generation.manifest.items.dtype === 'f2';
  const vector = Float32Array.from(values);
  const bad = vector.findIndex((value) => !Number.isFinite(value) || (isHalf && Math.abs(value) > FLOAT16_MAX));
  if (bad >= 0) {
    throw new BelfryError(
      'BELFRY_INVALID_ITEM_VECTOR',
      `embedding.${bad}: expected a finite ${isHalf ? '16' : '32'}-bit number, received ${show(values[bad])}`,
      { field: `embedding.${bad}` },
    );
  }
  if (metric === 'cosine' && vector.every((value) => value === 0)) {
    throw new BelfryError(
      'BELFRY_INVALID_ITEM_VECTOR',
      'embedding: a zero vector has no direction, and cosine ranks by it',
      {
        field: 'embedding',
      },
    );
  }
  return vector;
}

/**
 * Metadata of an item: values of the kinds of the table's columns, nulls left out. Errors: BELFRY_UNKNOWN_FIELD,
 * BELFRY_INVALID_ARGUMENT.
 */
export function checkMetadata(metadata: Features, table: FeatureTable): Features {
  const kinds = new Map(table.columns.map(({ name, kind }) => [name, kind]));
  const kept: Record<string, FeatureValue> = {};
  for (const [name, value] of Object.entries(metadata)) {
    const kind = kinds.get(name);
    if (kind === undefined) {
      throw new BelfryError(
        'BELFRY_UNKNOWN_FIELD',
        `metadata.${show(name)}: no such column in ${table.name}; known: ${[...kinds.keys()].join(', ') || 'none'}`,
        { field: `metadata.${name}`.slice(0, 128) },
      );
    }
    if (value === null) continue;
    if (!isOfKind(value, kind)) throw invalid(`metadata.${name}`, `a ${kind.replace('_list', ' list')}`, value);
    kept[name] = value;
  }
  return kept;
}

/** Features that are columns of the item table too: a caller need not send these twice. */
export function metadataAmong(features: Features, table: FeatureTable): Features {
  const kinds = new Map(table.columns.map(({ name, kind }) => [name, kind]));
  return Object.fromEntries(
    Object.entries(features).filter(
      ([name, value]) => kinds.has(name) && value !== null && isOfKind(value, kinds.get(name)!),
    ),
  );
}

function isOfKind(value: FeatureValue, kind: ColumnKind): boolean {
  if (kind === 'string_list') return Array.isArray(value) && value.every((entry) => typeof entry === 'string');
  if (kind === 'number_list') return Array.isArray(value) && value.every((entry) => Number.isFinite(entry));
  return typeof value === kind && (kind !== 'number' || Number.isFinite(value));
}
