/** A list of values as removable tokens, with suggestions for the next one. */
import { createCombobox } from './combobox.js';
import type { Id } from './contract.js';
import { h, replace } from './dom.js';

export interface TokenInputOptions {
  readonly label: string;
  readonly placeholder: string;
  readonly suggest: (text: string, signal: AbortSignal) => Promise<readonly Id[]>;
  readonly onChange: (values: Id[]) => void;
}

export interface TokenInput {
  readonly element: HTMLElement;
  show(values: readonly Id[]): void;
}

export function createTokenInput(options: TokenInputOptions): TokenInput {
  let values: readonly Id[] = [];
  const tokens = h('ul', { class: 'tokens', 'aria-label': `${options.label}, chosen` });
  const change = (next: Id[]): void => {
    show(next);
    options.onChange(next);
  };
  const combobox = createCombobox({
    label: options.label,
    placeholder: options.placeholder,
    clears: true,
    suggest: async (text, signal) => (await options.suggest(text, signal)).filter((id) => !values.includes(id)),
    onPick: (id) => {
      const added = typeof id === 'string' ? id.split(/[,\n]+/).map((one) => one.trim()) : [id];
      change([...new Set([...values, ...added.filter((one) => one !== '')])]);
    },
    onBackspace: () => {
      if (values.length > 0) change(values.slice(0, -1));
    },
  });
  combobox.input.before(tokens);

  function show(next: readonly Id[]): void {
    values = next;
    tokens.hidden = next.length === 0;
    replace(
      tokens,
      ...next.map((value, at) =>
        h(
          'li',
          { class: 'token' },
          h('span', {}, String(value)),
          h(
            'button',
            {
              type: 'button',
              'aria-label': `Remove ${value}`,
              onclick: () => {
                change(next.filter((_, other) => other !== at));
                combobox.input.focus();
              },
            },
            '\u00d7',
          ),
        ),
      ),
    );
  }
  show([]);
  return { element: combobox.element, show };
}
