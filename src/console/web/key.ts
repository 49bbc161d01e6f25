/** The key of a server that asks for one: typed once, kept until the tab is closed, sent in a header only. */
import { h } from './dom.js';

const PLACE = 'belfry-key';
let asking: Promise<boolean> | undefined;

export function withKey(init: RequestInit): RequestInit {
  const key = sessionStorage.getItem(PLACE);
  if (key === null) return init;
  return { ...init, headers: { ...init.headers, authorization: `Bearer ${key}` } };
}

/** One dialog for however many requests were refused. False when it is closed without a key. */
export function askForKey(): Promise<boolean> {
  asking ??= show().finally(() => {
    asking = undefined;
  });
  return asking;
}

function show(): Promise<boolean> {
  const had = sessionStorage.getItem(PLACE) !== null;
  const input = h('input', { type: 'password', name: 'key', autocomplete: 'off', required: true, 'aria-label': 'Key' });
  const form = h(
    'form',
    { method: 'dialog' },
    h('h2', {}, 'This server asks for a key'),
    h('p', {}, had ? 'The key before is not accepted.' : 'Made with belfry keys add; it stays in this tab.'),
    input,
    h('button', { type: 'submit' }, 'Use'),
  );
  const dialog = h('dialog', { class: 'key-dialog' }, form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      const key = input.value.trim();
      if (key !== '') sessionStorage.setItem(PLACE, key);
      dialog.remove();
      resolve(key !== '');
    });
  });
}
