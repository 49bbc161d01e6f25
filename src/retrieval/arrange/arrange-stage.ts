/**
 * Rules as a step of a request, after re-ranking and before the cut to k: boosts, score cut-off, pins, then diversity and
 * caps together. Where caps leave less than k, more is searched for among what they still admit.
 */
import { concatRows } from '../../generation/exclusion-sets.js';
import { BelfryError } from '../../errors.js';
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
import { type Placement, takeInOrder, weave } from './listing.js';
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
      this.candidates.push({ ...(await this.found.rank(hits)), isFirst: false });
      const { length } = arranged.list;
      arranged = await this.arrange();
      if (arranged.list.length <= length) break;
    }
    return this.conclude(arranged, rounds);
  }

  private async arrange() {
    const { pass, rules, capping } = this;
    const { comparable, others, boosted } = await this.scored();
    // The scale of a reranker says nothing of the retrieval scores that stand in for it.
    const isCut = rules.minScore !== undefined && !this.isCutSkipped;
    const kept = isCut ? comparable.filter(({ score }) => score >= rules.minScore!) : comparable;
    const rest = isCut ? [] : others;
    const { rows: pins, leftOut } = resolvePins(pass, rules.pins, this.found.selected);
    const pinnedRows = new Set(pins.map(({ row }) => row));
    const known = new Map([...comparable, ...others].filter(({ row }) => pinnedRows.has(row)).map((one) => [one.row, one]));
    const unknown = pins.map(({ row }) => row).filter((row) => !known.has(row));
    const scores = unknown.length === 0 ? [] : await scoreRows(pass, this.found.query, unknown);
    for (const [at, row] of unknown.entries())
      known.set(row, { row, score: scores[at]!, retrievalScore: scores[at]!, rank: undefined });
    const pinned = pins.map(({ row }) => ({ ...known.get(row)!, isPinned: true }));

    const count = pass.request.k - pins.length;
    const free = (list: readonly Placement[]) =>
      pins.length === 0 ? list : list.filter(({ row }) => !pinnedRows.has(row));
    const allowance = capping === undefined ? undefined : new Allowance(capping);
    for (const { row } of pins) allowance?.count(row);
    let isDiversitySkipped = false;
    const taken: Placement[] = [];
    let capped = 0;
    const diverse =
      rules.diversity === 0 || kept.length === 0
        ? undefined
        : await chooseDiverse(pass, rules.diversity, pinned, free(kept), count, capping);
    if (diverse !== undefined) {
      taken.push(...diverse);
      for (const { row } of diverse) allowance?.count(row);
      if (diverse.length < count) capped += free(kept).length - diverse.length;
    } else {
      isDiversitySkipped = rules.diversity > 0 && kept.length > 0;
      const greedy = takeInOrder(free(kept), count, allowance);
      taken.push(...greedy.taken);
      capped += greedy.refused;
    }
    const tail = takeInOrder(free(rest), count - taken.length, allowance);
    capped += tail.refused;
    return {
      list: weave([...taken, ...tail.taken], pins, pinned),
      boosted,
      cut: comparable.length - kept.length + (isCut ? others.length : 0),
      capped,
      pinned: pins.length,
      leftOut,
      isDiversitySkipped,
    };
  }

  private get isCutSkipped(): boolean {
    return this.found.isReranked && this.found.ranked.scores === undefined;
  }

  /** Candidates with a score that compares, best first, and those whose reranker score is not finite, as retrieved. */
  private async scored(): Promise<{ comparable: Placement[]; others: Placement[]; boosted: number }> {
    const { boosts } = this.rules;
    const all: Placement[] = [];
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
        (isComparable ? finite : others).push({ row, score: isComparable ? score : retrievalScore, retrievalScore, rank });
      }
    }
    all.push(...finite);
    const given = Float32Array.from(all, ({ score }) => score);
    const rows = Uint32Array.from(all, ({ row }) => row);
    const { scores, count } =
      boosts.length === 0 ? { scores: given, count: 0 } : await boost(this.pass, boosts, rows, given);
    const comparable = Array.from(orderByScore(scores), (at) => ({ ...all[at]!, score: scores[at]! }));
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
    { list, boosted, cut, capped, pinned, leftOut, isDiversitySkipped }: Awaited<ReturnType<Arrangement['arrange']>>,
    rounds: number,
  ): Arranged {
    const { rules, pass } = this;
    const { degraded, request } = pass;
    const isShort = list.length < request.k;
    if (isShort && capped > 0) degraded.push('fewer_by_caps');
    if (isShort && cut > 0) degraded.push('fewer_by_min_score');
    if (rules.minScore !== undefined && this.isCutSkipped) degraded.push('min_score_skipped');
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
