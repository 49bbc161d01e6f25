/** The registry as a table: which model, what it is, where it runs. For `GET /models`, the page and `belfry doctor`. */
import type { ModelRow } from '../config/registry.js';
import type { LatencySummary } from '../telemetry/recent-latency.js';
import { runsInProcess } from './sources.js';

export interface ModelTableRow {
  readonly model: string;
  readonly name: string;
  readonly version: string;
  readonly format: ModelRow['format'];
  readonly bytes: number;
  readonly stage: ModelRow['stage'];
  readonly role: ModelRow['role'];
  readonly sha256: string;
  readonly path: string;
  readonly runs: 'in process' | 'model server' | 'not run';
  /** Name of the model server in the settings. */
  readonly server?: string;
  /** Where it came from: `dlrm@production, version 3`. */
  readonly mlflow?: string;
  /** Of the users, among those whose requests are re-ranked. */
  readonly share?: number;
  /** Of its circuit breaker. */
  readonly state?: string;
  readonly problem?: string;
  /** Of the last runs in this process, with the wait before them. */
  readonly latency_ms?: LatencySummary;
}

export type ModelFacts = ModelRow & { readonly bytes: number; readonly sha256: string };

/** What is known of a model without running it; `runs` tells what is really open, where that is known. */
export function modelTableRow(row: ModelFacts, runs?: ModelTableRow['runs']): ModelTableRow {
  const { model, name, version, format, bytes, stage, role, sha256, path, mlflow } = row;
  return {
    model,
    name,
    version,
    format,
    bytes,
    stage,
    role,
    sha256,
    path,
    runs: runs ?? (runsInProcess(row) ? 'in process' : 'not run'),
    ...(mlflow === undefined
      ? {}
      : { mlflow: `${mlflow.name}${mlflow.alias === undefined ? '' : `@${mlflow.alias}`}, version ${mlflow.version}` }),
  };
}
