/**
 * Before and after re-ranking as two columns joined by lines. The right column is the results table itself, so every
 * row of both has the height of one slot and the drawing needs no measuring: one unit of the SVG is one slot.
 */
import type { Id } from './contract.js';
import { h, svg } from './dom.js';
import type { Line, Slope } from './moves.js';

const WIDTH = 100;
/** How far the curve runs level before it turns. */
const BEND = 46;

export interface SlopeActions {
  readonly onOpen: (id: Id) => void;
  readonly onPoint: (id: Id | undefined) => void;
}

/** The order that retrieval gave: the top k, then those that re-ranking brought up from below. */
export function beforeColumn(slope: Slope, actions: SlopeActions): HTMLElement {
  const entry = (rank: number, id: Id | undefined, isIn: boolean): HTMLElement => {
    if (id === undefined) return h('li', { class: 'slot unknown' }, h('span', { class: 'slot-rank' }, `${rank}`));
    const line = slope.lines.find((one) => one.id === id);
    const item = h(
      'li',
      { class: `slot ${isIn ? '' : 'from-below'}`, 'data-id': String(id), 'data-direction': line?.direction },
      h('span', { class: 'slot-rank' }, `${rank}`),
      h(
        'button',
        { type: 'button', class: 'slot-name', title: String(id), tabindex: -1, onclick: () => actions.onOpen(id) },
        String(id),
      ),
    );
    pointing(item, id, actions);
    return item;
  };
  const { before, entered, shown } = slope;
  return h(
    'ol',
    { class: 'before', 'aria-label': 'Retrieval order, before re-ranking' },
    h(
      'li',
      { class: 'slot head', 'aria-hidden': 'true' },
      h('span', { class: 'long' }, 'Retrieval order'),
      h('span', { class: 'short' }, '#'),
    ),
    ...before.map((id, at) => entry(at + 1, id, true)),
    ...(entered.length === 0
      ? []
      : [
          h(
            'li',
            { class: 'slot divider', 'aria-hidden': 'true' },
            h('span', { class: 'long' }, `from below ${shown}`),
          ),
        ]),
    ...entered.map((item) => entry(item.retrieval_rank, item.id, false)),
  );
}

export function slopeLines(slope: Slope, actions: SlopeActions): SVGElement {
  const lines = [...slope.lines].sort((a, b) => weight(a) - weight(b));
  const chart = svg(
    'svg',
    {
      class: 'slope',
      viewBox: `0 0 ${WIDTH} ${slope.slots}`,
      preserveAspectRatio: 'none',
      role: 'img',
      'aria-label': describe(slope),
    },
    ...lines.map((line) => drawLine(line, slope, actions)),
  );
  chart.style.setProperty('--slots', String(slope.slots));
  return chart;
}

/** Marks the line, the row and the old place of one item; the others step back. */
export function highlight(board: HTMLElement, id: Id | undefined): void {
  board.classList.toggle('pointing', id !== undefined);
  for (const element of board.querySelectorAll('[data-id]')) {
    element.classList.toggle('on', id !== undefined && element.getAttribute('data-id') === String(id));
  }
}

export function pointing(element: HTMLElement | SVGElement, id: Id, actions: Pick<SlopeActions, 'onPoint'>): void {
  element.addEventListener('pointerenter', () => actions.onPoint(id));
  element.addEventListener('pointerleave', () => actions.onPoint(undefined));
  element.addEventListener('focusin', () => actions.onPoint(id));
  element.addEventListener('focusout', () => actions.onPoint(undefined));
}

function drawLine(line: Line, slope: Slope, actions: SlopeActions): SVGElement {
  const start = line.fromSlot + 0.5;
  const end = line.toSlot + 0.5;
  const d = `M0 ${start} C${BEND} ${start} ${WIDTH - BEND} ${end} ${WIDTH} ${end}`;
  const leaves = line.toSlot > slope.shown;
  const group = svg(
    'g',
    { class: `line${leaves ? ' leaves' : ''}`, 'data-id': String(line.id), 'data-direction': line.direction },
    svg('title', {}, `${line.id}: ${line.from} to ${line.to}`),
    svg('path', { d, class: 'reach', 'vector-effect': 'non-scaling-stroke', onclick: () => actions.onOpen(line.id) }),
    svg('path', { d, class: 'ink', 'vector-effect': 'non-scaling-stroke' }),
  );
  pointing(group, line.id, actions);
  return group;
}

/** Large moves are drawn last, on top. */
function weight({ fromSlot, toSlot }: Line): number {
  return Math.abs(fromSlot - toSlot);
}

function describe({ lines, shown, entered }: Slope): string {
  const moved = lines.filter(({ toSlot }) => toSlot < shown);
  const up = moved.filter(({ direction }) => direction === 'up').length;
  const down = moved.filter(({ direction }) => direction === 'down').length;
  return `Slope chart of the top ${shown}: ${up} moved up, ${entered.length} of them from below ${shown}; ${down} moved down. The table has each move.`;
}
