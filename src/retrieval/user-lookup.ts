/** What is known of a user at this moment: the table of the generation, and over it what feature stores hold. */
import type { Generation } from '../generation/generation.js';
import { SEEN_COLUMNS } from '../generation/history.js';
import type { UserTower } from '../tower/user-tower.js';
import type { Degradation, Features, FeatureValue, Id } from '../types.js';
import type { Asking } from './pass.js';

/** Share of the time left that features may take: the search and the answer need theirs. */
const BUDGET_SHARE = 0.5;

export interface KnownUser {
  /** The id is one of them. */
  readonly features: Features;
  /** Names of which the table or a store has a value; others are defaults. */
  readonly known: ReadonlySet<string>;
  readonly degraded: readonly Degradation[];
}

/** Stores are asked only for what this request reads; `tower` is given when it will run. Never rejects. */
export async function lookUpUser(id: Id, pass: Asking, tower: UserTower | undefined): Promise<KnownUser> {
  const table = pass.view.generation.userTable.featuresOf(id) ?? {};
  if (asksStores(pass, tower)) return askStores(id, pass, table, wantedOfStores(pass, tower));
  return { features: { ...table, id }, known: new Set(Object.keys(table)), degraded: [] };
}

/** Whether a feature store is asked for a user of this request. Most servers have none, and this is in the path of every request. */
export function asksStores(pass: Asking, tower: UserTower | undefined): boolean {
  return pass.userFeatures.names.size > 0 && wantedOfStores(pass, tower).size > 0;
}

function wantedOfStores(pass: Asking, tower: UserTower | undefined): ReadonlySet<string> {
  const { names } = pass.userFeatures;
  return new Set(featuresRead(pass, tower).filter((name) => names.has(name)));
}

async function askStores(id: Id, pass: Asking, table: Features, wanted: ReadonlySet<string>): Promise<KnownUser> {
  const { generation } = pass.view;
  const found = await pass.userFeatures.of(id, {
    wanted,
    budgetMs: pass.deadline.remainingMs * BUDGET_SHARE,
    fits: (name, value) => fitsModels(name, value, generation),
  });
  pass.timer.mark('features');
  const features = { ...table, ...found.values };
  const known = new Set(Object.keys(features).filter((name) => features[name] !== null));
  return { features: { ...found.defaults, ...features, id }, known, degraded: found.degraded };
}

function featuresRead({ request, view: { generation } }: Asking, tower: UserTower | undefined): string[] {
  return [
    ...(tower?.ownFeatures ?? []),
    ...(request.rerank === false ? [] : generation.rerankers.flatMap(({ needs }) => needs.user)),
    ...(request.excludeSeen ? SEEN_COLUMNS : []),
  ];
}

/** What a caller sends is refused with an error of his; what a store holds is no fault of the caller. */
function fitsModels(name: string, value: FeatureValue, { tower, rerankers }: Generation): boolean {
  const features = { [name]: value };
  try {
    if (tower?.ownFeatures.includes(name)) tower.checkFeatures(features);
    for (const reranker of rerankers) if (reranker.needs.user.includes(name)) reranker.checkRequest({ user: features });
    return true;
  } catch {
    return false;
  }
}
