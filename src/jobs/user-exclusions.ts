/** Items that single users do not get: what each of them has. */
import type { RowLists } from '../ann/addon.js';
import { invalid } from '../errors.js';
import { Slices } from '../features/slices.js';
import type { Generation } from '../generation/generation.js';
import { storedHistory } from '../generation/history.js';
import type { Id, Row } from '../types.js';
import type { UserChoice } from './users.js';

/** Rows of one call, which are copied on the JS thread; the list of one user may be longer. */
const ROWS_PER_CALL = 131_072;

export interface UserExclusionOptions {
  readonly excludeSeen?: boolean | undefined;
  readonly users?: UserChoice | undefined;
}

/** Lists of consecutive users from `first` on. */
export interface ListsPart {
  readonly first: number;
  readonly lists: RowLists;
}

export class UserExclusions {
  private constructor(private readonly generation: Generation) {}

  /** Undefined when nothing depends on the user. Error: BELFRY_INVALID_ARGUMENT for query vectors, which are nobody's. */
  static of({ excludeSeen, users }: UserExclusionOptions, generation: Generation): UserExclusions | undefined {
    if (excludeSeen !== true) return undefined;
    if (typeof users === 'object' && 'vectors' in users)
      throw invalid('exclude_seen', 'users of the generation: query vectors have no history', users.vectors);
    return new UserExclusions(generation);
  }

  /** The lists of all `ids`, in parts that one call takes. */
  async *listsFor(ids: readonly Id[]): AsyncGenerator<ListsPart> {
    const slices = new Slices();
    let first = 0;
    let offsets = [0];
    let rows: Row[] = [];
    for (const [at, id] of ids.entries()) {
      if (slices.isOver) await slices.next();
      const seen = storedHistory(id, this.generation);
      if (rows.length > 0 && rows.length + seen.length > ROWS_PER_CALL) {
        yield { first, lists: { offsets: Uint32Array.from(offsets), rows: Uint32Array.from(rows) } };
        first = at;
        offsets = [0];
        rows = [];
      }
      for (const row of seen) rows.push(row);
      offsets.push(rows.length);
    }
    yield { first, lists: { offsets: Uint32Array.from(offsets), rows: Uint32Array.from(rows) } };
  }
}
