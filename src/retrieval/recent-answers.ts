/** Answers that were given lately, for times when there is no room to find them again: same items, same question. */
import type { ItemView } from '../upserts/item-view.js';
import type { RetrieveRequest, RetrieveResponse } from './request.js';

/** Beyond so many characters a question is not asked twice, and not kept. */
const KEY_MAX = 512;

export class RecentAnswers {
  /** By question, the one that was used last at the end. */
  private readonly answers = new Map<string, RetrieveResponse>();
  private items = 0;

  /** The bound is on items, because answers are of any length. */
  constructor(private readonly itemsMax: number) {}

  keep(request: RetrieveRequest, view: ItemView, answer: RetrieveResponse): void {
    if (answer.degraded.length > 0 || answer.items.length > this.itemsMax) return;
    const key = keyOf(request, view);
    if (key === undefined) return;
    this.drop(key);
    this.answers.set(key, answer);
    this.items += answer.items.length;
    for (const oldest of this.answers.keys()) {
      if (this.items <= this.itemsMax) break;
      this.drop(oldest);
    }
  }

  find(request: RetrieveRequest, view: ItemView): RetrieveResponse | undefined {
    const key = keyOf(request, view);
    const found = key === undefined ? undefined : this.answers.get(key);
    if (found === undefined) return undefined;
    this.answers.delete(key!);
    this.answers.set(key!, found);
    return { ...found, degraded: ['cached'] };
  }

  private drop(key: string): void {
    const known = this.answers.get(key);
    if (known === undefined) return;
    this.answers.delete(key);
    this.items -= known.items.length;
  }
}

/** Whatever may change an answer is part of the question: the generation and the state of its items, too. */
function keyOf({ source, ...request }: RetrieveRequest, view: ItemView): string | undefined {
  if (source.kind === 'embedding') return undefined;
  const asked = { ...request, timeoutMs: 0, priority: 'online', explain: request.explain };
  const key = `${view.generation.id} ${view.slots} ${JSON.stringify([source, asked])}`;
  return key.length > KEY_MAX ? undefined : key;
}
