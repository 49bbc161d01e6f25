/**
 * The input gate: counts and lengths of an export, beside those of the generation that it would replace. What can never be
 * served (NaN, duplicate ids, dims that differ) was refused before, with a code of its own.
 */
import type { Manifest, VectorSection } from '../manifest.js';
import type { Finding, Measurement } from './gate.js';
import type { GateThresholds } from './thresholds.js';

export function inputFinding(
  { items, users }: Pick<Manifest, 'items' | 'users'>,
  previous: Manifest | undefined,
  thresholds: GateThresholds,
): Finding {
  const skipped = items.skippedRows.length + (users?.skippedRows.length ?? 0);
  return {
    detail: `${items.count} items, ${users?.count ?? 0} users, ${items.dims} dims; ${skipped} rows left out`,
    measurements: [
      { what: 'rows left out', value: skipped },
      zeroShare('item', items, thresholds),
      ...(users === undefined ? [] : [zeroShare('user', users, thresholds)]),
      ...compared('item', items, previous?.items, thresholds),
      ...(users === undefined ? [] : compared('user', users, previous?.users, thresholds)),
    ],
    cure: 'look whether the export is whole and of the training that it should be',
    field: 'embeddings',
  };
}

function zeroShare(
  what: string,
  { zeroVectors, count }: VectorSection,
  { gate_zero_share }: GateThresholds,
): Measurement {
  return {
    what: `share of ${what} vectors that are zero`,
    value: count === 0 ? 0 : zeroVectors / count,
    max: gate_zero_share,
  };
}

function compared(
  what: string,
  now: VectorSection,
  before: VectorSection | undefined,
  { gate_count_drop, gate_norm_change }: GateThresholds,
): Measurement[] {
  if (before === undefined || before.count === 0) return [];
  const count: Measurement = {
    what: `${what}s for each one before`,
    value: now.count / before.count,
    min: 1 - gate_count_drop,
  };
  if (before.norms.p50 === 0 || now.count === 0) return [count];
  const ratio = now.norms.p50 / before.norms.p50;
  const norm = {
    what: `median ${what} norm, to that before`,
    value: ratio,
    min: 1 / gate_norm_change,
    max: gate_norm_change,
  };
  return [count, norm];
}
