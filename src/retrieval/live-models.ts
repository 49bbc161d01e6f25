/** The registry table of what serves, with what this process has measured. */
import type { Generation } from '../generation/generation.js';
import { modelTableRow, type ModelTableRow } from '../generation/model-table.js';
import { labelOf } from '../generation/models.js';
import { runsInProcess } from '../generation/sources.js';
import type { RecentLatency } from '../telemetry/recent-latency.js';
import type { TrafficPolicy } from './traffic.js';

export interface LiveModels {
  readonly generation: string;
  readonly models: readonly ModelTableRow[];
}

export function liveModels(generation: Generation, traffic: TrafficPolicy): LiveModels {
  const shares = traffic.sharesOf(generation);
  return {
    generation: generation.id,
    models: generation.manifest.models.map((row) => {
      const label = labelOf(row);
      if (row.role === 'reranker') return rerankerRow(row, generation, shares.get(label));
      const isTower = generation.tower?.name === label;
      const isItemTower = row.role === 'item_tower' && runsInProcess(row); // opened when an item needs it
      return {
        ...modelTableRow(row, isTower || isItemTower ? 'in process' : 'not run'),
        ...(row.role === 'user_tower' && !isTower && generation.towerProblem !== undefined
          ? { problem: generation.towerProblem }
          : {}),
        ...(isTower ? latencyOf(generation.tower) : {}),
      };
    }),
  };
}

function rerankerRow(
  row: Generation['manifest']['models'][number],
  { rerankers, rerankerProblems }: Generation,
  share: number | undefined,
): ModelTableRow {
  const label = labelOf(row);
  const open = rerankers.find((reranker) => labelOf(reranker) === label);
  if (open === undefined) {
    const problem = rerankerProblems.find((text) => text.startsWith(`${label}:`));
    return { ...modelTableRow(row, 'not run'), ...(problem === undefined ? {} : { problem }) };
  }
  const { state, server, problem } = open.status;
  return {
    ...modelTableRow(row, server === undefined ? 'in process' : 'model server'),
    ...(server === undefined ? {} : { server }),
    ...(share === undefined ? {} : { share }),
    state,
    ...(problem === undefined ? {} : { problem: problem.message }),
    ...latencyOf(open),
  };
}

function latencyOf({ latency }: { readonly latency: RecentLatency }): Pick<ModelTableRow, 'latency_ms'> {
  const summary = latency.summary();
  return summary === undefined ? {} : { latency_ms: summary };
}
