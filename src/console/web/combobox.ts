/** A text field with suggestions, by the ARIA combobox pattern: arrows move, Enter takes, Escape closes. */
import { isAbort } from './api.js';
import type { Id } from './contract.js';
import { h, replace, uniqueId } from './dom.js';

export interface ComboboxOptions {
  readonly label: string;
  readonly placeholder?: string;
  readonly suggest: (text: string, signal: AbortSignal) => Promise<readonly Id[]>;
  /** A suggestion was taken, or text was entered that is none. */
  readonly onPick: (id: Id) => void;
  /** Backspace in the empty field. */
  readonly onBackspace?: () => void;
  /** True: the field empties itself after a pick. */
  readonly clears?: boolean;
  /** Picks the text when the field is left; for fields whose text is their value. */
  readonly commitsOnBlur?: boolean;
  readonly hideLabel?: boolean;
}

export interface Combobox {
  readonly element: HTMLElement;
  readonly input: HTMLInputElement;
}

const DEBOUNCE_MS = 90;

export function createCombobox(options: ComboboxOptions): Combobox {
  const inputId = uniqueId('combo');
  const listId = uniqueId('list');
  const list = h('ul', {
    class: 'suggestions',
    role: 'listbox',
    id: listId,
    'aria-label': options.label,
    hidden: true,
  });
  const input = h('input', {
    id: inputId,
    type: 'text',
    role: 'combobox',
    autocomplete: 'off',
    spellcheck: 'false',
    'aria-autocomplete': 'list',
    'aria-controls': listId,
    'aria-expanded': 'false',
    placeholder: options.placeholder ?? '',
  });
  const element = h(
    'div',
    { class: 'combobox' },
    h('label', { for: inputId, class: options.hideLabel ? 'sr-only' : 'label' }, options.label),
    input,
    list,
  );

  let shown: readonly Id[] = [];
  let active = -1;
  let pending: AbortController | undefined;
  let timer = 0;

  const close = (): void => {
    pending?.abort();
    window.clearTimeout(timer);
    list.hidden = true;
    active = -1;
    input.setAttribute('aria-expanded', 'false');
    input.removeAttribute('aria-activedescendant');
  };

  const pick = (id: Id): void => {
    close();
    input.value = options.clears ? '' : String(id);
    options.onPick(id);
  };

  const draw = (): void => {
    replace(
      list,
      ...shown.map((id, at) => {
        const option = h(
          'li',
          { role: 'option', id: `${listId}-${at}`, 'aria-selected': String(at === active) },
          ...marked(String(id), input.value.trim()),
        );
        // pointerdown, not click: the field must not lose its focus first
        option.addEventListener('pointerdown', (event) => {
          event.preventDefault();
          pick(id);
        });
        return option;
      }),
    );
    list.hidden = shown.length === 0;
    input.setAttribute('aria-expanded', String(shown.length > 0));
    if (active < 0) input.removeAttribute('aria-activedescendant');
    else {
      input.setAttribute('aria-activedescendant', `${listId}-${active}`);
      list.children[active]?.scrollIntoView({ block: 'nearest' });
    }
  };

  const ask = async (): Promise<void> => {
    pending?.abort();
    const mine = new AbortController();
    pending = mine;
    try {
      const ids = await options.suggest(input.value.trim(), mine.signal);
      if (mine.signal.aborted) return;
      shown = ids;
    } catch (error) {
      if (isAbort(error)) return;
      shown = []; // suggestions are a help: without them an id can still be typed, and /retrieve shows the error
    }
    active = -1;
    draw();
  };
  const askSoon = (): void => {
    window.clearTimeout(timer);
    timer = window.setTimeout(() => void ask(), DEBOUNCE_MS);
  };

  /** The service says whether the text 42 is the id 42 or the id "42"; a text that is no id goes on as it is. */
  const commitText = async (): Promise<void> => {
    const text = input.value.trim();
    close();
    if (text === '') return;
    const isIt = (id: Id): boolean => String(id) === text;
    const found =
      shown.find(isIt) ?? (await options.suggest(text, new AbortController().signal).catch(() => [])).find(isIt);
    if (input.value.trim() === text) pick(found ?? text);
  };

  input.addEventListener('input', askSoon);
  input.addEventListener('focus', () => {
    if (!options.clears) input.select();
    askSoon();
  });
  input.addEventListener('blur', () => {
    close();
    if (options.commitsOnBlur) options.onPick(input.value.trim());
  });
  input.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      if (list.hidden) {
        void ask();
        return;
      }
      const step = event.key === 'ArrowDown' ? 1 : -1;
      active = (active + step + shown.length + (active < 0 && step < 0 ? 1 : 0)) % shown.length;
      draw();
    } else if (event.key === 'Enter') {
      event.preventDefault();
      const chosen = list.hidden ? undefined : shown[active];
      if (chosen === undefined) void commitText();
      else pick(chosen);
    } else if (event.key === 'Escape' && !list.hidden) {
      event.preventDefault();
      close();
    } else if (event.key === 'Backspace' && input.value === '') options.onBackspace?.();
  });
  return { element, input };
}

/** The part that was typed stands out. */
function marked(text: string, typed: string): (HTMLElement | string)[] {
  const at = typed === '' ? -1 : text.toLowerCase().indexOf(typed.toLowerCase());
  if (at < 0) return [text];
  return [text.slice(0, at), h('b', {}, text.slice(at, at + typed.length)), text.slice(at + typed.length)];
}
