/** The rules of one request: its own, over those of the named set, checked and filled. */
import { RuleSet, type RuleSets } from '../../config/rules.js';
import { BelfryError, invalid, show } from '../../errors.js';
import type { FilterGroup } from '../../features/filter.js';
import type { Id } from '../../types.js';

export interface Cap {
  readonly field: string;
  readonly max: number;
}

/** One of `add` and `multiply`. */
export interface Boost {
  readonly filter: FilterGroup;
  readonly add?: number;
  readonly multiply?: number;
}

export interface Pin {
  readonly id: Id;
  /** 1 is the first place. */
  readonly position: number;
}

export interface Rules {
  /** Of the named set that they come from. */
  readonly set?: string;
  readonly diversity: number;
  readonly caps: readonly Cap[];
  readonly boosts: readonly Boost[];
  readonly pins: readonly Pin[];
  readonly minScore?: number;
}

/** What a body says of rules. */
export type RuleWishes = RuleSet & { readonly rules?: string };

/** Holds for requests that name no set. */
const DEFAULT_SET = 'default';
/** Named by a request that wants no set, not even the default one. */
const NO_SET = 'none';

const FIELDS = Object.keys(RuleSet.properties) as (keyof RuleSet)[];

export class NamedRules {
  private readonly filled: ReadonlyMap<string, Rules | undefined>;

  /** Error: BELFRY_CONFIG_INVALID for a set that no request could use. */
  constructor(private readonly sets: RuleSets = {}) {
    this.filled = new Map(
      Object.entries(sets).map(([name, set]) => {
        try {
          if (name === NO_SET) throw invalid(NO_SET, 'another name: requests that want no rules say none', name);
          return [name, fillRules(set, name)];
        } catch (error) {
          const { message, field } = error as BelfryError;
          throw new BelfryError('BELFRY_CONFIG_INVALID', `settings: rules.${name}.${message}`, {
            field: `rules.${name}.${field}`,
            cause: error,
          });
        }
      }),
    );
  }

  /** Undefined when there is nothing to apply. Errors: BELFRY_UNKNOWN_RULES, BELFRY_INVALID_ARGUMENT. */
  of(wishes: RuleWishes): Rules | undefined {
    const name = wishes.rules ?? DEFAULT_SET;
    const isKnown = this.filled.has(name);
    if (wishes.rules !== undefined && !isKnown && name !== NO_SET) {
      const names = [...this.filled.keys(), NO_SET].join(', ');
      throw new BelfryError('BELFRY_UNKNOWN_RULES', `rules: expected one of ${names}, received ${show(name)}`, {
        field: 'rules',
      });
    }
    const own = FIELDS.filter((field) => wishes[field] !== undefined);
    if (own.length === 0) return this.filled.get(name);
    const merged: RuleSet = Object.assign({}, this.sets[name], ...own.map((field) => ({ [field]: wishes[field] })));
    return fillRules(merged, isKnown ? name : undefined);
  }
}

/** Error: BELFRY_INVALID_ARGUMENT for what the schema cannot say. */
export function fillRules(given: RuleSet, set?: string): Rules | undefined {
  const { diversity = 0, caps = [], boosts = [], pins = [], min_score: minScore } = given;
  for (const [at, { add, multiply }] of boosts.entries()) {
    if ((add === undefined) === (multiply === undefined))
      throw invalid(`boosts.${at}`, 'either add or multiply', add === undefined ? 'neither' : 'both');
  }
  assertDistinct(
    caps.map(({ field }) => field),
    'caps',
    'field',
    'a column that no cap before it names',
  );
  assertDistinct(
    pins.map(({ id }) => id),
    'pins',
    'id',
    'an item that is pinned once',
  );
  assertDistinct(
    pins.map(({ position }) => position),
    'pins',
    'position',
    'a place of its own',
  );
  if (diversity === 0 && caps.length + boosts.length + pins.length === 0 && minScore === undefined) return undefined;
  return {
    ...(set === undefined ? {} : { set }),
    diversity,
    caps,
    boosts: boosts as readonly Boost[],
    pins: [...pins].sort((a, b) => a.position - b.position),
    ...(minScore === undefined ? {} : { minScore }),
  };
}

function assertDistinct(values: readonly Id[], list: string, key: string, expected: string): void {
  const known = new Set<Id>();
  for (const [at, value] of values.entries()) {
    if (known.has(value)) throw invalid(`${list}.${at}.${key}`, expected, value);
    known.add(value);
  }
}
