/**
 * What a request will cost, before it runs: microseconds of one core, by the calibration of the index and by what models
 * took lately. Errors of the estimate cancel out in admission, which measures its limit in the same unit.
 */
import type { Search, Searcher } from '../ann/searcher.js';
import type { Generation } from '../generation/generation.js';
import { depthOf } from './arrange/arrange-stage.js';
import { lowered } from './degrade.js';
import type { RetrieveRequest, Shaping } from './request.js';

/** Parsing, validation and writing, on the JS thread. */
const REQUEST_US = 60;
/** Bytes of codes that one core scans in a microsecond, where no calibration says what a scan costs. */
const SCAN_BYTES_PER_US = 8000;
/** Rows that a walk scores for each row of its pool, and bytes a microsecond when they lie apart. */
const WALK_ROWS_PER_EF = 8;
const WALK_BYTES_PER_US = 1000;
/** A minimum that is forgotten by a hundredth at each sample, so that it follows a model that has become slower. */
const FORGET = 1.01;
/** A model that is skipped because it is too slow for the deadlines is believed a little faster each time, until it is tried. */
const DOUBT = 0.98;
/** Believed of models that have not run yet. */
const FIRST_TOWER_US = 1000;
const FIRST_CANDIDATE_US = 15;
const PLANS_MAX = 256;
/** Of the ladder: whole, less recall, no re-rank, no more candidates than are answered. */
const LEVELS = 4;

export interface LevelCosts {
  readonly length: number;
  /** Microseconds. */
  at(level: number): number;
}

export class CostModel {
  /** Least microseconds lately: of one candidate by reranker, of one user by tower. Least, because waiting is no work. */
  private readonly learnt = new Map<string, number>();
  private readonly plans = new WeakMap<Searcher, Map<string, number>>();

  /** Of each level of the ladder, in its order; on a quiet server only the first is ever asked for. */
  ofLevels(request: RetrieveRequest, generation: Generation, floor: number): LevelCosts {
    return { length: LEVELS, at: (level) => this.of(lowered(request, level, floor, generation), generation) };
  }

  /** Microseconds. */
  private of({ request }: { readonly request: RetrieveRequest }, generation: Generation): number {
    const depth = depthOf(request, request.rerank !== false);
    const tower = request.source.kind === 'features' ? (this.learnt.get(towerKey(generation)) ?? FIRST_TOWER_US) : 0;
    const scorer =
      request.rerank === false ? 0 : (this.learnt.get(scorerKey(request.rerank)) ?? FIRST_CANDIDATE_US) * depth;
    return tower + this.ofSearch(request, depth, generation) + scorer;
  }

  /** Microseconds of a request that only searches. */
  ofSearch(request: Shaping, depth: number, generation: Generation): number {
    return REQUEST_US + this.search(request, depth, generation);
  }

  learnScorer(rerank: RetrieveRequest['rerank'], candidates: number, ms: number): void {
    if (candidates > 0) this.learn(scorerKey(rerank), (ms * 1000) / candidates);
  }

  learnTower(generation: Generation, ms: number): void {
    this.learn(towerKey(generation), ms * 1000);
  }

  doubtScorer(rerank: RetrieveRequest['rerank']): void {
    const key = scorerKey(rerank);
    const known = this.learnt.get(key);
    if (known !== undefined) this.learnt.set(key, known * DOUBT);
  }

  private learn(key: string, microseconds: number): void {
    this.learnt.set(key, Math.min(microseconds, (this.learnt.get(key) ?? Infinity) * FORGET));
  }

  private search({ recall, exact, ef }: Shaping, depth: number, { searcher }: Generation): number {
    let known = this.plans.get(searcher);
    if (known === undefined) this.plans.set(searcher, (known = new Map()));
    const key = `${depth} ${exact ? 'exact' : (ef ?? recall)} ${ef === undefined}`;
    let cost = known.get(key);
    if (cost === undefined) {
      cost = microsecondsOf({ recall, exact, ef }, depth, searcher);
      if (known.size >= PLANS_MAX) known.clear();
      known.set(key, cost);
    }
    return cost;
  }
}

function microsecondsOf(
  { recall, exact, ef }: Pick<Search, 'recall' | 'exact' | 'ef'>,
  k: number,
  { planner, index }: Searcher,
): number {
  const { rows, dims } = index.info;
  const scan = (rows * dims) / SCAN_BYTES_PER_US;
  // A request that asks for two of them is refused where it is planned, and costs nothing.
  if ([recall !== undefined, exact, ef !== undefined].filter(Boolean).length > 1) return 0;
  if (ef !== undefined) return Math.min(scan, (Math.max(ef, k) * WALK_ROWS_PER_EF * dims) / WALK_BYTES_PER_US);
  return planner.plan({ k, recall, exact }).expectedMicroseconds ?? scan;
}

function scorerKey(rerank: RetrieveRequest['rerank']): string {
  return `scorer ${String(rerank)}`;
}

function towerKey(generation: Generation): string {
  return `tower ${generation.tower?.name ?? ''}`;
}
