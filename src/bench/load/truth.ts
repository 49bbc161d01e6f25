/**
 * Recall of the very answers that a load received. Each is compared with the exact answer of the generation that it names,
 * or with the ids that the mix file gives. Hits count by score: of items that tie at the k-th place any one will do.
 */
import { BelfryError } from '../../errors.js';
import type { Id } from '../../types.js';
import { mean } from '../statistics.js';
import type { AnswerRecall } from './load-subject.js';
import type { PreparedRequest } from './generator.js';
import type { RequestMix } from './mix.js';
import type { KeptAnswer } from './recording.js';

export interface ScoredItem {
  readonly id: Id;
  readonly score: number;
}

/** Answers a /retrieve body by the exact path of one generation; undefined where that generation is gone. */
export interface ExactAnswers {
  ask(generation: string, body: object): Promise<readonly ScoredItem[] | undefined>;
}

interface Item {
  readonly id: Id;
  readonly score?: number;
  readonly retrieval_rank?: number;
}
interface Single {
  readonly body: Record<string, unknown>;
  readonly answer: {
    readonly items: readonly Item[];
    readonly generation: string;
    readonly models?: { readonly reranker?: string };
  };
  /** Best first; undefined where the exact path must tell. */
  readonly given: readonly Id[] | undefined;
}

/** Room for items that tie at the k-th place; when all of it ties, as many as a request may ask for. */
const TIES = 64;
const K_MAX = 1000;
const K_DEFAULT = 10;
/** Deeper candidates have no exact rank in the longest list that a request may ask for. */
const RANK_MAX = 900;

/**
 * `exact` undefined: only requests whose truth the mix gives are judged. Undefined where nothing could be judged by
 * intent: no truth at all was given.
 */
export async function judgeAnswers(
  kept: readonly KeptAnswer[],
  mix: RequestMix,
  exact: ExactAnswers | undefined,
): Promise<AnswerRecall | undefined> {
  const isGiven = mix.truth.some((truth) => truth !== undefined);
  if (exact === undefined && !isGiven) return undefined;
  const cache = new Map<string, Promise<readonly ScoredItem[] | undefined>>();
  const ask = (body: Record<string, unknown>, k: number, generation: string) => {
    if (exact === undefined) return Promise.resolve(undefined);
    const key = `${generation} ${k} ${JSON.stringify(body)}`;
    const found = cache.get(key) ?? exactTop(exact, body, k, generation);
    cache.set(key, found);
    return found;
  };
  const values: number[] = [];
  const behind: number[] = [];
  const ks = new Set<number>();
  let unjudged = 0;
  let gone = 0;
  for (const one of kept) {
    const request = mix.requests[one.request] as PreparedRequest;
    for (const { body, answer, given } of singlesOf(request, one.text, mix.truth[one.request])) {
      if (answer.models?.reranker !== undefined) {
        const deepest = deepestOf(answer.items);
        if (deepest === undefined || exact === undefined) unjudged++;
        else {
          const rank = deepest.retrieval_rank;
          const list = await ask(body, Math.min(K_MAX, 2 * rank + TIES), answer.generation);
          if (list === undefined) gone++;
          else behind.push(rank / exactRank(list, deepest.id, rank));
        }
        continue;
      }
      const k = typeof body.k === 'number' ? body.k : K_DEFAULT;
      const list = given === undefined ? await ask(body, k, answer.generation) : given.slice(0, k);
      if (list === undefined) {
        gone++;
        continue;
      }
      const wanted = new Set(list.map((item) => (typeof item === 'object' ? item.id : item)));
      if (wanted.size === 0) continue; // a filter that nothing passes
      ks.add(k);
      const found = new Set(answer.items.slice(0, k).map(({ id }) => id));
      const hits = [...found].filter((id) => wanted.has(id)).length;
      values.push(Math.min(1, hits / Math.min(k, wanted.size)));
    }
  }
  return {
    k: Math.max(...ks, 0) || K_DEFAULT,
    recall: values.length === 0 ? null : mean(values),
    judged: values.length,
    values,
    behind,
    note: noteOf({ judged: values.length, unjudged, gone, isGiven, ks }),
  };
}

