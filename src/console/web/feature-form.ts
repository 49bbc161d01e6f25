/** The features of a user who is not in the data: one field for each that the user tower takes. */
import { suggest } from './api.js';
import { createCombobox } from './combobox.js';
import type { FeatureInfo, FeatureValue, Id, Info } from './contract.js';
import { h, setValue, uniqueId } from './dom.js';
import { label } from './format.js';
import type { Store } from './store.js';
import { createTokenInput } from './token-input.js';
import type { ViewState } from './view-state.js';

/** List features that hold item ids, by the names that Belfry gives a meaning. */
const ITEM_LISTS = ['history', 'seen'];

interface Field {
  readonly element: HTMLElement;
  show(value: FeatureValue | undefined): void;
}

export function historyFeature(info: Info): string | undefined {
  return info.user_features.find(({ name }) => ITEM_LISTS.includes(name))?.name;
}

export function createFeatureForm(info: Info, store: Store<ViewState>): HTMLElement {
  if (info.tower === null) {
    const why = info.tower_problem ?? 'The models folder has no user tower.';
    return h('p', { class: 'notice' }, `New users cannot be embedded here. ${why}`);
  }
  const history = historyFeature(info);
  const fields = new Map(info.user_features.map((feature) => [feature.name, createField(feature, store)]));
  const main = info.user_features.filter(({ name }) => name === history);
  const others = info.user_features.filter(({ name }) => name !== history);
  const summary = h('summary', {}, 'Attributes');
  const more = h(
    'details',
    { class: 'fold', open: main.length === 0 },
    summary,
    h('div', { class: 'grid-2' }, ...others.map(({ name }) => fields.get(name)?.element)),
  );
  store.watch(({ features }) => {
    for (const [name, field] of fields) field.show(features[name]);
    const set = others.filter(({ name }) => name in features).length;
    summary.textContent = set === 0 ? `Attributes (${others.length} optional)` : `Attributes (${set} set)`;
  });
  if (others.some(({ name }) => name in store.get().features)) more.open = true;
  return h('div', { class: 'stack' }, ...main.map(({ name }) => fields.get(name)?.element), others.length > 0 && more);
}

export function withFeature(
  features: Readonly<Record<string, FeatureValue>>,
  name: string,
  value: FeatureValue | undefined,
): Record<string, FeatureValue> {
  const next = { ...features };
  if (value === undefined) delete next[name];
  else next[name] = value;
  return next;
}

function createField(feature: FeatureInfo, store: Store<ViewState>): Field {
  const change = (value: FeatureValue | undefined): void => {
    const { features } = store.get();
    if (JSON.stringify(features[feature.name]) === JSON.stringify(value)) return;
    store.set({ features: withFeature(features, feature.name, value) });
  };
  switch (feature.kind) {
    case 'string_list':
      return tokenField(feature, change);
    case 'number_list':
      return numberListField(feature, change);
    case 'number':
      return numberField(feature, change);
    case 'boolean':
      return booleanField(feature, change);
    default:
      return textField(feature, change);
  }
}

type Change = (value: FeatureValue | undefined) => void;

function tokenField(feature: FeatureInfo, change: Change): Field {
  const isItems = ITEM_LISTS.includes(feature.name);
  const input = createTokenInput({
    label: isItems ? `${label(feature.name)} \u2013 items the user has` : label(feature.name),
    placeholder: isItems ? 'Type an item id\u2026' : 'Add\u2026',
    suggest: (text, signal) => (isItems ? suggest('items', text, signal) : among(feature.values ?? [], text)),
    onChange: (values) => change(values.length === 0 ? undefined : values),
  });
  input.element.classList.add('wide');
  return { element: input.element, show: (value) => input.show(Array.isArray(value) ? (value as Id[]) : []) };
}

function textField(feature: FeatureInfo, change: Change): Field {
  const combobox = createCombobox({
    label: label(feature.name),
    placeholder: 'not set',
    commitsOnBlur: true,
    suggest: (text, signal) => (signal.aborted ? among([], text) : among(feature.values ?? [], text)),
    onPick: (value) => change(value === '' ? undefined : String(value)),
  });
  return {
    element: combobox.element,
    show: (value) => setValue(combobox.input, value === undefined || value === null ? '' : String(value)),
  };
}

function numberField(feature: FeatureInfo, change: Change): Field {
  const input = h('input', { type: 'number', step: 'any', placeholder: 'not set' });
  input.addEventListener('change', () => change(input.value === '' ? undefined : Number(input.value)));
  return {
    element: labelled(feature, input),
    show: (value) => {
      if (typeof value !== 'number') setValue(input, '');
      else if (Number(input.value) !== value || input.value === '') input.value = String(value);
    },
  };
}

function numberListField(feature: FeatureInfo, change: Change): Field {
  const input = h('input', { type: 'text', placeholder: '1, 2, 3', inputmode: 'decimal' });
  input.addEventListener('change', () => {
    const values = input.value
      .split(/[\s,]+/)
      .filter(Boolean)
      .map(Number);
    change(values.length === 0 ? undefined : values.filter((value) => Number.isFinite(value)));
  });
  return {
    element: labelled(feature, input),
    show: (value) => setValue(input, Array.isArray(value) ? value.join(', ') : ''),
  };
}

function booleanField(feature: FeatureInfo, change: Change): Field {
  const select = h(
    'select',
    {},
    h('option', { value: '' }, 'not set'),
    h('option', { value: 'true' }, 'true'),
    h('option', { value: 'false' }, 'false'),
  );
  select.addEventListener('change', () => change(select.value === '' ? undefined : select.value === 'true'));
  return {
    element: labelled(feature, select),
    show: (value) => setValue(select, typeof value === 'boolean' ? String(value) : ''),
  };
}

function labelled(feature: FeatureInfo, field: HTMLInputElement | HTMLSelectElement): HTMLElement {
  field.id = uniqueId('feature');
  return h('div', { class: 'field' }, h('label', { for: field.id, class: 'label' }, label(feature.name)), field);
}

/** Prefix matches first, as the service does for ids. */
function among(values: readonly string[], text: string): Promise<readonly Id[]> {
  const wanted = text.toLowerCase();
  const starts = values.filter((value) => value.toLowerCase().startsWith(wanted));
  const holds = values.filter((value) => !starts.includes(value) && value.toLowerCase().includes(wanted));
  return Promise.resolve([...starts, ...holds].slice(0, 12));
}
