/** Which item columns the table shows. */
import type { Info } from './contract.js';
import { h } from './dom.js';
import { label } from './format.js';
import type { Store } from './store.js';
import type { ViewState } from './view-state.js';

export function createColumnChooser(info: Info, store: Store<ViewState>): HTMLElement | undefined {
  if (info.item_columns.length === 0) return undefined;
  const names = info.item_columns.map(({ name }) => name);
  const boxes = names.map((name) => {
    const box = h('input', { type: 'checkbox', value: name });
    box.addEventListener('change', () => {
      const chosen = new Set(store.get().columns);
      if (box.checked) chosen.add(name);
      else chosen.delete(name);
      store.set({ columns: names.filter((one) => chosen.has(one)) });
    });
    return box;
  });
  store.watch(({ columns }) => {
    for (const box of boxes) box.checked = columns.includes(box.value);
  });
  return createMenu(
    'Columns',
    h(
      'div',
      { class: 'checks', role: 'group', 'aria-label': 'Item columns' },
      ...boxes.map((box, at) => h('label', {}, box, label(names[at] ?? ''))),
    ),
  );
}

/** A button with a panel below it that closes on Escape and on a click elsewhere. */
export function createMenu(title: string, panel: HTMLElement, className = ''): HTMLDetailsElement {
  const summary = h('summary', {}, title);
  const menu = h('details', { class: `menu ${className}` }, summary, h('div', { class: 'menu-panel' }, panel));
  document.addEventListener('pointerdown', (event) => {
    if (event.target instanceof Node && !menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    summary.focus();
  });
  return menu;
}
