/**
 * Rules as a step of a request, after re-ranking and before the cut to k: boosts, score cut-off, pins, then diversity and
 * caps together. Where caps leave less than k, more is searched for among what they still admit.
 */
import { concatRows } from '../../generation/exclusion-sets.js';
import type { BelfryError } from '../../errors.js';
import type { Id } from '../../types.js';
import type { ViewFound } from '../../upserts/item-view.js';
import type { Pass } from '../pass.js';
import type { Query } from '../query-vector.js';
import { orderByScore, type Ranked } from '../rerank-stage.js';
import type { RetrieveRequest } from '../request.js';
import { searchItems, type Selected } from '../search-stage.js';
import { boost } from './boosting.js';
import { Allowance, Capping } from './capping.js';
import { chooseDiverse } from './diversity.js';
import type { RuleFacts } from './facts.js';
import { type PinnedRow, type Placement, takeInOrder, weave } from './listing.js';
import { resolvePins, scoreRows } from './pinning.js';
import type { Rules } from './rules.js';

/** Searches for what full groups leave, each deeper than the one before. */
const ROUNDS = 16;
const DEPTH_MAX = 5000;

export interface Arranged {
  readonly list: readonly Placement[];
  readonly facts: RuleFacts;
}

export interface Found {
  readonly query: Query;
  readonly selected: Selected;
  readonly ranked: Ranked;
  /** A reranker was asked for; without scores of it, it failed. */
  readonly isReranked: boolean;
  /** Re-ranks further hits. */
  readonly rank: (hits: ViewFound) => Promise<Ranked>;
}

/** How many hits the rules want to choose from. */
export function depthOf({ k, candidates, rules }: RetrieveRequest, isReranked: boolean): number {
  if (isReranked || (rules !== undefined && (rules.diversity > 0 || rules.boosts.length > 0)))
    return Math.max(k, candidates);
  return rules === undefined || rules.caps.length === 0 ? k : Math.max(k, Math.min(candidates, 4 * k));
}

/** Undefined without rules. Errors: BELFRY_UNKNOWN_FIELD, those of filters, BELFRY_DEADLINE_EXCEEDED. */
export async function arrangeItems(pass: Pass, found: Found): Promise<Arranged | undefined> {
  const { rules } = pass.request;
  if (rules === undefined) return undefined;
  const arrangement = new Arrangement(pass, rules, found);
  const arranged = await arrangement.run();
  pass.timer.mark('arrange');
  return arranged;
}

class Arrangement {
  private readonly capping: Capping | undefined;
  /** What there is to choose from, as ranked; further searches add to it. */
  private readonly candidates: Candidates[];

  constructor(
    private readonly pass: Pass,
    private readonly rules: Rules,
    private readonly found: Found,
  ) {
    this.capping = rules.caps.length === 0 ? undefined : new Capping(rules.caps, pass.view);
    this.candidates = [{ ...found.ranked, isFirst: true }];
  }

  async run(): Promise<Arranged> {
    const { request } = this.pass;
    let arranged = await this.arrange();
    let rounds = 0;
    while (arranged.list.length < request.k && arranged.capped > 0 && rounds < ROUNDS) {
      const hits = await this.searchFurther(arranged.list, rounds++);
      if (hits === undefined || hits.rows.length === 0) break;
      const ranked = this.isRerankLost ? { hits } : await this.found.rank(hits);
      this.candidates.push({ ...ranked, isFirst: false });
      const { length } = arranged.list;
      arranged = await this.arrange();
      if (arranged.list.length <= length) break;
    }
    return this.conclude(arranged, rounds);
  }

  private async arrange(): Promise<Attempt> {
    const { pass, rules } = this;
    const { comparable, others, boosted } = await this.scored();
    // The scale of a reranker says nothing of the retrieval scores that stand in for it.
    const isCut = rules.minScore !== undefined && !this.isRerankLost;
    const kept = isCut ? comparable.filter(({ score }) => score >= rules.minScore!) : comparable;
    const { rows: pins, leftOut } = resolvePins(pass, rules.pins, this.found.selected);
    const pinned = await this.placed(pins, [...comparable, ...others]);
    const pinnedRows = new Set(pins.map(({ row }) => row));
    const free = (list: readonly Placement[]) =>
      pins.length === 0 ? list : list.filter(({ row }) => !pinnedRows.has(row));
    const { taken, ...chosen } = await this.choose(pinned, free(kept), isCut ? [] : free(others));
    return {
      ...chosen,
      list: weave(taken, pins, pinned),
      boosted,
      cut: comparable.length - kept.length + (isCut ? others.length : 0),
      pinned: pins.length,
      leftOut,
    };
  }

  /** Pinned items with the scores that they have as candidates, or else with those of a search. */
  private async placed(pins: readonly PinnedRow[], candidates: readonly Placement[]): Promise<Placement[]> {
    if (pins.length === 0) return [];
    const wanted = new Set(pins.map(({ row }) => row));
    const known = new Map(candidates.filter(({ row }) => wanted.has(row)).map((one) => [one.row, one]));
    const unknown = pins.map(({ row }) => row).filter((row) => !known.has(row));
    const scores = await scoreRows(this.pass, this.found.query, unknown);
    for (const [at, row] of unknown.entries())
      known.set(row, { row, score: scores[at]!, retrievalScore: scores[at]!, rank: undefined });
    return pins.map(({ row }) => ({ ...known.get(row)!, isPinned: true }));
  }

