/**
 * Recall of the very answers that a load received. Each is compared with the exact answer of the generation that it names,
 * or with the ids that the mix file gives. Hits count by score: of items that tie at the k-th place any one will do.
 */
import { BelfryError } from '../../errors.js';
import type { Id } from '../../types.js';
import { mean } from '../statistics.js';
import type { AnswerRecall } from './load-report.js';
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

interface Single {
  readonly body: Record<string, unknown>;
  readonly answer: { readonly items: readonly { readonly id: Id }[]; readonly generation: string };
}

/** Room for items that tie at the k-th place; when all of it ties, as many as a request may ask for. */
const TIES = 64;
const K_MAX = 1000;
const K_DEFAULT = 10;

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
  const values: number[] = [];
  const ks = new Set<number>();
  let reranked = 0;
  let gone = 0;
  const cache = new Map<string, Promise<ReadonlySet<Id> | undefined>>();
  for (const one of kept) {
    const given = mix.truth[one.request];
    for (const { body, answer } of singlesOf(mix.requests[one.request] as PreparedRequest, one.text)) {
      if (body.rerank !== undefined && body.rerank !== false) {
        reranked++;
        continue;
      }
      const k = typeof body.k === 'number' ? body.k : K_DEFAULT;
      const wanted = given === undefined ? await truthOf(body, k, answer.generation) : new Set(given.slice(0, k));
      if (wanted === undefined) {
        gone++;
        continue;
      }
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
    note: noteOf({ judged: values.length, reranked, gone, isGiven, ks }),
  };

  function truthOf(body: Record<string, unknown>, k: number, generation: string) {
    if (exact === undefined) return undefined;
    const key = `${generation} ${JSON.stringify(body)}`;
    let found = cache.get(key);
    if (found === undefined) {
      found = exactTop(exact, body, k, generation);
      cache.set(key, found);
    }
    return found;
  }
}

/** Ids whose score reaches the k-th. */
async function exactTop(
  exact: ExactAnswers,
  body: Record<string, unknown>,
  k: number,
  generation: string,
): Promise<ReadonlySet<Id> | undefined> {
  const { user_id, features, embedding, item_ids, filter, exclude, exclude_sets, exclude_seen } = body;
  const query = { user_id, features, embedding, item_ids, filter, exclude, exclude_sets, exclude_seen };
  let depth = Math.min(K_MAX, k + TIES);
  for (;;) {
    const items = await exact.ask(generation, { ...query, k: depth, exact: true, timeout_ms: 1000 });
    if (items === undefined) return undefined;
    const threshold = items[Math.min(k, items.length) - 1]?.score;
    if (threshold === undefined) return new Set();
    const isCut = items.length === depth && items.at(-1)!.score >= threshold;
    if (!isCut || depth === K_MAX) return new Set(items.filter(({ score }) => score >= threshold).map(({ id }) => id));
    depth = K_MAX;
  }
}

/** The requests of a body and their answers: one, or those of a batch. Other routes and failed ones give none. */
function singlesOf({ path, body }: PreparedRequest, text: string): Single[] {
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
  return pairs.flatMap(([request, answer]) => {
    const isAnswer = Array.isArray((answer as Partial<Single['answer']> | undefined)?.items);
    return isAnswer ? [{ body: request, answer } as Single] : [];
  });
}

function noteOf(facts: {
  judged: number;
  reranked: number;
  gone: number;
  isGiven: boolean;
  ks: ReadonlySet<number>;
}): string {
  const { judged, reranked, gone, isGiven, ks } = facts;
  const parts = [
    `${judged} answers against ${isGiven ? 'the truth of the mix' : 'the exact path of the generation that each names'}`,
  ];
  if (ks.size > 1) parts.push(`k from ${Math.min(...ks)} to ${Math.max(...ks)}`);
  if (reranked > 0) parts.push(`${reranked} re-ranked ones are not judged`);
  if (gone > 0) parts.push(`${gone} named a generation that is gone`);
  return parts.join('; ');
}
