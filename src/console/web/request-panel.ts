/** The exact request, to read and to copy. */
import type { Info } from './contract.js';
import { h, replace } from './dom.js';
import { compose, curlLine } from './request-body.js';
import type { Store } from './store.js';
import type { ViewState } from './view-state.js';

export function createRequestPanel(info: Info, store: Store<ViewState>): HTMLElement {
  const json = h('pre', { class: 'code', tabindex: 0, 'aria-label': 'Request body' });
  const curl = h('pre', { class: 'code wrap', tabindex: 0, 'aria-label': 'curl command' });
  store.watch((state) => {
    const composed = compose(state, info);
    if ('missing' in composed) {
      replace(json, composed.missing);
      replace(curl, composed.missing);
      return;
    }
    replace(json, oneLineLists(JSON.stringify(composed.body, null, 2)));
    replace(curl, curlLine(composed.body, location.origin));
  });
  return h(
    'details',
    { class: 'card fold request' },
    h('summary', {}, h('span', { class: 'card-title' }, 'Request'), h('code', {}, 'POST /retrieve')),
    h('div', { class: 'code-block' }, h('div', { class: 'code-head' }, 'JSON body', copyButton(json)), json),
    h('div', { class: 'code-block' }, h('div', { class: 'code-head' }, 'curl', copyButton(curl)), curl),
  );
}

/** Lists of plain values read better in one line. */
function oneLineLists(json: string): string {
  return json.replace(/\[[^[\]{}]*\]/g, (list) =>
    list.replace(/\s*\n\s*/g, ' ').replace(/^\[ | \]$/g, (edge) => edge.trim()),
  );
}

function copyButton(source: HTMLElement): HTMLElement {
  const button = h('button', { type: 'button', class: 'quiet small', 'aria-live': 'polite' }, 'Copy');
  button.addEventListener('click', async () => {
    button.textContent = (await copy(source)) ? 'Copied' : 'Press Ctrl+C';
    window.setTimeout(() => {
      button.textContent = 'Copy';
    }, 1600);
  });
  return button;
}

/** Where the clipboard is closed to the page (plain HTTP on another host), the text is selected for the person to copy. */
async function copy(source: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(source.textContent ?? '');
    return true;
  } catch {
    getSelection()?.selectAllChildren(source);
    return false;
  }
}
