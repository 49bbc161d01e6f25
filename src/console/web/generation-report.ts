/** The report of one build: gates with their numbers, the difference to the generation before, the recall-latency curve. */
import { asEnvelope } from './api.js';
import { type Child, h, replace } from './dom.js';
import { count } from './format.js';
import { type Diff, fetchReport, type GateResult, pictureOf } from './generations-api.js';

export async function createReport(id: string, place: HTMLElement): Promise<void> {
  replace(place, h('p', { class: 'muted' }, 'Loading\u2026'));
  try {
    const [{ gates, diff, build_seconds, recall }, picture] = await Promise.all([fetchReport(id), pictureOf(id)]);
    replace(
      place,
      h('p', { class: 'muted' }, `Built in ${build_seconds.toFixed(1)} s; searches aim at recall ${recall.target}.`),
      gateTable(gates),
      diff !== undefined && diffTable(diff),
      h('img', {
        src: picture,
        alt: `Recall against cost of a query, generation ${id}`,
        width: 500,
        height: 380,
        class: 'curve',
      }),
    );
  } catch (error) {
    const { code, message } = asEnvelope(error);
    replace(place, h('p', { class: 'error-text' }, h('code', { class: 'badge bad' }, code), ' ', message));
  }
}

export function gateTable(gates: readonly GateResult[]): HTMLElement {
  return h(
    'div',
    { class: 'gates' },
    ...gates.map(({ name, status, detail, measurements }) =>
      h(
        'section',
        { class: 'gate' },
        h('h4', {}, name, ' ', h('span', { class: `verdict ${status}` }, status.replaceAll('_', ' '))),
        h('p', { class: 'muted small' }, detail),
        measurements.length > 0 &&
          h(
            'table',
            {},
            h('thead', { class: 'sr-only' }, row('th', 'measured', 'value', 'bound')),
            h(
              'tbody',
              {},
              ...measurements.map(({ what, value, min, max }) => row('td', what, number(value), bound(min, max))),
            ),
          ),
      ),
    ),
  );
}

function diffTable(diff: Diff): HTMLElement {
  const { items, users, moved, norms, recall, bytes, models } = diff;
  const change = (before: number, now: number): string =>
    now === before ? 'same' : `${now > before ? '+' : ''}${number(now - before)}`;
  const ratio = ({ before, now }: { before: number; now: number }): string =>
    before === 0 ? '' : `\u00d7 ${(now / before).toFixed(2)}`;
  const ids = (what: string, one: Diff['items']): HTMLElement =>
    row('td', what, count(one.before), count(one.now), `${count(one.added)} added, ${count(one.removed)} removed`);
  const megabytes = (value: number): string => `${(value / 1e6).toFixed(1)} MB`;
  return h(
    'div',
    { class: 'diff' },
    h('h4', {}, 'Beside ', h('code', {}, diff.generation)),
    h(
      'table',
      {},
      h('thead', {}, row('th', '', 'before', 'now', 'difference')),
      h(
        'tbody',
        {},
        ids('items', items),
        users !== undefined && ids('users', users),
        row('td', 'item norm', norms.items.before.toFixed(2), norms.items.now.toFixed(2), ratio(norms.items)),
        norms.users !== undefined &&
          row('td', 'user norm', norms.users.before.toFixed(2), norms.users.now.toFixed(2), ratio(norms.users)),
        ...recall.map(({ k, before, now }) =>
          row('td', `recall@${k}`, before.toFixed(4), now.toFixed(4), change(before, now)),
        ),
        row('td', 'size', megabytes(bytes.before), megabytes(bytes.now), ratio(bytes)),
        ...models.map(({ role, before, now }) => row('td', role.replaceAll('_', ' '), before, now, 'another file')),
      ),
    ),
    moved !== undefined &&
      h(
        'p',
        { class: 'small' },
        `${count(moved.moved)} of ${count(moved.compared)} items moved, ${count(moved.unchanged)} did not; ` +
          `${(100 * moved.neighbours_kept).toFixed(0)} % of their neighbours are the same.`,
      ),
    diff.feature_schema_changed && h('p', { class: 'small' }, 'Feature columns or bindings changed.'),
  );
}

function row(cell: 'td' | 'th', first: Child, ...others: Child[]): HTMLElement {
  return h(
    'tr',
    {},
    h('th', { scope: cell === 'th' ? 'col' : 'row' }, first),
    ...others.map((one) => h(cell, {}, one)),
  );
}

const number = (value: number): string => (Number.isInteger(value) ? count(value) : value.toFixed(4));

function bound(min: number | undefined, max: number | undefined): string {
  return [
    ...(min === undefined ? [] : [`\u2265 ${number(min)}`]),
    ...(max === undefined ? [] : [`\u2264 ${number(max)}`]),
  ].join(', ');
}
