/**
 * Named lists of items that requests leave out: for everyone (blocked items), or for each user (seen items). Typed
 * arrays of item rows, made once when a generation is loaded; a request takes a view.
 */
import type { IdMap } from '../ann/ids.js';
import { BelfryError, show } from '../errors.js';
import type { Id } from '../types.js';

/** The set that `exclude_seen` means, besides what the request itself says. */
export const SEEN_SET = 'seen';

/** What a set holds, for reports. */
export interface ExclusionFacts {
  readonly name: string;
  readonly file: string;
  readonly by: 'user' | 'everyone';
  /** Users that have a list; 0 for a set of everyone. */
  readonly users: number;
  /** Pairs of user and item, or items. */
  readonly entries: number;
  /** Entries whose item is not in the generation: they exclude nothing. */
  readonly unknownItems: number;
  /** Users with a list that the generation does not know; their lists are kept for when they ask. */
  readonly unknownUsers: number;
  readonly bytes: number;
}

/** User → list: the rows of user_embeddings.npy first, then users that are only in the set. */
export interface UserLists {
  readonly userIds: IdMap | undefined;
  readonly others: ReadonlyMap<Id, number>;
  /** List l holds rows[offsets[l]] up to rows[offsets[l + 1]]. */
  readonly offsets: Uint32Array;
}

const NO_ROWS = new Uint32Array(0);

export class ExclusionSet {
  constructor(
    readonly facts: ExclusionFacts,
    private readonly rows: Uint32Array,
    private readonly users?: UserLists,
  ) {}

  get isPerUser(): boolean {
    return this.users !== undefined;
  }

  /** Rows of items, mostly ascending; some may stand twice. A user without a list has none. A view: not to be written. */
  rowsFor(user: Id | undefined): Uint32Array {
    if (this.users === undefined) return this.rows;
    if (user === undefined) return NO_ROWS;
    const { userIds, others, offsets } = this.users;
    const list = userIds?.rowOf(user) ?? others.get(user);
    return list === undefined ? NO_ROWS : this.rows.subarray(offsets[list], offsets[list + 1]);
  }
}

export class ExclusionSets {
  private readonly sets: ReadonlyMap<string, ExclusionSet>;

  constructor(sets: readonly ExclusionSet[]) {
    this.sets = new Map(sets.map((set) => [set.facts.name, set]));
  }

  get facts(): readonly ExclusionFacts[] {
    return [...this.sets.values()].map(({ facts }) => facts);
  }

  /** Error: BELFRY_UNKNOWN_EXCLUSION_SET. */
  choose(names: readonly string[], field = 'exclude_sets'): ExclusionSet[] {
    return names.map((name, at) => {
      const set = this.sets.get(name);
      if (set !== undefined) return set;
      const known = [...this.sets.keys()].join(', ');
      throw new BelfryError(
        'BELFRY_UNKNOWN_EXCLUSION_SET',
        `${field}.${at}: no exclusion set ${show(name)} in this generation; known: ${known || 'none'} (files of exclusions/ in the models folder)`,
        { field: `${field}.${at}` },
      );
    });
  }

  /**
   * What one request leaves out. Errors: BELFRY_UNKNOWN_EXCLUSION_SET; BELFRY_INVALID_ARGUMENT for a set by user in a
   * request without a user.
   */
  rowsFor(names: readonly string[], user: Id | undefined): Uint32Array[] {
    return this.choose(names).map((set, at) => {
      if (set.isPerUser && user === undefined) {
        throw new BelfryError(
          'BELFRY_INVALID_ARGUMENT',
          `exclude_sets.${at}: set ${set.facts.name} has a list for each user, and this request names none; send user_id, or leave the set out`,
          { field: `exclude_sets.${at}` },
        );
      }
      return set.rowsFor(user);
    });
  }

  /** The items that the user is known to have; none without a set of that name. */
  seenBy(user: Id | undefined): Uint32Array {
    return this.sets.get(SEEN_SET)?.rowsFor(user) ?? NO_ROWS;
  }
}

/** A copy; of a single part that is not empty, the part itself, which a search need not sort again. */
export function concatRows(parts: readonly ArrayLike<number>[]): Uint32Array {
  const filled = parts.filter(({ length }) => length > 0);
  if (filled.length === 1 && filled[0] instanceof Uint32Array) return filled[0];
  const rows = new Uint32Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    rows.set(part, at);
    at += part.length;
  }
  return rows;
}
