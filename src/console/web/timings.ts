/** Where the time of a request went: one stacked bar and its legend. */
import { h } from './dom.js';
import { ms } from './format.js';

const NAMES: Readonly<Record<string, string>> = {
  query: 'query vector',
  tower: 'user tower',
  filter: 'filter',
  search: 'search',
  rerank: 're-rank',
  other: 'other',
};
/** Below this share a part of the bar would be invisible; its number stands in the legend all the same. */
const MIN_SHARE = 0.004;

export function timingsBar(timings: Readonly<Record<string, number>>, roundTripMs: number): HTMLElement {
  const stages = Object.entries(timings).filter(([stage]) => stage !== 'total');
  const sum = stages.reduce((all, [, value]) => all + value, 0);
  const total = timings.total ?? sum;
  if (total - sum > 0.02 * total) stages.push(['other', total - sum]);
  const text = stages.map(([stage, value]) => `${NAMES[stage] ?? stage} ${ms(value)}`).join(', ');
  const bar = h('div', { class: 'time-bar', role: 'img', 'aria-label': `Time by stage: ${text}; total ${ms(total)}` });
  for (const [stage, value] of stages) {
    if (value / total < MIN_SHARE) continue;
    const part = h('span', { class: 'time-part', 'data-stage': stage, title: `${NAMES[stage] ?? stage} ${ms(value)}` });
    part.style.flexGrow = String((100 * value) / total);
    bar.append(part);
  }
  const legend = h(
    'ul',
    { class: 'time-legend' },
    ...stages.map(([stage, value]) =>
      h('li', {}, h('i', { class: 'swatch', 'data-stage': stage }), NAMES[stage] ?? stage, h('b', {}, ms(value))),
    ),
    h('li', { class: 'time-total' }, 'total', h('b', {}, ms(total))),
    h(
      'li',
      { class: 'muted', title: 'From the click to the parsed answer, in this browser' },
      'round trip',
      h('b', {}, ms(roundTripMs)),
    ),
  );
  return h('div', { class: 'timings' }, bar, legend);
}
