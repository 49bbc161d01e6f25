/** Recall against cost, as a build calibrated it: for each k the efforts that no other beats in both. */
import { front } from '../../ann/calibrate.js';
import type { Calibration } from '../../ann/planner.js';
import type { Report } from './report-schema.js';

/** Depths that are drawn; those between look alike. */
const SHOWN = [10, 100, 1000];

export type RecallCurve = Report['recall']['curve'];

/** Empty without a graph: every search is a scan. */
export function recallCurve(calibration: Calibration | undefined): RecallCurve {
  if (calibration === undefined) return [];
  const { points, probes } = calibration;
  return SHOWN.flatMap((k) => {
    const all = [
      ...points.filter((point) => point.k === k).map((point) => ({ ...point, effort: `walk, ef ${point.ef}` })),
      ...probes.filter((point) => point.k === k).map((point) => ({ ...point, effort: `${point.probes} partitions` })),
    ].map((point) => ({ ...point, work: point.microseconds }));
    if (all.length === 0) return [];
    const kept = front(all).map(({ recall, microseconds, effort }) => ({ recall, microseconds, effort }));
    return [{ k, points: kept }];
  });
}
