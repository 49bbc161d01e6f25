/** What is known of a user at this moment: the table of the generation, and over it what feature stores hold. */
import type { Generation } from '../generation/generation.js';
import { SEEN_COLUMNS } from '../generation/history.js';
import type { UserTower } from '../tower/user-tower.js';
import type { Degradation, Features, FeatureValue, Id } from '../types.js';
import type { Asking } from './pass.js';

/** Share of the time left that features may take: the search and the answer need theirs. */
const BUDGET_SHARE = 0.5;

const NOBODY_ASKS: ReadonlySet<string> = new Set();

export interface KnownUser {
  /** The id is one of them. */
  readonly features: Features;
  /** Names of which the table or a store has a value, where a tower will run; others are defaults. */
  readonly known: ReadonlySet<string>;
  readonly degraded: readonly Degradation[];
}

/**
 * Stores are asked only for what this request reads, and without one the answer is there at once; `tower` is given when it
 * will run. Never rejects.
 */
export function lookUpUser(id: Id, pass: Asking, tower: UserTower | undefined): KnownUser | Promise<KnownUser> {
  const { generation } = pass.view;
  const table = generation.userTable.featuresOf(id) ?? {};
  const { names } = pass.userFeatures;
  // Most servers have no store, and this is in the path of every request.
  const wanted = names.size === 0 ? names : new Set(featuresRead(pass, tower).filter((name) => names.has(name)));
  if (wanted.size > 0) return askStores(id, pass, table, wanted);
  const known = tower === undefined ? NOBODY_ASKS : new Set(Object.keys(table));
  return { features: { ...table, id }, known, degraded: [] };
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
