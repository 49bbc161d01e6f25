/** Items that single users do not get: what each of them has, and named sets with a list for each user. */
import type { RowLists } from '../ann/addon.js';
import { invalid } from '../errors.js';
import { Slices } from '../features/slices.js';
import type { ExclusionSet } from '../generation/exclusion-sets.js';
import { storedHistory } from '../generation/history.js';
import type { Id, Row } from '../types.js';
import type { ItemView } from '../upserts/item-view.js';
import type { UserChoice } from './users.js';

/** Rows of one call, which are copied on the JS thread; the list of one user may be longer. */
const ROWS_PER_CALL = 131_072;

export interface UserExclusionOptions {
  readonly excludeSeen?: boolean | undefined;
  readonly excludeSets?: readonly string[] | undefined;
  readonly users?: UserChoice | undefined;
}

/** Lists of consecutive users from `first` on. */
export interface ListsPart {
  readonly first: number;
  readonly lists: RowLists;
}

export class UserExclusions {
  private constructor(
    private readonly view: ItemView,
    private readonly sets: readonly ExclusionSet[],
    private readonly excludeSeen: boolean,
  ) {}

  /**
   * Undefined when nothing depends on the user. Errors: BELFRY_UNKNOWN_EXCLUSION_SET; BELFRY_INVALID_ARGUMENT for query
   * vectors, which are nobody's.
   */
  static of(options: UserExclusionOptions, view: ItemView): UserExclusions | undefined {
    const { generation } = view;
    const { excludeSeen = false, excludeSets = [], users } = options;
    const sets = generation.exclusions.choose(excludeSets).filter(({ isPerUser }) => isPerUser);
    if (!excludeSeen && sets.length === 0) return undefined;
    if (typeof users === 'object' && 'vectors' in users) {
      const field = excludeSeen ? 'exclude_seen' : 'exclude_sets';
      throw invalid(field, 'users of the generation: query vectors are of nobody who has a list', users.vectors);
    }
    return new UserExclusions(view, sets, excludeSeen);
  }

  /** The lists of all `ids`, in parts that one call takes. */
  async *listsFor(ids: readonly Id[]): AsyncGenerator<ListsPart> {
    const slices = new Slices();
    let first = 0;
    let offsets = [0];
    let rows: Row[] = [];
    for (const [at, id] of ids.entries()) {
      if (slices.isOver) await slices.next();
      const lists = this.#listsOf(id);
      const length = lists.reduce((sum, list) => sum + list.length, 0);
      if (rows.length > 0 && rows.length + length > ROWS_PER_CALL) {
        yield { first, lists: { offsets: Uint32Array.from(offsets), rows: Uint32Array.from(rows) } };
        first = at;
        offsets = [0];
        rows = [];
      }
      for (const list of lists) for (const row of list) rows.push(row);
      offsets.push(rows.length);
    }
    yield { first, lists: { offsets: Uint32Array.from(offsets), rows: Uint32Array.from(rows) } };
  }

  /** The same that a request of this user leaves out. */
  #listsOf(id: Id): Uint32Array[] {
    const { view } = this;
    const { generation } = view;
    return [
      ...(this.excludeSeen
        ? [storedHistory(id, generation, view), view.current(generation.exclusions.seenBy(id))]
        : []),
      ...this.sets.map((set) => view.current(set.rowsFor(id))),
    ];
  }
}
