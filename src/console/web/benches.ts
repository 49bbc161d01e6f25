/** The last reports of `belfry bench`: what each found, and the way to all of it. A modal dialog. */
import { asEnvelope, getJson } from './api.js';
import { createDialog } from './dialog.js';
import { h, replace } from './dom.js';

interface BenchEntry {
  readonly id: string;
  readonly bench: string;
  readonly title: string;
  readonly subject: string;
  readonly started: string;
  readonly summary: readonly { readonly label: string; readonly value: number | null; readonly unit: string }[];
  readonly warnings: readonly { readonly code: string }[];
  readonly gates: readonly { readonly passed: boolean }[];
}

/** Numbers of a card; the report holds all. */
const SHOWN = 8;

export function createBenches(): HTMLDialogElement {
  return createDialog('benches', 'Benches', h('div', { class: 'generations-body' }));
}

export async function openBenches(dialog: HTMLDialogElement): Promise<void> {
  dialog.showModal();
  const body = dialog.querySelector('.generations-body') as HTMLElement;
  try {
    const { reports } = await getJson<{ reports: BenchEntry[] }>('/console/benches');
    replace(
      body,
      reports.length === 0 &&
        h(
          'p',
          {},
          'No report yet. A bench of this data folder appears here: ',
          h('code', {}, 'belfry bench load --data …'),
        ),
      h('ul', { class: 'generation-list' }, ...reports.map((report) => h('li', {}, card(report)))),
    );
  } catch (error) {
    replace(
      body,
      h('div', { class: 'error', role: 'alert' }, h('p', { class: 'error-text' }, asEnvelope(error).message)),
    );
  }
}

function card({ id, title, subject, started, summary, warnings, gates }: BenchEntry): HTMLElement {
  const failed = gates.filter(({ passed }) => !passed).length;
  return h(
    'article',
    { class: 'generation-card' },
    h(
      'div',
      { class: 'generation-head' },
      h('h3', {}, title),
      h('time', { class: 'bench-when', datetime: started }, new Date(started).toLocaleString()),
      failed > 0 && h('span', { class: 'badge bad' }, failed === 1 ? 'a gate failed' : `${failed} gates failed`),
      warnings.length > 0 &&
        h(
          'span',
          { class: 'badge warn', title: warnings.map(({ code }) => code).join(', ') },
          `${warnings.length} to know`,
        ),
      h('a', { class: 'bench-open', href: `/console/benches/${id}`, target: '_blank', rel: 'noopener' }, 'Report'),
    ),
    h('p', { class: 'bench-subject' }, subject),
    h(
      'dl',
      { class: 'bench-numbers' },
      ...summary
        .slice(0, SHOWN)
        .map(({ label, value, unit }) => h('div', {}, h('dt', {}, label), h('dd', {}, shown(value, unit)))),
    ),
  );
}

function shown(value: number | null, unit: string): string {
  if (value === null) return '–';
  const number = (one: number) => one.toLocaleString('en', { maximumSignificantDigits: one >= 1000 ? 4 : 3 });
  // Cut and not rounded: 99.96 % must not read as all.
  if (unit === 'share') return `${(Math.floor(value * 10_000 + 1e-6) / 100).toLocaleString('en')} %`;
  if (unit === 'bytes') return `${number(value / 1e6)} MB`;
  const sign = { ms: ' ms', seconds: ' s', rate: ' /s', ratio: 'x' }[unit] ?? '';
  return `${number(value)}${sign}`;
}
