/** How to answer: depth, re-ranking, exclusions, deadline. */
import type { Info } from './contract.js';
import { h, setValue, uniqueId } from './dom.js';
import type { Store } from './store.js';
import type { ViewState } from './view-state.js';

type NumberKey = 'k' | 'candidates' | 'timeoutMs';
type SwitchKey = 'excludeSeen' | 'exact';

export function createOptions(info: Info, store: Store<ViewState>): HTMLElement {
  const candidates = numberField(store, 'candidates', 'Candidates', 'Retrieval depth before re-ranking');
  const rerank = rerankField(info, store);
  store.watch((state) => {
    const input = candidates.querySelector('input');
    if (input !== null) input.disabled = state.rerank === '';
  });
  return h(
    'div',
    { class: 'options' },
    h('h2', { class: 'card-title' }, 'Options'),
    h(
      'div',
      { class: 'grid-3' },
      numberField(store, 'k', 'Top k', 'How many items to answer'),
      candidates,
      numberField(store, 'timeoutMs', 'Deadline, ms', 'Of this request; 1000 at most', 'timeout_ms'),
    ),
    rerank,
    h(
      'div',
      { class: 'switches' },
      switchField(store, 'excludeSeen', 'Exclude seen', 'Leave out what the user has'),
      switchField(store, 'exact', 'Exact', 'Search with a proof of exactness'),
    ),
  );
}

function numberField(
  store: Store<ViewState>,
  key: NumberKey,
  label: string,
  title: string,
  field = key as string,
): HTMLElement {
  const id = uniqueId('option');
  const input = h('input', { id, type: 'number', min: 1, step: 1, title, 'data-field': field, name: field });
  // Out of bounds goes to the service as it is: its message knows the bound.
  input.addEventListener('input', () => {
    const value = input.valueAsNumber;
    if (Number.isFinite(value)) store.set({ [key]: value });
  });
  input.addEventListener('blur', () => setValue(input, String(store.get()[key])));
  store.watch((state) => {
    if (input.valueAsNumber !== state[key] && !(document.activeElement === input && input.value === '')) {
      setValue(input, String(state[key]));
    }
  });
  return h('div', { class: 'field' }, h('label', { for: id, class: 'label' }, label), input);
}

function switchField(store: Store<ViewState>, key: SwitchKey, label: string, title: string): HTMLElement {
  const input = h('input', { type: 'checkbox', role: 'switch', class: 'switch', name: key });
  input.addEventListener('change', () => store.set({ [key]: input.checked }));
  store.watch((state) => {
    input.checked = state[key];
  });
  return h('label', { class: 'switch-label', title }, input, label);
}

/** A switch for on and off; a choice beside it only where there is one. */
function rerankField(info: Info, store: Store<ViewState>): HTMLElement {
  const [first] = info.rerankers;
  const input = h('input', {
    type: 'checkbox',
    role: 'switch',
    class: 'switch',
    name: 'rerank',
    'data-field': 'rerank',
    disabled: first === undefined,
  });
  const select = h(
    'select',
    { 'aria-label': 'Reranker', class: 'compact', name: 'reranker' },
    ...info.rerankers.map((name) => h('option', { value: name }, name)),
  );
  input.addEventListener('change', () => store.set({ rerank: input.checked ? select.value || (first ?? '') : '' }));
  select.addEventListener('change', () => store.set({ rerank: select.value }));
  store.watch(({ rerank }) => {
    input.checked = rerank !== '';
    select.disabled = rerank === '';
    if (rerank !== '' && ![...select.options].some((option) => option.value === rerank)) {
      select.append(h('option', { value: rerank }, rerank)); // from a shared link: the service says what it thinks of it
    }
    if (rerank !== '') setValue(select, rerank);
  });
  return h(
    'div',
    { class: 'rerank-row' },
    h('label', { class: 'switch-label' }, input, 'Re-rank'),
    first === undefined
      ? h('span', { class: 'muted' }, 'no reranker runs here')
      : h('span', { class: 'with' }, 'with ', select),
  );
}
