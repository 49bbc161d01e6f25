/** The answer as rows. Beside the slope chart each row is one slot high. */
import type { RetrievedItem } from './contract.js';
import { h, hidden } from './dom.js';
import { count, label, plain, score } from './format.js';
import { directionOf, type Slope } from './moves.js';
import { pointing, type SlopeActions } from './slope-chart.js';

export interface TableInput {
  readonly items: readonly RetrievedItem[];
  readonly columns: readonly string[];
  /** There when the answer is re-ranked. */
  readonly slope: Slope | undefined;
  readonly actions: SlopeActions;
}

export function resultsTable({ items, columns, slope, actions }: TableInput): HTMLElement {
  const isNumber = (column: string) => items.some(({ metadata }) => typeof metadata?.[column] === 'number');
  const row = (item: RetrievedItem, place: number, isIn: boolean): HTMLElement => {
    const direction = directionOf(item.retrieval_rank, place);
    const line = h(
      'tr',
      { class: isIn ? 'result' : 'result dropped', 'data-id': String(item.id), 'data-direction': slope && direction },
      h('td', { class: 'place' }, count(place)),
      h(
        'th',
        { scope: 'row', class: 'item' },
        h(
          'button',
          { type: 'button', class: 'item-name', title: String(item.id), onclick: () => actions.onOpen(item.id) },
          String(item.id),
        ),
        h(
          'span',
          { class: 'item-facts' },
          columns
            .map((name) => plain(item.metadata?.[name]))
            .filter(Boolean)
            .join(' \u00b7 '),
        ),
      ),
      slope !== undefined && h('td', { class: 'move' }, moveMark(item.retrieval_rank, place, slope.shown)),
      h(
        'td',
        { class: 'number retrieval' },
        score(item.retrieval_score),
        slope !== undefined && h('small', {}, `#${count(item.retrieval_rank)}`),
      ),
      slope !== undefined && h('td', { class: 'number final' }, score(item.score)),
      ...columns.map((name) => metadataCell(item.metadata?.[name], isNumber(name))),
    );
    pointing(line, item.id, actions);
    return line;
  };

  const head = h(
    'tr',
    {},
    h('th', { scope: 'col', class: 'place' }, '#'),
    h('th', { scope: 'col', class: 'item' }, 'Item'),
    slope !== undefined && h('th', { scope: 'col', class: 'move' }, 'Moved'),
    h('th', { scope: 'col', class: 'number retrieval' }, 'Retrieval'),
    slope !== undefined && h('th', { scope: 'col', class: 'number final' }, 'Re-ranked'),
    ...columns.map((name) =>
      h('th', { scope: 'col', class: isNumber(name) ? 'meta number' : 'meta', title: name }, label(name)),
    ),
  );
  const body = h('tbody', {}, ...items.map((item, at) => row(item, at + 1, true)));
  const below = slope === undefined || slope.entered.length === 0 ? undefined : droppedBody(slope, columns, row);
  const table = h(
    'table',
    { class: `results ${slope === undefined ? '' : 'beside'}` },
    h('caption', { class: 'sr-only' }, slope === undefined ? 'Items in retrieval order' : 'Items in re-ranked order'),
    h('thead', {}, head),
    body,
    below,
  );
  table.style.setProperty('--columns', String(columns.length));
  return table;
}

/** Those that re-ranking put below the cut. Their number is known before they are: the rows keep their place free. */
function droppedBody(
  slope: Slope,
  columns: readonly string[],
  row: (item: RetrievedItem, place: number, isIn: boolean) => HTMLElement,
): HTMLElement {
  const waiting = Math.max(0, slope.entered.length - slope.left.length);
  return h(
    'tbody',
    { class: 'below' },
    h(
      'tr',
      { class: 'divider' },
      h('td', { class: 'place' }),
      h('th', { scope: 'rowgroup', class: 'item' }, `left the top ${slope.shown}`),
      ...blank(columns),
    ),
    ...slope.left.map(({ item, place }) => row(item, place, false)),
    ...Array.from({ length: waiting }, () =>
      h(
        'tr',
        { class: 'waiting', 'aria-hidden': 'true' },
        h('td', { class: 'place' }),
        h('td', { class: 'item' }),
        ...blank(columns),
      ),
    ),
  );
}

/** Cells of the same classes as in a row of data: a colspan would count the columns that a narrow page hides. */
function blank(columns: readonly string[]): HTMLElement[] {
  return ['move', 'retrieval', 'final', ...columns.map(() => 'meta')].map((name) => h('td', { class: name }));
}

function moveMark(from: number, to: number, shown: number): HTMLElement {
  const direction = directionOf(from, to);
  const by = Math.abs(from - to);
  if (direction === 'same')
    return h('span', { class: 'mark' }, h('span', { 'aria-hidden': 'true' }, '='), hidden('did not move'));
  const isNew = direction === 'up' && from > shown;
  return h(
    'span',
    { class: `mark${isNew ? ' new' : ''}`, title: `retrieval rank ${from}, now ${to}` },
    h('span', { 'aria-hidden': 'true' }, `${direction === 'up' ? '\u25b2' : '\u25bc'} ${count(by)}`),
    hidden(`${direction} ${by}, from ${from}`),
  );
}

function metadataCell(value: unknown, isNumber: boolean): HTMLElement {
  const text = plain(value);
  if (text === undefined)
    return h('td', { class: 'meta none' }, h('span', { 'aria-hidden': 'true' }, '\u2013'), hidden('none'));
  return h('td', { class: isNumber ? 'meta number' : 'meta', title: text }, text);
}
