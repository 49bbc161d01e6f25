/** What a page or a person may ask of a generation: its facts, what the tower takes, which ids begin with a text. */
import { setImmediate } from 'node:timers/promises';
import type { Generation } from '../generation/generation.js';
import { runsInProcess } from '../generation/sources.js';
import type { Id } from '../types.js';

const COMMON_VALUES = 64;
const SAMPLE_USERS = 6;
/** Ids looked at between two turns of the event loop: well under a millisecond. */
const SUGGEST_STEP = 2048;
/** Beyond so many ids only a whole id is found: a page that asks at every key must not cost more. */
const SUGGEST_SCAN = 1_000_000;

// A generation never changes, and counting the values of its columns takes a while.
const described = new WeakMap<Generation, Record<string, unknown>>();

export function describeGeneration(generation: Generation): Record<string, unknown> {
  const known = described.get(generation) ?? describe(generation);
  described.set(generation, known);
  return known;
}

function describe(generation: Generation): Record<string, unknown> {
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
    exclusion_sets: generation.exclusions.facts.map(
      ({ name, by, users, entries, unknownItems, unknownUsers, bytes }) => ({
        name,
        by,
        users,
        entries,
        unknown_items: unknownItems,
        unknown_users: unknownUsers,
        bytes,
      }),
    ),
    filter_bytes: generation.filters.bytes,
    gates: manifest.gates,
  };
}

function describeFeature(name: string, generation: Generation): Record<string, unknown> {
  const column = generation.userTable.column(name);
  if (column === undefined) return { name, kind: 'string' };
  if (column.kind !== 'string') return { name, kind: column.kind };
  const counts = new Uint32Array(column.dictionary.length);
  for (const code of column.codes) if (code >= 0) counts[code]!++;
  // Count and code in one number: typed arrays sort a million of them in a tenth of the time of a comparison in code.
  const size = counts.length;
  const ranked = Float64Array.from(counts, (count, code) => count * size + (size - 1 - code)).sort();
  const common = [...ranked.subarray(-COMMON_VALUES).reverse()].map((rank) => size - 1 - (rank % size));
  return { name, kind: 'string', values: common.map((code) => column.dictionary[code]) };
}

/** The id itself, then ids that begin with the text, then ids that hold it. */
export async function suggestIds(
  kind: 'items' | 'users',
  text: string,
  limit: number,
  generation: Generation,
): Promise<Id[]> {
  const ids = kind === 'items' ? generation.itemIds : generation.userIds;
  if (ids === undefined) return [];
  const whole = [text, Number(text)].filter((id) => ids.rowOf(id) !== undefined);
  const wanted = text.toLowerCase();
  const begins: Id[] = [];
  const holds: Id[] = [];
  const count = Math.min(ids.size, SUGGEST_SCAN);
  for (let row = 0; row < count && begins.length < limit * 8; row++) {
    if (row % SUGGEST_STEP === SUGGEST_STEP - 1) await setImmediate();
    const id = ids.idOf(row);
    const at = String(id).toLowerCase().indexOf(wanted);
    if (at === 0) begins.push(id);
    else if (at > 0 && holds.length < limit) holds.push(id);
  }
  begins.sort((a, b) => String(a).length - String(b).length || (a < b ? -1 : 1));
  return [...new Set([...whole, ...begins, ...holds])].slice(0, limit);
}