function deepestOf(items: readonly Item[]): { id: Id; retrieval_rank: number } | undefined {
  let deepest: { id: Id; retrieval_rank: number } | undefined;
  for (const { id, retrieval_rank: rank } of items)
    if (rank !== undefined && rank <= RANK_MAX && rank > (deepest?.retrieval_rank ?? 0))
      deepest = { id, retrieval_rank: rank };
  return deepest;
}

/**
 * Where an item stands in the exact list. Candidates come in exact order, so an item at retrieval rank r has the exact rank
 * r + the number of items above it that the search missed; of the ranks that tie the one nearest to r. An item that is not
 * in the list stands behind it.
 */
function exactRank(list: readonly ScoredItem[], id: Id, rank: number): number {
  const score = list.find((item) => item.id === id)?.score;
  if (score === undefined) return Math.max(rank, list.length + 1);
  const above = list.filter((item) => item.score > score).length;
  const tied = list.filter((item) => item.score === score).length;
  return Math.max(rank, Math.min(above + tied, Math.max(above + 1, rank)));
}

/** Items whose score reaches the k-th. */
async function exactTop(
  exact: ExactAnswers,
  body: Record<string, unknown>,
  k: number,
  generation: string,
): Promise<readonly ScoredItem[] | undefined> {
  const { user_id, features, embedding, item_ids, filter, exclude, exclude_sets, exclude_seen } = body;
  const query = { user_id, features, embedding, item_ids, filter, exclude, exclude_sets, exclude_seen };
  let depth = Math.min(K_MAX, k + TIES);
  for (;;) {
    const items = await exact.ask(generation, { ...query, k: depth, exact: true, timeout_ms: 1000 });
    if (items === undefined) return undefined;
    const threshold = items[Math.min(k, items.length) - 1]?.score;
    if (threshold === undefined) return [];
    const isCut = items.length === depth && items.at(-1)!.score >= threshold;
    if (!isCut || depth === K_MAX) return items.filter(({ score }) => score >= threshold);
    depth = K_MAX;
  }
}

/** The requests of a body and their answers: one, or those of a batch. Other routes and failed ones give none. */
function singlesOf({ path, body }: PreparedRequest, text: string, truth: RequestMix['truth'][number]): Single[] {
  if (typeof body !== 'string') return [];
  const parse = (json: string): Record<string, unknown> => {
    try {
      return JSON.parse(json) as Record<string, unknown>;
    } catch (error) {
      throw new BelfryError('BELFRY_BENCH_REFUSED', `${path}: expected JSON, received ${json.slice(0, 80)}`, {
        cause: error,
      });
    }
  };
  const pairs: [unknown, unknown][] = [];
  if (path === '/retrieve') pairs.push([parse(body), parse(text)]);
  if (path === '/retrieve/batch') {
    const { responses } = parse(text) as { responses: unknown[] };
    (parse(body) as { requests: unknown[] }).requests.forEach((one, i) => pairs.push([one, responses[i]]));
  }
  return pairs.flatMap(([request, answer], at) => {
    const isAnswer = Array.isArray((answer as Partial<Single['answer']> | undefined)?.items);
    return isAnswer ? [{ body: request, answer, given: truth?.[at] } as Single] : [];
  });
}

function noteOf(facts: {
  judged: number;
  unjudged: number;
  gone: number;
  isGiven: boolean;
  ks: ReadonlySet<number>;
}): string {
  const { judged, unjudged, gone, isGiven, ks } = facts;
  const parts = [
    `${judged} answers against ${isGiven ? 'the truth of the mix' : 'the exact path of the generation that each names'}`,
  ];
  if (ks.size > 1) parts.push(`k from ${Math.min(...ks)} to ${Math.max(...ks)}`);
  if (unjudged > 0) parts.push(`${unjudged} re-ranked ones are not judged, for want of --data`);
  if (gone > 0) parts.push(`${gone} named a generation that is gone`);
  return parts.join('; ');
}
