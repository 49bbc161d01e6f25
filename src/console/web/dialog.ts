/** A drawer of the page: a modal dialog with a title, closed by its button, by Escape and by a click beside it. */
import { type Child, h } from './dom.js';

/** `kind`: its class, and the name of its title's id. */
export function createDialog(kind: string, title: string, ...content: Child[]): HTMLDialogElement {
  const id = `${kind}-title`;
  const close = h(
    'button',
    { type: 'button', class: 'quiet close', 'aria-label': 'Close', onclick: () => dialog.close() },
    '\u00d7',
  );
  const dialog = h(
    'dialog',
    { class: `drawer generations ${kind}`, 'aria-labelledby': id },
    h('header', {}, h('h2', { id, tabindex: -1, autofocus: true }, title), close),
    ...content,
  );
  // The backdrop belongs to the dialog; its content covers the rest.
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
