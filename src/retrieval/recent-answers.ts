/** Answers that were given lately, for times when there is no room to find them again: same items, same question. */
import type { ItemView } from '../upserts/item-view.js';
import { answeredAgain } from './answer.js';
import type { RetrieveRequest, RetrieveResponse } from './request.js';

/** Beyond so many characters a question is not asked twice, and not kept. */
const KEY_MAX = 512;

export class RecentAnswers {
  /** By question, the one that was used last at the end. */
  private readonly answers = new Map<string, RetrieveResponse>();
  private weight = 0;

  /** The bound is on items, because answers are of any length; an answer counts as one more, for those without items. */
  constructor(private readonly weightMax: number) {}

  /** Answers kept now. */
  get size(): number {
    return this.answers.size;
  }

  keep(request: RetrieveRequest, view: ItemView, answer: RetrieveResponse): void {
    if (answer.degraded.length > 0 || weightOf(answer) > this.weightMax) return;
    const key = keyOf(request, view);
    if (key === undefined) return;
    this.drop(key);
    this.answers.set(key, answer);
    this.weight += weightOf(answer);
    for (const oldest of this.answers.keys()) {
      if (this.weight <= this.weightMax) break;
      this.drop(oldest);
    }
  }

  find(request: RetrieveRequest, view: ItemView): RetrieveResponse | undefined {
    const key = keyOf(request, view);
    const found = key === undefined ? undefined : this.answers.get(key);
    if (found === undefined) return undefined;
    this.answers.delete(key!);
    this.answers.set(key!, found);
    return answeredAgain(found, ['cached']);
  }

  private drop(key: string): void {
    const known = this.answers.get(key);
    if (known === undefined) return;
    this.answers.delete(key);
    this.weight -= weightOf(known);
  }
}

function weightOf({ returned }: RetrieveResponse): number {
  return 1 + returned;
}

/** Whatever may change an answer is part of the question: the generation and the state of its items, too. */
function keyOf({ source, ...request }: RetrieveRequest, view: ItemView): string | undefined {
  if (source.kind === 'embedding') return undefined;
  const asked = { ...request, timeoutMs: 0, priority: 'online', explain: request.explain };
  const key = `${view.generation.id} ${view.state} ${JSON.stringify([source, asked])}`;
  return key.length > KEY_MAX ? undefined : key;
}
