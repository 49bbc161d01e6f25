/** Sends what the page shows, drops what was superseded, and says how far it is. */
import { asEnvelope, isAbort, retrieve } from './api.js';
import type { ErrorEnvelope, Info, RetrieveAnswer, RetrieveBody, RetrievedItem } from './contract.js';
import { compose } from './request-body.js';
import { Store } from './store.js';
import type { ViewState } from './view-state.js';

export interface Answered {
  readonly body: RetrieveBody;
  readonly answer: RetrieveAnswer;
  readonly roundTripMs: number;
  /** The same request down to the last candidate, fetched when items crossed the cut; for the slope chart. */
  readonly full?: readonly RetrievedItem[];
}

export interface RunState {
  readonly busy: boolean;
  readonly missing: string | undefined;
  readonly error: ErrorEnvelope | undefined;
  readonly result: Answered | undefined;
}

const DEBOUNCE_MS = 120;
const MAX_K = 1000;

export class Runner {
  readonly store = new Store<RunState>({ busy: false, missing: undefined, error: undefined, result: undefined });
  private inFlight: AbortController | undefined;
  private timer = 0;
  private sent = '';

  constructor(private readonly info: Info) {}

  /** Runs the request of a state; the same request is not sent twice in a row unless `again`. */
  request(state: ViewState, again = false): void {
    const composed = compose(state, this.info);
    const text = JSON.stringify(composed);
    if (text === this.sent && !again) return;
    const isFirst = this.sent === '';
    this.sent = text;
    this.inFlight?.abort();
    window.clearTimeout(this.timer);
    if ('missing' in composed) {
      this.store.set({ busy: false, missing: composed.missing, error: undefined, result: undefined });
      return;
    }
    this.store.set({ busy: true, missing: undefined });
    this.timer = window.setTimeout(() => void this.run(composed.body), isFirst || again ? 0 : DEBOUNCE_MS);
  }

  private async run(body: RetrieveBody): Promise<void> {
    const mine = new AbortController();
    this.inFlight = mine;
    try {
      const timed = await retrieve(body, mine.signal);
      if (mine.signal.aborted) return;
      const result: Answered = { body, ...timed };
      this.store.set({ busy: false, error: undefined, result });
      if (hasCrossedTheCut(timed.answer)) await this.addFullOrder(result, mine.signal);
    } catch (error) {
      if (isAbort(error) || mine.signal.aborted) return;
      this.store.set({ busy: false, error: asEnvelope(error), result: undefined });
    }
  }

  /** Who left the top k is not in an answer of k items. Without it the chart has gaps, so a failure only leaves them. */
  private async addFullOrder(result: Answered, signal: AbortSignal): Promise<void> {
    const k = Math.min(MAX_K, Math.max(result.body.k, result.body.candidates ?? 0));
    try {
      const { answer } = await retrieve({ ...result.body, k }, signal);
      const isSame = answer.generation === result.answer.generation && isReranked(answer);
      if (isSame && !signal.aborted) this.store.set({ result: { ...result, full: answer.items } });
    } catch (error) {
      if (!isAbort(error)) return;
    }
  }
}

export const isReranked = (answer: RetrieveAnswer): boolean => answer.models.reranker !== undefined;

function hasCrossedTheCut(answer: RetrieveAnswer): boolean {
  return isReranked(answer) && answer.items.some(({ retrieval_rank: rank }) => rank > answer.items.length);
}
