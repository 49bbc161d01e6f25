/** Loads what is served, then joins state, URL, composer and results. */
import { asEnvelope, fetchInfo } from './api.js';
import { createBenches, openBenches } from './benches.js';
import { createComposer } from './composer.js';
import { byId, h, replace } from './dom.js';
import { createDrawer, openDrawer } from './drawer.js';
import { createGenerations } from './generations.js';
import { drawHeader, watchReadiness } from './header.js';
import { createLive } from './live.js';
import { createResults } from './results.js';
import { Runner } from './runner.js';
import { Store } from './store.js';
import { fromHash, toHash, type ViewState } from './view-state.js';

async function start(): Promise<void> {
  watchReadiness();
  // The hash is the state of the page: a plain link to #results would overwrite it.
  byId('skip').addEventListener('click', (event) => {
    event.preventDefault();
    byId('results').focus();
  });
  // Before anything is loaded: a service without a generation is the one that needs them most.
  const generations = createGenerations(() => location.reload());
  const benches = createBenches();
  const live = createLive();
  document.body.append(generations, benches, live.dialog);
  byId('open-generations').addEventListener('click', () => generations.showModal());
  byId('open-benches').addEventListener('click', () => void openBenches(benches));
  byId('open-live').addEventListener('click', () => live.open());
  const info = await fetchInfo();
  if (info.generation === undefined) throw new Error('No generation is loaded yet; see /readyz.');
  drawHeader(info);
  const store = new Store<ViewState>(fromHash(location.hash, info));
  const runner = new Runner(info);
  const drawer = createDrawer(info, store);
  replace(byId('composer'), createComposer(info, store));
  replace(byId('results'), createResults(info, store, runner), drawer);
  openDrawer(drawer, store);

  let written = '';
  store.watch((state, before) => {
    const hash = toHash(state, info);
    if (hash !== written && hash !== location.hash) {
      // A new query is a step to go back to; turning a knob is not.
      const isStep = written !== '' && (state.tab !== before.tab || state.user !== before.user);
      if (isStep) history.pushState(null, '', hash);
      else history.replaceState(null, '', hash);
    }
    written = hash;
    runner.request(state);
  });
  window.addEventListener('popstate', () => {
    if (location.hash !== written) store.set(fromHash(location.hash, info));
  });
}

function showFailure(error: unknown): void {
  const { code, message } = asEnvelope(error);
  replace(
    byId('results'),
    h(
      'section',
      { class: 'card answer' },
      h(
        'div',
        { class: 'error', role: 'alert' },
        h('code', { class: 'badge bad' }, code),
        h('p', { class: 'error-text' }, message),
      ),
      h('button', { type: 'button', class: 'primary', onclick: () => location.reload() }, 'Try again'),
    ),
  );
}

start().catch(showFailure);
