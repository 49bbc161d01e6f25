/** One item: its metadata and its neighbours. A modal dialog, so that Escape and focus work as everywhere. */
import { asEnvelope, isAbort, retrieve, similarItems } from './api.js';
import type { Id, Info, Metadata, SimilarAnswer } from './contract.js';
import { h, replace } from './dom.js';
import { historyFeature, withFeature } from './feature-form.js';
import { label, plain, score } from './format.js';
import type { Store } from './store.js';
import type { ViewState } from './view-state.js';

const SIMILAR = 10;
const TIMEOUT_MS = 1000;

export function createDrawer(info: Info, store: Store<ViewState>): HTMLDialogElement {
  const title = h('h2', { id: 'drawer-title', tabindex: -1, autofocus: true });
  const actions = h('div', { class: 'drawer-actions' });
  const facts = h('div', { class: 'drawer-facts' });
  const similar = h('div', { class: 'drawer-similar' });
  const close = h(
    'button',
    { type: 'button', class: 'quiet close', 'aria-label': 'Close', onclick: () => drawer.close() },
    '\u00d7',
  );
  const drawer = h(
    'dialog',
    { class: 'drawer', 'aria-labelledby': 'drawer-title' },
    h('header', {}, h('div', {}, h('p', { class: 'label' }, 'Item'), title), close),
    actions,
    h('h3', { class: 'label' }, 'Metadata'),
    facts,
    h('h3', { class: 'label' }, 'Similar items'),
    similar,
  );
  drawer.addEventListener('close', () => {
    if (store.get().open !== undefined) store.set({ open: undefined });
  });
  drawer.addEventListener('click', (event) => {
    if (event.target === drawer) drawer.close(); // the backdrop belongs to the dialog; its content covers the rest
  });

  let loading: AbortController | undefined;
  let shown: Id | undefined;
  store.watch(({ open }) => {
    if (open === shown) return;
    shown = open;
    loading?.abort();
    if (open === undefined) {
      drawer.close();
      return;
    }
    loading = new AbortController();
    title.textContent = String(open);
    replace(actions, ...drawerActions(open));
    replace(facts, wait());
    replace(similar, wait());
    if (drawer.isConnected && !drawer.open) drawer.showModal();
    drawer.scrollTop = 0;
    void fill(facts, loadMetadata(open, info, loading.signal), (metadata) => metadataList(metadata));
    void fill(similar, loadSimilar(open, info, loading.signal), ({ items }) => similarList(items));
  });

  function drawerActions(id: Id): HTMLElement[] {
    const buttons: HTMLElement[] = [];
    const history = info.tower === null ? undefined : historyFeature(info);
    const use = (text: string, patch: () => Partial<ViewState>) =>
      h(
        'button',
        { type: 'button', class: 'secondary', onclick: () => store.set({ ...patch(), open: undefined }) },
        text,
      );
    if (history !== undefined) {
      buttons.push(
        use('Add to history', () => {
          const { features } = store.get();
          const list = features[history];
          const ids = Array.isArray(list) ? (list as Id[]) : [];
          return { tab: 'features', features: withFeature(features, history, [...new Set([...ids, id])]) };
        }),
      );
    }
    buttons.push(use('Add to items', () => ({ tab: 'items', items: [...new Set([...store.get().items, id])] })));
    return buttons;
  }

  function similarList(items: SimilarAnswer['items']): HTMLElement {
    if (items.length === 0) return h('p', { class: 'muted' }, 'None.');
    const column = store.get().columns[0];
    return h(
      'ol',
      { class: 'similar' },
      ...items.map(({ id, score: value, metadata }) =>
        h(
          'li',
          {},
          h('button', { type: 'button', class: 'item-name', onclick: () => store.set({ open: id }) }, String(id)),
          h('span', { class: 'muted' }, column === undefined ? '' : (plain(metadata?.[column]) ?? '')),
          h('span', { class: 'number' }, score(value)),
        ),
      ),
    );
  }
  return drawer;
}

/** A drawer that a link opens was filled before the page held it. */
export function openDrawer(drawer: HTMLDialogElement, store: Store<ViewState>): void {
  if (store.get().open !== undefined && !drawer.open) drawer.showModal();
}

async function fill<T>(place: HTMLElement, loading: Promise<T>, draw: (answer: T) => HTMLElement): Promise<void> {
  try {
    replace(place, draw(await loading));
  } catch (error) {
    if (isAbort(error)) return;
    const { code, message } = asEnvelope(error);
    replace(place, h('p', { class: 'error', role: 'alert' }, h('code', { class: 'badge bad' }, code), ' ', message));
  }
}

/** There is no call for one item: a query by the item, filtered to the item, is one. */
async function loadMetadata(id: Id, info: Info, signal: AbortSignal): Promise<Metadata> {
  const columns = info.item_columns.map(({ name }) => name).slice(0, 64);
  if (columns.length === 0) return {};
  const { answer } = await retrieve(
    {
      item_ids: [id],
      k: 1,
      filter: { must: [{ field: 'id', eq: id }] },
      with_metadata: columns,
      timeout_ms: TIMEOUT_MS,
    },
    signal,
  );
  return answer.items[0]?.metadata ?? {};
}

function loadSimilar(id: Id, info: Info, signal: AbortSignal): Promise<SimilarAnswer> {
  const columns = info.item_columns.map(({ name }) => name).slice(0, 64);
  return similarItems({ item_id: id, k: SIMILAR, with_metadata: columns, timeout_ms: TIMEOUT_MS }, signal);
}

function metadataList(metadata: Metadata): HTMLElement {
  const entries = Object.entries(metadata);
  if (entries.length === 0) return h('p', { class: 'muted' }, 'This export has no item columns.');
  return h(
    'dl',
    {},
    ...entries.flatMap(([name, value]) => [h('dt', {}, label(name)), h('dd', {}, ...valueNodes(value))]),
  );
}

function valueNodes(value: unknown): (HTMLElement | string)[] {
  if (Array.isArray(value) && value.length > 0) return value.map((one) => h('span', { class: 'value' }, String(one)));
  return [plain(value) ?? '\u2013'];
}

const wait = (): HTMLElement => h('p', { class: 'muted' }, 'Loading\u2026');
