/** The four ways to name a query, as tabs. */
import { h } from './dom.js';
import type { Store } from './store.js';
import type { Tab, ViewState } from './view-state.js';

export interface TabPanel {
  readonly tab: Tab;
  readonly label: string;
  readonly hint: string;
  readonly content: HTMLElement;
}

export function createTabs(panels: readonly TabPanel[], store: Store<ViewState>): HTMLElement {
  const tabs = panels.map(({ tab, label }) =>
    h(
      'button',
      {
        type: 'button',
        role: 'tab',
        id: `tab-${tab}`,
        'aria-controls': `panel-${tab}`,
        onclick: () => store.set({ tab }),
      },
      label,
    ),
  );
  const sections = panels.map(({ tab, hint, content }) =>
    h(
      'div',
      { role: 'tabpanel', id: `panel-${tab}`, 'aria-labelledby': `tab-${tab}`, class: 'panel' },
      h('p', { class: 'hint' }, hint),
      content,
    ),
  );
  const bar = h('div', { class: 'tabs', role: 'tablist', 'aria-label': 'Query from' }, ...tabs);
  bar.addEventListener('keydown', (event) => {
    const step = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (step === 0) return;
    event.preventDefault();
    const at = panels.findIndex(({ tab }) => tab === store.get().tab);
    const next = (at + step + panels.length) % panels.length;
    store.set({ tab: panels[next]!.tab });
    tabs[next]!.focus();
  });
  store.watch((state) => {
    panels.forEach(({ tab }, at) => {
      const isChosen = tab === state.tab;
      tabs[at]!.setAttribute('aria-selected', String(isChosen));
      tabs[at]!.tabIndex = isChosen ? 0 : -1;
      sections[at]!.hidden = !isChosen;
    });
  });
  return h('div', {}, bar, ...sections);
}
