/** The right side: the answer, or why there is none. */
import type { ErrorEnvelope, Id, Info } from './contract.js';
import { createColumnChooser } from './column-chooser.js';
import { h, replace } from './dom.js';
import { count, plural } from './format.js';
import { countMoves, slopeOf } from './moves.js';
import { resultsTable } from './results-table.js';
import { type Answered, isReranked, type Runner, type RunState } from './runner.js';
import { beforeColumn, highlight, type SlopeActions, slopeLines } from './slope-chart.js';
import type { Store } from './store.js';
import { timingsBar } from './timings.js';
import type { ViewState } from './view-state.js';

const DEGRADED: Readonly<Record<string, string>> = {
  rerank_timeout:
    'The reranker was not done by the deadline; this is retrieval order. Raise the deadline or lower candidates.',
  rerank_skipped: 'The reranker could not run; this is retrieval order.',
  rerank_scores_invalid: 'Some scores of the reranker were not finite; those items stand last.',
  cold_start: 'Nothing is known of this user; the answer is what fits an average one.',
  recall_lowered: 'The search was cut short to meet the deadline.',
  features_default: 'Features that were not sent took their default.',
  unknown_items_ignored: 'Items that are not in this generation were left out of the query.',
};

export function createResults(info: Info, store: Store<ViewState>, runner: Runner): HTMLElement {
  const status = h('p', { class: 'sr-only', role: 'status', 'aria-live': 'polite' });
  const title = h('h1', {});
  const models = h('p', { class: 'answered-by' });
  const content = h('div', { class: 'content' });
  const again = h(
    'button',
    {
      type: 'button',
      class: 'primary',
      title: 'Send the request again (Ctrl+Enter)',
      onclick: () => runner.request(store.get(), true),
    },
    'Retrieve',
  );
  const section = h(
    'section',
    { class: 'card answer', 'aria-label': 'Results' },
    h('div', { class: 'progress', 'aria-hidden': 'true' }),
    h(
      'header',
      { class: 'answer-head' },
      h('div', { class: 'answer-title' }, title, models),
      h('div', { class: 'answer-tools' }, createColumnChooser(info, store), again),
    ),
    content,
    status,
  );
  document.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) runner.request(store.get(), true);
  });

  let drawn: Answered | undefined;
  runner.store.watch((run) => {
    section.classList.toggle('busy', run.busy);
    section.setAttribute('aria-busy', String(run.busy));
    if (run.error !== undefined) {
      setHead(title, models, 'The request was refused');
      replace(content, errorBox(run.error));
      status.textContent = `Error ${run.error.code}: ${run.error.message}`;
    } else if (run.missing !== undefined) {
      setHead(title, models, 'Nothing asked yet');
      replace(content, h('div', { class: 'empty' }, bellMark(), h('p', {}, run.missing)));
      status.textContent = run.missing;
    } else if (run.result !== undefined && run.result !== drawn) {
      drawResult(run.result);
      // The second drawing of a result only fills in who left: nothing new to say aloud.
      if (run.result.full === undefined) status.textContent = spoken(run.result);
    } else if (run.result === undefined) {
      setHead(title, models, 'Retrieving\u2026');
      if (content.querySelector('.skeleton') === null) replace(content, skeleton(store.get().k));
    }
    drawn = run.error === undefined && run.missing === undefined ? run.result : undefined;
    markField(run);
  });

  function drawResult({ body, answer, roundTripMs, full }: Answered): void {
    setHead(
      title,
      models,
      headline(body.k, answer.items.length, asked(store.get())),
      answeredBy(answer.models, answer.generation, info),
    );
    const badges = answer.degraded.map((reason) =>
      h('li', {}, h('code', { class: 'badge warn' }, reason), h('span', {}, DEGRADED[reason] ?? '')),
    );
    replace(
      content,
      badges.length > 0 && h('ul', { class: 'degraded', 'aria-label': 'Degraded' }, ...badges),
      answer.timings_ms !== undefined && timingsBar(answer.timings_ms, roundTripMs),
      answer.explain !== undefined && explainLine(answer.explain),
      answer.items.length === 0
        ? emptyBox(body.exclude_seen === true, answer.explain, info)
        : board({ body, answer, roundTripMs, ...(full === undefined ? {} : { full }) }),
    );
  }

  function board({ body, answer, full }: Answered): HTMLElement {
    const slope = isReranked(answer) ? slopeOf(answer.items, full) : undefined;
    const element = h('div', { class: slope === undefined ? 'board' : 'board with-slope' });
    const actions: SlopeActions = {
      onOpen: (id: Id) => store.set({ open: id }),
      onPoint: (id) => highlight(element, id),
    };
    const table = resultsTable({ items: answer.items, columns: body.with_metadata ?? [], slope, actions });
    if (slope !== undefined)
      element.append(beforeColumn(slope, actions), h('div', { class: 'slope-box' }, slopeLines(slope, actions)));
    element.append(h('div', { class: 'table-box' }, table));
    return element;
  }
  return section;
}

