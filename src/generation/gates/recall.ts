/**
 * The recall gate: the search as it will serve, beside an exact one, on users that neither the graph nor its calibration has
 * seen. It also tunes: where the default target measures too low, the next higher one is tried, and what passes becomes the
 * target of every search that names none.
 */
import { gateUsers, splitUsers, standIns } from '../../ann/build-graph.js';
import { recallOf, spreadQueries, thresholds } from '../../ann/calibrate.js';
import { ANN_BOUNDS } from '../../ann/params.js';
import { type Calibration, type Plan, SearchPlanner } from '../../ann/planner.js';
import { readRows } from '../../ann/read-rows.js';
import type { Manifest } from '../manifest.js';
import { type Finding, isBroken, type Measurement } from './gate.js';
import type { GateSubject } from './subject.js';
import type { GateThresholds } from './thresholds.js';

/** Queries for each k. */
const QUERIES = { 10: 500, 100: 200 } as const;
/** Higher is a scan in all but name; that would hide a graph that finds nothing. */
const TARGETS = [ANN_BOUNDS.recall.default, 0.985, 0.99, 0.995, 0.999];

export interface TunedSearch {
  /** What a search aims at that names no recall. */
  readonly recall: number;
  readonly finding: Finding;
}

/** Undefined when nothing is served that could be found. */
export async function tuneRecall(
  subject: GateSubject,
  calibration: Calibration | undefined,
  previous: Manifest | undefined,
  limits: GateThresholds,
): Promise<TunedSearch | undefined> {
  const { index, items, users, skippedItems, skippedUsers } = subject;
  const { dims, rows } = index.info;
  if (rows === skippedItems.size) return undefined;
  const fresh = users === undefined ? new Uint32Array() : gateUsers(splitUsers(users.rows, [...skippedUsers]).heldOut);
  const [matrix, chosen, who] =
    users !== undefined && fresh.length > 0
      ? [users, fresh, 'users that the build has not seen']
      : [items, standIns(items.rows, [...skippedItems]), 'items, for want of users'];
  const queries = await readRows(matrix, chosen);
  const exclude = Uint32Array.from(skippedItems);
  const served = rows - skippedItems.size;
  const planner = new SearchPlanner(rows, calibration);
  const tests = await Promise.all(
    Object.entries(QUERIES)
      .map(([k, count]) => ({ k: Math.min(Number(k), served), queries: spreadQueries(queries, dims, count) }))
      .filter(({ k }, position, all) => position === 0 || k > all[position - 1]!.k)
      .map(async (test) => ({ ...test, truth: await thresholds({ index, exclude }, test.queries, test.k) })),
  );

  let measurements: Measurement[] = [];
  let recall = TARGETS[0]!;
  for (recall of TARGETS) {
    measurements = [];
    const costs: Measurement[] = [];
    for (const { k, queries: some, truth } of tests) {
      const plan = planner.plan({ k, recall });
      const hits = await index.search({ queries: some, k, ...plan.effort, exclude });
      const measured = recallOf(hits, k, truth).recall;
      const min = Math.max(limits.gate_recall, (recallBefore(previous, k) ?? 0) - limits.gate_recall_drop);
      measurements.push({ what: `recall@${k}`, value: measured, min });
      costs.push({
        what: `microseconds@${k}`,
        value: costOf(plan, hits.runMs, some.length / dims, index.info.threads),
      });
    }
    measurements.push(...costs);
    if (!measurements.some(isBroken)) break;
  }
  return {
    recall,
    finding: {
      detail: `search tuned to recall ${recall}, measured against exact search on ${chosen.length} ${who}`,
      measurements,
      cure: 'look at the vectors (rows that are nearly alike cannot be told apart), or lower gate_recall',
      field: 'recall',
    },
  };
}

/** Of one query on one thread: as calibrated, else as measured in a batch. */
function costOf({ expectedMicroseconds }: Plan, runMs: number, queries: number, threads: number): number {
  return expectedMicroseconds ?? (runMs * 1000 * threads) / queries;
}

/** Undefined where nothing was measured at this k. */
export function recallBefore(previous: Manifest | undefined, k: number): number | undefined {
  const gate = previous?.gates.find(({ name }) => name === 'recall');
  return gate?.measurements.find(({ what }) => what === `recall@${k}`)?.value;
}