  /** What stands around the pins: of `best` first, of `others` where those run out. */
  private async choose(
    pinned: readonly Placement[],
    best: readonly Placement[],
    others: readonly Placement[],
  ): Promise<Pick<Attempt, 'capped' | 'isDiversitySkipped'> & { taken: Placement[] }> {
    const { pass, rules, capping } = this;
    const count = pass.request.k - pinned.length;
    const allowance = capping === undefined ? undefined : new Allowance(capping);
    for (const { row } of pinned) allowance?.count(row);
    const isDiverse = rules.diversity > 0 && best.length > 0;
    const diverse = isDiverse ? await chooseDiverse(pass, rules.diversity, pinned, best, count, capping) : undefined;
    let first = { taken: [...(diverse ?? [])], refused: 0 };
    if (diverse === undefined) first = takeInOrder(best, count, allowance);
    else {
      for (const { row } of diverse) allowance?.count(row);
      if (diverse.length < count) first.refused = best.length - diverse.length;
    }
    const rest = takeInOrder(others, count - first.taken.length, allowance);
    return {
      taken: [...first.taken, ...rest.taken],
      capped: first.refused + rest.refused,
      isDiversitySkipped: isDiverse && diverse === undefined,
    };
  }

  private get isRerankLost(): boolean {
    return this.found.isReranked && this.found.ranked.scores === undefined;
  }

  /** Candidates with a score that compares, best first, and those whose reranker score is not finite, as retrieved. */
  private async scored(): Promise<{ comparable: Placement[]; others: Placement[]; boosted: number }> {
    const { boosts } = this.rules;
    const finite: Placement[] = [];
    const others: Placement[] = [];
    for (const { hits, scores, isFirst } of this.candidates) {
      // A reranker that failed on further hits leaves them behind those that it scored.
      const isScored = scores !== undefined || this.found.ranked.scores === undefined;
      for (const [at, row] of hits.rows.entries()) {
        const retrievalScore = hits.scores[at]!;
        const score = scores?.[at] ?? retrievalScore;
        const rank = isFirst ? at + 1 : undefined;
        const isComparable = isScored && Number.isFinite(score);
        (isComparable ? finite : others).push({
          row,
          score: isComparable ? score : retrievalScore,
          retrievalScore,
          rank,
        });
      }
    }
    const given = Float32Array.from(finite, ({ score }) => score);
    const rows = Uint32Array.from(finite, ({ row }) => row);
    const { scores, count } =
      boosts.length === 0 ? { scores: given, count: 0 } : await boost(this.pass, boosts, rows, given);
    const comparable = Array.from(orderByScore(scores), (at) => ({ ...finite[at]!, score: scores[at]! }));
    return { comparable, others, boosted: count };
  }

  /** The best items whose groups the list leaves open, and that are no candidates yet; undefined when nothing can be. */
  private async searchFurther(list: readonly Placement[], round: number): Promise<ViewFound | undefined> {
    const { pass, found } = this;
    const { request, view, deadline } = pass;
    const allowance = new Allowance(this.capping!);
    for (const { row } of list) allowance.count(row);
    const { must_not: mustNot = [], ...filter } = request.filter ?? {};
    const missing = request.k - list.length;
    try {
      const open = await deadline.orThrow(
        view.evaluate({ ...filter, must_not: [...mustNot, ...allowance.fullGroups()] }, () => deadline.remainingMs),
        'filtering',
      );
      const exclude = concatRows([found.selected.exclude, ...this.candidates.map(({ hits }) => hits.rows)]);
      const depth = Math.min(DEPTH_MAX, Math.max(32, 4 * missing) * 2 ** round);
      return await searchItems(pass, found.query, { filter: open, exclude }, depth);
    } catch (error) {
      // The list so far is an answer; a filter that is full of clauses already has no room for more.
      const { code } = error as BelfryError;
      if (code === 'BELFRY_DEADLINE_EXCEEDED' || code === 'BELFRY_INVALID_ARGUMENT') return undefined;
      throw error;
    }
  }

  private conclude(
    { list, boosted, cut, capped, pinned, leftOut, isDiversitySkipped }: Attempt,
    rounds: number,
  ): Arranged {
    const { rules, pass } = this;
    const { degraded, request } = pass;
    // A reranker that failed more than once is told of once.
    degraded.splice(0, degraded.length, ...new Set(degraded));
    const isShort = list.length < request.k;
    if (isShort && capped > 0) degraded.push('fewer_by_caps');
    if (isShort && cut > 0) degraded.push('fewer_by_min_score');
    if (rules.minScore !== undefined && this.isRerankLost) degraded.push('min_score_skipped');
    if (isDiversitySkipped) degraded.push('diversity_skipped');
    if (leftOut.length > 0) degraded.push('pins_left_out');
    return {
      list,
      facts: {
        ...(rules.set === undefined ? {} : { set: rules.set }),
        ...(rules.diversity === 0 ? {} : { diversity: rules.diversity }),
        ...(rules.boosts.length === 0 ? {} : { boosted }),
        ...(rules.minScore === undefined ? {} : { below_min_score: cut }),
        ...(this.capping === undefined ? {} : { capped, further_searches: rounds }),
        ...(rules.pins.length === 0 ? {} : { pinned, pins_left_out: leftOut }),
      },
    };
  }
}

interface Candidates extends Ranked {
  /** Of the first search, whose order gives retrieval ranks. */
  readonly isFirst: boolean;
}

/** A list, and what became of the candidates on the way to it. */
interface Attempt {
  readonly list: readonly Placement[];
  readonly boosted: number;
  readonly cut: number;
  readonly capped: number;
  readonly pinned: number;
  readonly leftOut: readonly Id[];
  readonly isDiversitySkipped: boolean;
}
