/** What a build would find wrong before it writes anything: for `belfry doctor`. Each step throws what it finds. */
import { join } from 'node:path';
import { loadAddon } from '../ann/addon.js';
import type { BroughtModels } from '../config/mlflow.js';
import type { ModelServerSettings } from '../config/model-servers.js';
import { fileOf, readModelsFolder } from '../config/models-folder.js';
import { FeatureTable } from '../features/feature-table.js';
import type { RerankerStatus } from '../rerank/guarded-reranker.js';
import { loadIds } from './load-ids.js';
import { openModels } from './models.js';
import { readExclusionSets } from './read-exclusions.js';

export interface RehearsalStep {
  readonly name: string;
  /** Resolves to one sentence, with `warning` where a server could not start better; rejects with what is wrong. */
  readonly run: () => Promise<string | readonly ['warning', string]>;
}

export function rehearseBuild(
  models: string,
  modelServers: readonly ModelServerSettings[] = [],
  brought?: BroughtModels,
): RehearsalStep[] {
  const shapeOf = async (file: string): Promise<[rows: number, dims: number, dtype: string]> => {
    const matrix = await loadAddon().openMatrix(join(models, file));
    try {
      return [matrix.rows, matrix.dims, matrix.info.dtype];
    } finally {
      matrix.close();
    }
  };
  return [
    {
      name: 'embeddings',
      run: async () => {
        const folder = readModelsFolder(models, brought);
        const [items, dims, dtype] = await shapeOf(folder.itemEmbeddings);
        await loadIds(models, folder.itemIds, items, folder.itemEmbeddings);
        if (folder.userEmbeddings === undefined) return `${items} items x ${dims} ${dtype}, no users`;
        const [users, userDims] = await shapeOf(folder.userEmbeddings);
        await loadIds(models, folder.userIds, users, folder.userEmbeddings);
        return `${items} items x ${dims} ${dtype}, ${users} users x ${userDims}`;
      },
    },
    {
      name: 'exclusions',
      run: async () => {
        const folder = readModelsFolder(models, brought);
        const idsOf = async (vectors: string, ids: string | undefined) =>
          loadIds(models, ids, (await shapeOf(vectors))[0], vectors);
        const itemIds = await idsOf(folder.itemEmbeddings, folder.itemIds);
        const userIds =
          folder.userEmbeddings === undefined ? undefined : await idsOf(folder.userEmbeddings, folder.userIds);
        const { facts } = await readExclusionSets(models, folder.exclusions, itemIds, userIds);
        return facts.map(({ name, entries }) => `${name} ${entries} entries`).join(', ') || 'no sets';
      },
    },
    {
      name: 'models',
      run: async () => {
        const folder = readModelsFolder(models, brought);
        const [items, dims] = await shapeOf(folder.itemEmbeddings);
        const itemIds = await loadIds(models, folder.itemIds, items, folder.itemEmbeddings);
        const table = (file: string | undefined) =>
          FeatureTable.open(
            file === undefined ? undefined : join(models, file),
            file === undefined ? {} : { name: file },
          );
        const users = await table(folder.users);
        const userIds =
          folder.userEmbeddings === undefined
            ? undefined
            : await loadIds(models, folder.userIds, (await shapeOf(folder.userEmbeddings))[0], folder.userEmbeddings);
        const opened = await openModels({
          folder: models,
          fileOf: (path) => fileOf(folder, path),
          rows: folder.models,
          dims,
          users,
          items: (await table(folder.items)).alignTo(itemIds.all()),
          itemIds: () => itemIds.all(),
          userIds: () => userIds?.all() ?? users.ids,
          modelServers,
        });
        const { tower, towerProblem, rerankers, rerankerProblems } = opened;
        const states = rerankers.map(({ status }) => stateOf(status));
        const isDown = rerankers.some(({ status }) => status.problem !== undefined);
        await Promise.all([tower?.close(), ...rerankers.map((reranker) => reranker.close())]);
        const all = [...states, ...rerankerProblems].join(', ') || 'none';
        const detail = `tower ${tower?.name ?? towerProblem ?? 'none'}; rerankers ${all}`;
        return isDown ? ['warning', detail] : detail;
      },
    },
  ];
}

function stateOf({ name, version, server, problem }: RerankerStatus): string {
  const where = server === undefined ? '' : ` on model server ${server}`;
  return `${name}@${version}${where}${problem === undefined ? '' : ` (left alone: ${problem.message})`}`;
}