function setHead(title: HTMLElement, models: HTMLElement, text: string, by: (string | HTMLElement)[] = []): void {
  title.textContent = text;
  replace(models, ...by);
}

function headline(k: number, returned: number, what: string): string {
  if (returned === 0) return `No items for ${what}`;
  return returned < k ? `${plural(returned, 'item')} for ${what}` : `Top ${count(k)} for ${what}`;
}

function asked(state: ViewState): string {
  if (state.tab === 'user') return String(state.user);
  if (state.tab === 'features') return 'a new user';
  if (state.tab === 'items')
    return state.items.length === 1 ? String(state.items[0]) : `the mean of ${plural(state.items.length, 'item')}`;
  return 'a query vector';
}

function answeredBy(
  models: { tower?: string; reranker?: string },
  generation: string,
  info: Info,
): (string | HTMLElement)[] {
  const parts: (string | HTMLElement)[] = [];
  if (models.tower !== undefined) parts.push(h('code', {}, models.tower));
  if (models.reranker !== undefined) parts.push(parts.length > 0 ? ' \u2192 ' : '', h('code', {}, models.reranker));
  if (generation !== info.generation)
    parts.push(' in generation ', h('code', {}, generation), ' (newer than this page: reload)');
  return parts;
}

function spoken({ answer }: Answered): string {
  const what = `${plural(answer.items.length, 'item')} returned`;
  const degraded = answer.degraded.length > 0 ? ` Degraded: ${answer.degraded.join(', ')}.` : '';
  if (!isReranked(answer)) return `${what}.${degraded}`;
  const { up, down, same } = countMoves(answer.items);
  return `${what}, re-ranked by ${answer.models.reranker}: ${up} moved up, ${down} down, ${same} did not move.${degraded}`;
}

/** The facts of the search in the order in which it went. */
function explainLine(explain: Readonly<Record<string, unknown>>): HTMLElement {
  const { path, kernel, query, rows, admitted, depth, reranked, ...others } = explain;
  const numberOf = (value: unknown) => (typeof value === 'number' ? count(value) : String(value));
  const facts = [
    query !== undefined && `query: ${query}`,
    path !== undefined && String(path),
    kernel !== undefined && `${kernel} kernels`,
    rows !== undefined && `${numberOf(rows)} rows`,
    admitted !== undefined && `${numberOf(admitted)} admitted`,
    depth !== undefined && `depth ${numberOf(depth)}`,
    typeof reranked === 'number' && reranked > 0 && `${count(reranked)} re-ranked`,
    ...Object.entries(others).map(([name, value]) => `${name}: ${JSON.stringify(value)}`),
  ].filter((fact) => fact !== false);
  return h('p', { class: 'explain' }, ...facts.map((fact) => h('span', {}, fact)));
}

function emptyBox(
  excludesSeen: boolean,
  explain: Readonly<Record<string, unknown>> | undefined,
  info: Info,
): HTMLElement {
  const admitted = explain?.admitted;
  const why =
    typeof admitted === 'number'
      ? `The filter admits ${count(admitted)} of ${count(info.items)} items${admitted > 0 && excludesSeen ? ', and those are excluded (the user has them)' : ''}. Loosen a condition.`
      : 'Every item that could be answered is excluded.';
  return h('div', { class: 'empty' }, bellMark(), h('p', {}, why));
}

function errorBox({ code, message, field, request_id }: ErrorEnvelope): HTMLElement {
  return h(
    'div',
    { class: 'error', role: 'alert' },
    h(
      'p',
      { class: 'error-head' },
      h('code', { class: 'badge bad' }, code),
      field !== undefined && h('span', { class: 'muted' }, 'field ', h('code', {}, field)),
    ),
    h('p', { class: 'error-text' }, message),
    request_id !== undefined && h('p', { class: 'muted small' }, 'request ', h('code', {}, request_id)),
  );
}

/** The field that the service complains of is marked where it is typed. */
function markField({ error }: RunState): void {
  const name = error?.field?.split('.')[0];
  for (const field of document.querySelectorAll('[data-field]')) {
    if (field.getAttribute('data-field') === name) field.setAttribute('aria-invalid', 'true');
    else field.removeAttribute('aria-invalid');
  }
}

function skeleton(rows: number): HTMLElement {
  const lines = Array.from({ length: Math.min(rows, 20) }, () => h('div', { class: 'skeleton-row' }));
  return h('div', { class: 'skeleton', 'aria-hidden': 'true' }, h('div', { class: 'skeleton-bar' }), ...lines);
}

const bellMark = (): HTMLElement => h('img', { src: '/favicon.svg', alt: '', width: 40, height: 40 });
