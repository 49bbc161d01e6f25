/** The generations of the data folder: what each build made and measured, and the way back. A modal dialog. */
import { asEnvelope } from './api.js';
import { createDialog } from './dialog.js';
import { h, hidden, replace } from './dom.js';
import { count, plural } from './format.js';
import {
  activate,
  fetchGenerations,
  fetchRebuild,
  type GenerationEntry,
  type Generations,
  type Rebuild,
} from './generations-api.js';
import { createReport, gateTable } from './generation-report.js';

/** `onActivated` runs when another generation serves. */
export function createGenerations(onActivated: () => void): HTMLDialogElement {
  const body = h('div', { class: 'generations-body' });
  const message = h('p', { role: 'status', class: 'generations-message' });
  const dialog = createDialog('generations', 'Generations', message, body);

  async function draw(): Promise<void> {
    try {
      const [all, rebuild] = await Promise.all([fetchGenerations(), fetchRebuild()]);
      const { problem } = rebuild;
      replace(
        body,
        rebuild.state !== 'idle' &&
          h('p', { class: 'notice' }, `A build is running: ${rebuild.running?.stage ?? 'in another process'}.`),
        problem !== undefined &&
          h(
            'div',
            { class: 'error' },
            h('p', {}, h('b', {}, 'The last build was refused; what served before serves on.')),
            h('code', { class: 'badge bad' }, problem.code),
            h('p', { class: 'error-text' }, problem.message),
            refusedGates(rebuild),
          ),
        h('ul', { class: 'generation-list' }, ...all.generations.map((entry) => h('li', {}, card(entry, all)))),
        all.quarantined.length > 0 &&
          h(
            'div',
            { class: 'quarantined' },
            h('h3', { class: 'label' }, 'Moved aside, damaged'),
            ...all.quarantined.map(({ id, reason }) =>
              h('p', {}, h('code', {}, id), reason === undefined ? '' : `: ${reason}`),
            ),
          ),
      );
    } catch (error) {
      const { code, message: text } = asEnvelope(error);
      replace(
        body,
        h(
          'div',
          { class: 'error', role: 'alert' },
          h('code', { class: 'badge bad' }, code),
          h('p', { class: 'error-text' }, text),
        ),
      );
    }
  }

  function card(entry: GenerationEntry, all: Generations): HTMLElement {
    const { id, problem } = entry;
    const isServing = id === all.serving;
    const report = h('div', { class: 'report' });
    const details = h(
      'details',
      {
        class: 'report-details',
        ontoggle: () => {
          if (details.open && report.childElementCount === 0) void createReport(id, report);
        },
      },
      h('summary', {}, 'Report', hidden(` of ${id}`)),
      report,
    );
    return h(
      'article',
      { class: 'generation-card', 'data-serving': String(isServing) },
      h(
        'div',
        { class: 'generation-head' },
        h('h3', {}, h('code', {}, id)),
        isServing && h('span', { class: 'badge serving' }, 'serving'),
        !isServing && id === all.current && h('span', { class: 'badge warn' }, 'to serve'),
        !isServing && id === all.previous && h('span', { class: 'badge' }, 'served before'),
        problem === undefined && id !== all.current && wayBack(entry, all),
      ),
      problem === undefined
        ? h('p', { class: 'muted' }, facts(entry))
        : h('p', { class: 'error-text' }, h('code', { class: 'badge bad' }, problem.code), ' ', problem.message),
      problem === undefined && details,
    );
  }

  /** Two steps, for it changes what everybody is answered. */
  function wayBack({ id }: GenerationEntry, { previous }: Generations): HTMLElement {
    const name = id === previous ? 'Roll back' : 'Activate';
    const button = h('button', { type: 'button', class: 'secondary' }, name, hidden(` to ${id}`));
    const sure = h('button', { type: 'button', class: 'primary' }, 'Yes, serve it', hidden(`: ${id}`));
    const no = h('button', { type: 'button', class: 'quiet' }, 'No');
    const place = h('span', { class: 'way-back' }, button);
    button.addEventListener('click', () => {
      replace(place, sure, no);
      sure.focus();
    });
    no.addEventListener('click', () => {
      replace(place, button);
      button.focus();
    });
    sure.addEventListener('click', () => {
      sure.disabled = true;
      void go(id);
    });
    return place;
  }

  async function go(id: string): Promise<void> {
    replace(message, 'Verifying and loading\u2026');
    try {
      const { serving, problem } = await activate(id);
      replace(
        message,
        serving === id ? `${id} serves now.` : `${id} does not serve yet: ${problem?.message ?? 'it is loading'}`,
      );
      if (serving === id) onActivated();
    } catch (error) {
      const { code, message: text } = asEnvelope(error);
      replace(message, h('code', { class: 'badge bad' }, code), ' ', text);
    }
    await draw();
  }

  new MutationObserver(() => {
    if (!dialog.open) return;
    replace(message);
    void draw();
  }).observe(dialog, { attributeFilter: ['open'] });
  return dialog;
}

/** What the build that failed last has measured. */
function refusedGates({ builds }: Rebuild): HTMLElement | undefined {
  const gates = builds.find(({ result }) => result === 'failed')?.gates;
  return gates && h('div', { class: 'report' }, gateTable(gates));
}

function facts({ created, items = 0, users = 0, bytes = 0, models = [] }: GenerationEntry): string {
  return [
    ...(created === undefined
      ? []
      : [new Date(created).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short' })]),
    plural(items, 'item'),
    plural(users, 'user'),
    `${count(Math.round(bytes / 1e6))} MB`,
    ...models,
  ].join(' \u00b7 ');
}
