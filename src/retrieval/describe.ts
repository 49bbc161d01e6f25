/** What a page or a person may ask of a generation: its facts, what the tower takes, which ids begin with a text. */
import type { Generation } from '../generation/generation.js';
import { runsInProcess } from '../generation/sources.js';
import type { Id } from '../types.js';

const COMMON_VALUES = 64;
const SAMPLE_USERS = 6;
/** Ids looked at per suggestion: a linear look stays under a millisecond. */
const SUGGEST_SCAN = 200_000;

export function describeGeneration(generation: Generation): Record<string, unknown> {
  const { manifest, index, itemIds, userIds, itemTable, tower } = generation;
  const reads = new Set(tower?.ownFeatures ?? []);
  return {
    generation: generation.id,
    created: manifest.created,
    metric: manifest.metric,
    dims: index.info.dims,
    items: itemIds.size,
    users: userIds?.size ?? 0,
    kernel: index.info.kernel,
    tower: tower?.name ?? null,
    ...(generation.towerProblem === undefined ? {} : { tower_problem: generation.towerProblem }),
    rerankers: generation.rerankers.map(({ name, version }) => `${name}@${version}`),
    models: manifest.models.map((model) => ({
      model: model.model,
      name: model.name,
      version: model.version,
      format: model.format,
      stage: model.stage,
      role: model.role,
      runs: runsInProcess(model),
    })),
    item_columns: itemTable.columns,
    user_features: [...reads].map((name) => describeFeature(name, generation)),
    sample_users: generation.exampleUsers(SAMPLE_USERS),
    checks: manifest.checks,
  };
}

function describeFeature(name: string, generation: Generation): Record<string, unknown> {
  const column = generation.userTable.column(name);
  if (column === undefined) return { name, kind: 'string' };
  if (column.kind !== 'string') return { name, kind: column.kind };
  const counts = new Uint32Array(column.dictionary.length);
  for (const code of column.codes) if (code >= 0) counts[code]!++;
  const common = [...counts.keys()].sort((a, b) => counts[b]! - counts[a]!).slice(0, COMMON_VALUES);
  return { name, kind: 'string', values: common.map((code) => column.dictionary[code]) };
}

/** Ids that begin with the text, then ids that hold it. */
export function suggestIds(kind: 'items' | 'users', text: string, limit: number, generation: Generation): Id[] {
  const ids = kind === 'items' ? generation.itemIds : generation.userIds;
  if (ids === undefined) return [];
  const wanted = text.toLowerCase();
  const begins: Id[] = [];
  const holds: Id[] = [];
  const count = Math.min(ids.size, SUGGEST_SCAN);
  for (let row = 0; row < count && begins.length < limit * 8; row++) {
    const id = ids.idOf(row);
    const at = String(id).toLowerCase().indexOf(wanted);
    if (at === 0) begins.push(id);
    else if (at > 0 && holds.length < limit) holds.push(id);
  }
  begins.sort((a, b) => String(a).length - String(b).length || (a < b ? -1 : 1));
  return [...begins, ...holds].slice(0, limit);
}
