/** Conditions on item columns, one row each; all of them have to hold. */
import type { ColumnKind, Info } from './contract.js';
import { h, replace, setValue, uniqueId } from './dom.js';
import { label } from './format.js';
import { filterFields, operatorsOf } from './request-body.js';
import type { Store } from './store.js';
import type { FilterRow, ViewState } from './view-state.js';

export function createFilterBuilder(info: Info, store: Store<ViewState>): HTMLElement {
  const fields = filterFields(info);
  const kindOf = (name: string): ColumnKind => fields.find((field) => field.name === name)?.kind ?? 'string';
  const rows = h('div', { class: 'filter-rows' });
  const change = (at: number, patch: Partial<FilterRow>): void => {
    store.set({ filters: store.get().filters.map((row, other) => (other === at ? { ...row, ...patch } : row)) });
  };

  const add = h(
    'button',
    {
      type: 'button',
      class: 'quiet',
      onclick: () => {
        const field = fields[0]?.name ?? 'id';
        const op = operatorsOf(kindOf(field))[0]?.op ?? 'eq';
        store.set({ filters: [...store.get().filters, { field, op, text: '' }] });
        rows.querySelector<HTMLElement>('.filter-row:last-child select')?.focus();
      },
    },
    '+ Add a condition',
  );

  const build = (row: FilterRow, at: number): HTMLElement => {
    const kind = kindOf(row.field);
    const field = h(
      'select',
      { 'aria-label': `Condition ${at + 1}: column` },
      ...fields.map(({ name }) => h('option', { value: name }, label(name))),
    );
    field.addEventListener('change', () => {
      const operators = operatorsOf(kindOf(field.value));
      const op = operators.find((one) => one.op === row.op)?.op ?? operators[0]?.op ?? 'eq';
      change(at, { field: field.value, op, text: '' });
    });
    const operator = h(
      'select',
      { 'aria-label': `Condition ${at + 1}: comparison` },
      ...operatorsOf(kind).map(({ op, label: text }) => h('option', { value: op }, text)),
    );
    operator.addEventListener('change', () => change(at, { op: operator.value }));
    setValue(field, row.field);
    setValue(operator, row.op);
    return h(
      'div',
      { class: 'filter-row' },
      field,
      operator,
      valueField(row, at, kind),
      h(
        'button',
        {
          type: 'button',
          class: 'remove',
          'aria-label': `Remove condition ${at + 1}`,
          onclick: () => {
            store.set({ filters: store.get().filters.filter((_, other) => other !== at) });
            add.focus();
          },
        },
        '\u00d7',
      ),
    );
  };

  const valueField = (row: FilterRow, at: number, kind: ColumnKind): HTMLElement => {
    const name = `Condition ${at + 1}: value`;
    if (operatorsOf(kind).find(({ op }) => op === row.op)?.takesValue === false) return h('span', {});
    if (kind === 'boolean') {
      const select = h(
        'select',
        { 'aria-label': name },
        ...['', 'true', 'false'].map((value) => h('option', { value }, value || 'choose')),
      );
      setValue(select, row.text);
      select.addEventListener('change', () => change(at, { text: select.value }));
      return select;
    }
    const known = info.user_features.find((feature) => feature.name === row.field)?.values ?? [];
    const listId = uniqueId('values');
    const input = h('input', {
      type: 'text',
      'aria-label': name,
      'data-field': 'filter',
      placeholder: row.op === 'in' || row.op === 'all' ? 'a, b, c' : 'value',
      ...(kind === 'number' ? { inputmode: 'decimal' } : {}),
      ...(known.length > 0 ? { list: listId } : {}),
    });
    input.value = row.text;
    input.addEventListener('input', () => change(at, { text: input.value }));
    const options = h('datalist', { id: listId }, ...known.map((value) => h('option', { value })));
    return h('span', { class: 'filter-value' }, input, known.length > 0 && options);
  };

  let drawn = '';
  store.watch(({ filters }) => {
    // The text of a row is edited in its field: only a change of shape draws again.
    const shape = JSON.stringify(filters.map(({ field, op }) => [field, op]));
    const fieldsNow = [...rows.querySelectorAll<HTMLInputElement>('.filter-value input')];
    const texts = filters.filter(({ field, op }) => op !== 'exists' && op !== 'absent' && kindOf(field) !== 'boolean');
    const isEdited = fieldsNow.length === texts.length && fieldsNow.every(({ value }, at) => value === texts[at]?.text);
    if (shape === drawn && isEdited) return;
    drawn = shape;
    replace(rows, ...filters.map(build));
  });
  return h(
    'div',
    { class: 'filters', role: 'group', 'aria-label': 'Filter' },
    h('h3', { class: 'label' }, 'Filter on item columns'),
    rows,
    add,
  );
}
