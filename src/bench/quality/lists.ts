/** The lists that the same users get exactly, as served, and after each re-ranker. */
import { spread } from '../../ann/build-graph.js';
import type { Found } from '../../ann/searcher.js';
import { concatRows } from '../../generation/exclusion-sets.js';
import { UserFeatures } from '../../features/stores/user-features.js';
import type { Generation } from '../../generation/generation.js';
import { Deadline, StageTimer } from '../../retrieval/deadline.js';
import { resolveQuery } from '../../retrieval/query-vector.js';
import { fillRetrieve } from '../../retrieval/request.js';
import { Reranking } from '../../retrieval/rerank-stage.js';
import type { Row } from '../../types.js';
import { PlainViews } from '../../upserts/item-upserts.js';
import type { ItemView } from '../../upserts/item-view.js';
import type { HeldOut, Interactions } from './interactions.js';

export interface ListOptions {
  /** Ascending. */
  readonly ks: readonly number[];
  /** At most so many users, spread over the file. */
  readonly users: number;
  /** Retrieved for a re-ranker. */
  readonly candidates: number;
  /** What requests ask for. */
  readonly recall: number;
  /** Names of re-rankers; none for no re-ranking. */
  readonly rerankers: readonly string[];
  /** Leave out what the user already has, as `exclude_seen` does; held-out items are never left out. */
  readonly excludeSeen: boolean;
  readonly onProgress: (done: number, total: number) => void;
  readonly signal?: AbortSignal | undefined;
}

export interface UserLists {
  readonly user: HeldOut;
  /** By the name of the kind: `exact`, `ann`, or a re-ranker's. By k, rows best first. */
  readonly lists: ReadonlyMap<string, ReadonlyMap<number, Uint32Array>>;
}

export interface Lists {
  readonly kinds: readonly string[];
  readonly users: readonly UserLists[];
  /** Lists that kept retrieval order because the re-ranker failed, and why the first one did. */
  readonly degraded: ReadonlyMap<string, { readonly count: number; readonly reason: string }>;
}

/** Nobody waits here, and a list that is late would say nothing of the re-ranker. */
const RERANK_MS = 60_000;

/** Errors: BELFRY_UNKNOWN_RERANKER, BELFRY_NO_RERANKER; those of searches. */
export function makeLists(generation: Generation, interactions: Interactions, options: ListOptions): Promise<Lists> {
  return new PlainViews().use(generation, (view) => listsOn(view, interactions, options));
}

async function listsOn(view: ItemView, interactions: Interactions, options: ListOptions): Promise<Lists> {
  const { generation } = view;
  const { ks, candidates, recall, excludeSeen, onProgress, signal } = options;
  const rerankings = options.rerankers.map((name) => ({ name, reranking: Reranking.named(name, view) }));
  const chosen = spread(interactions.users.length, [], Math.min(options.users, interactions.users.length));
  const kMax = Math.max(...ks);
  const users: UserLists[] = [];
  const degraded = new Map<string, { count: number; reason: string }>();
  onProgress(0, chosen.length);
  for (const at of chosen) {
    signal?.throwIfAborted();
    const user = interactions.users[at]!;
    const query = await resolveQuery({
      request: fillRetrieve({ source: { kind: 'user', id: user.user } }),
      view,
      deadline: new Deadline(RERANK_MS),
      timer: new StageTimer(),
      userFeatures: new UserFeatures(),
    });
    const exclude = excludedFor(
      user,
      excludeSeen ? [query.seen, generation.exclusions.seenBy(user.user)] : [],
      generation,
    );
    const search = (k: number, more: { exact: true } | { recall: number }): Found | Promise<Found> =>
      generation.searcher.search({ query: query.vector, k: Math.min(k, generation.items.rows), exclude, ...more });
    const exact = await search(kMax, { exact: true });
    const lists = new Map([['exact', cuts(exact.rows, ks)]]);
    const served = new Map<number, Uint32Array>();
    for (const k of ks) served.set(k, (await search(k, { recall })).rows);
    lists.set('ann', served);
    if (rerankings.length > 0) {
      const hits = await search(Math.max(candidates, kMax), { recall });
      for (const { name, reranking } of rerankings) {
        const { order, problem, degraded: reasons } = await reranking.order(query, hits, new Deadline(RERANK_MS));
        if (order === undefined) {
          const known = degraded.get(name);
          degraded.set(name, {
            count: (known?.count ?? 0) + 1,
            reason: known?.reason ?? problem?.message ?? reasons.join(', '),
          });
        }
        const rows = order === undefined ? hits.rows : Uint32Array.from(order, (place) => hits.rows[place]!);
        lists.set(name, cuts(rows, ks));
      }
    }
    users.push({ user, lists });
    onProgress(users.length, chosen.length);
  }
  return { kinds: ['exact', 'ann', ...options.rerankers], users, degraded };
}

function excludedFor({ items }: HeldOut, seen: readonly Uint32Array[], { skippedItems }: Generation): Uint32Array {
  const wanted = new Set<Row>(items);
  return concatRows([...seen.map((rows) => rows.filter((row) => !wanted.has(row))), [...skippedItems]]);
}

function cuts(rows: Uint32Array, ks: readonly number[]): Map<number, Uint32Array> {
  return new Map(ks.map((k) => [k, rows.subarray(0, k)]));
}
