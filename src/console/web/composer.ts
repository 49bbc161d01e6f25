/** The left side: what to ask for. */
import { suggest } from './api.js';
import { createCombobox } from './combobox.js';
import type { Id, Info } from './contract.js';
import { h, setValue } from './dom.js';
import { createFeatureForm } from './feature-form.js';
import { createFilterBuilder } from './filter-builder.js';
import { createOptions } from './options.js';
import { createRequestPanel } from './request-panel.js';
import { createTabs } from './source-tabs.js';
import type { Store } from './store.js';
import { createTokenInput } from './token-input.js';
import type { ViewState } from './view-state.js';

export function createComposer(info: Info, store: Store<ViewState>): HTMLElement {
  return h(
    'form',
    { class: 'composer', 'aria-label': 'Query', onsubmit: (event: Event) => event.preventDefault() },
    h(
      'section',
      { class: 'card' },
      createTabs(
        [
          {
            tab: 'user',
            label: 'Known user',
            hint: 'The stored embedding of the user.',
            content: userPanel(info, store),
          },
          {
            tab: 'features',
            label: 'New user',
            hint: 'The user tower embeds what you compose, in this request.',
            content: createFeatureForm(info, store),
          },
          { tab: 'items', label: 'Items', hint: 'The mean of item embeddings.', content: itemsPanel(store) },
          {
            tab: 'embedding',
            label: 'Vector',
            hint: 'A query embedding of your own.',
            content: vectorPanel(info, store),
          },
        ],
        store,
      ),
    ),
    h('section', { class: 'card knobs' }, createOptions(info, store), createFilterBuilder(info, store)),
    createRequestPanel(info, store),
  );
}

function userPanel(info: Info, store: Store<ViewState>): HTMLElement {
  if (info.users === 0) return h('p', { class: 'notice' }, 'This export holds no user embeddings.');
  const numeric = info.sample_users.length > 0 && info.sample_users.every((id) => typeof id === 'number');
  const typed = (id: Id): Id => (numeric && typeof id === 'string' && /^\d+$/.test(id) ? Number(id) : id);
  const combobox = createCombobox({
    label: 'User',
    placeholder: `Search ${info.users.toLocaleString('en-US')} users\u2026`,
    hideLabel: true,
    suggest: (text, signal) => suggest('users', text, signal),
    onPick: (id) => store.set({ user: typed(id) }),
  });
  combobox.element.classList.add('search');
  // A text that was not entered is no user: the field goes back to the one that the results are for.
  combobox.input.addEventListener('blur', () => setValue(combobox.input, String(store.get().user ?? '')));
  const chips = info.sample_users.slice(0, 8).map((id) => {
    const chip = h('button', { type: 'button', class: 'chip', onclick: () => store.set({ user: id }) }, String(id));
    return { id, chip };
  });
  store.watch(({ user }) => {
    setValue(combobox.input, user === undefined ? '' : String(user));
    for (const { id, chip } of chips) chip.setAttribute('aria-pressed', String(id === user));
  });
  return h(
    'div',
    { class: 'stack' },
    combobox.element,
    chips.length > 0 &&
      h('div', { class: 'chips', role: 'group', 'aria-label': 'Sample users' }, ...chips.map(({ chip }) => chip)),
  );
}

function itemsPanel(store: Store<ViewState>): HTMLElement {
  const input = createTokenInput({
    label: 'Items',
    placeholder: 'Type an item id\u2026',
    suggest: (text, signal) => suggest('items', text, signal),
    onChange: (items) => store.set({ items }),
  });
  store.watch(({ items }) => input.show(items));
  return input.element;
}

function vectorPanel(info: Info, store: Store<ViewState>): HTMLElement {
  const text = h('textarea', {
    id: 'embedding',
    rows: 6,
    spellcheck: 'false',
    placeholder: `[0.12, -0.03, \u2026] \u2013 ${info.dims} numbers`,
    oninput: () => store.set({ embedding: text.value }),
  });
  const random = h(
    'button',
    {
      type: 'button',
      class: 'quiet',
      onclick: () => store.set({ embedding: JSON.stringify(randomVector(info.dims)) }),
    },
    'Fill with a random direction',
  );
  store.watch(({ embedding }) => setValue(text, embedding));
  return h(
    'div',
    { class: 'stack' },
    h('label', { for: 'embedding', class: 'label' }, `Embedding (${info.dims} dims)`),
    text,
    h('div', {}, random),
  );
}

/** Normal entries give a direction without a preferred axis; length 1. */
function randomVector(dims: number): number[] {
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  const vector = Array.from({ length: dims }, normal);
  const length = Math.hypot(...vector);
  return vector.map((value) => Number((value / length).toFixed(4)));
}
