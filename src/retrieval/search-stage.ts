/** Filter, exclusions and search as steps of a request: within its deadline, or 504. */
import type { Search } from '../ann/searcher.js';
import type { ItemView, ViewFilter, ViewFound } from '../upserts/item-view.js';
import { excludedRows } from './answer.js';
import type { Deadline } from './deadline.js';
import type { Pass } from './pass.js';
import type { Query } from './query-vector.js';
import type { Shaping } from './request.js';

export interface Selected {
  readonly filter: ViewFilter | undefined;
  readonly exclude: Uint32Array;
}

/** Which items may be answered. */
export async function selectItems({ request, view, deadline, timer }: Pass, query: Query): Promise<Selected> {
  const filter = await filterOf(request, view, deadline);
  const exclude = excludedRows(request, query, view);
  timer.mark('filter');
  return { filter, exclude };
}

/** The best `depth` items of the selected ones. */
export async function searchItems(
  { request, view, deadline, timer, metrics }: Pass,
  { vector }: Query,
  { filter, exclude }: Selected,
  depth: number,
): Promise<ViewFound> {
  const started = performance.now();
  const { exact, recall, ef } = request;
  const hits = await deadline.orThrow(
    view.search(view.generation.searcher, {
      query: vector,
      k: depth,
      recall,
      exact,
      ef,
      filter,
      exclude,
      until: deadline.end,
    }),
    'searching',
  );
  timer.mark('search');
  metrics.searches.searchSeconds.observe((performance.now() - started) / 1000, hits.path);
  return hits;
}

export async function filterOf(
  { filter }: Shaping,
  view: ItemView,
  deadline: Deadline,
): Promise<ViewFilter | undefined> {
  if (filter === undefined) return undefined;
  return deadline.orThrow(
    view.evaluate(filter, () => deadline.remainingMs),
    'filtering',
  );
}

/** What a request says of the search itself. */
export function shapeOf({ k, exact, recall, ef }: Shaping): Pick<Search, 'k' | 'exact' | 'recall' | 'ef'> {
  return { k, exact, recall, ef };
}
