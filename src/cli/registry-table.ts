/** The registry as `belfry doctor` prints it: of the models folder, with the live figures of a server that runs on it. */
import type { BroughtModels } from '../config/mlflow.js';
import { fileOf, readModelsFolder } from '../config/models-folder.js';
import type { ModelServerSettings } from '../config/model-servers.js';
import { exists, hashFile } from '../generation/files.js';
import { modelTableRow, type ModelTableRow } from '../generation/model-table.js';
import { runsOnServer } from '../generation/sources.js';
import type { LiveModels } from '../retrieval/live-models.js';
import { formatBytes, table } from './terminal.js';

const LIVE_MS = 1_000;

/** Hashes the files. Errors: those of readModelsFolder. */
export async function registryOf(
  models: string,
  brought: BroughtModels | undefined,
  servers: readonly ModelServerSettings[],
): Promise<ModelTableRow[]> {
  const folder = readModelsFolder(models, brought ?? 'left out');
  return Promise.all(
    folder.models.map(async (row) => {
      const file = fileOf(folder, row.path);
      const facts = (await exists(file)) ? await hashFile(file) : { bytes: 0, sha256: '' };
      const isServed = runsOnServer(row) && servers.some(({ name }) => name === (row.server?.name ?? servers[0]!.name));
      return modelTableRow({ ...row, ...facts }, isServed ? 'model server' : undefined);
    }),
  );
}

/** What a server at this address says of its models; undefined when none answers there, or not to us. */
export async function liveRegistry(host: string, port: number): Promise<LiveModels | undefined> {
  const name = host.includes(':') ? `[${host}]` : host;
  try {
    const response = await fetch(`http://${name}:${port}/models`, {
      signal: AbortSignal.timeout(LIVE_MS),
      redirect: 'error',
    });
    const body = response.ok ? ((await response.json()) as Partial<LiveModels>) : {};
    return Array.isArray(body.models) ? (body as LiveModels) : undefined;
  } catch {
    return undefined; // no server, or another program: the table of the folder stands alone
  }
}

/** Figures of the models that serve beside those of the folder, where they are the same file. */
export function withLive(rows: readonly ModelTableRow[], live: LiveModels | undefined): ModelTableRow[] {
  return rows.map((row) => {
    const found = live?.models.find(({ name, version, sha256 }) =>
      [name === row.name, version === row.version, sha256 === row.sha256].every(Boolean),
    );
    return found ?? row;
  });
}

export function registryText(rows: readonly ModelTableRow[]): string {
  const head = ['model', 'version', 'format', 'size', 'stage', 'role', 'sha256', 'runs', 'share', 'p50 ms', 'p99 ms'];
  return table([
    head,
    ...rows.map((row) => [
      row.model,
      row.version,
      row.format,
      formatBytes(row.bytes),
      row.stage,
      row.role.replace('_', ' '),
      row.sha256.slice(0, 12),
      row.server === undefined ? row.runs : `${row.runs} ${row.server}`,
      row.share === undefined ? '' : `${Math.round(row.share * 100)} %`,
      row.latency_ms?.p50 ?? '',
      row.latency_ms?.p99 ?? '',
    ]),
  ]);
}
