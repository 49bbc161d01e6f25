/** The report of a build as tables for people. */
import { formatValue, type GateResult, type Measurement } from '../generation/gates/gate.js';
import type { Diff, Report } from '../generation/report/report-schema.js';
import { formatBytes, table } from './terminal.js';

export function reportText(report: Report): string {
  return [gateTable(report.gates), ...(report.diff === undefined ? [] : [diffTable(report.diff)])].join('\n\n');
}

/** One row for each measurement, so that a threshold stands beside what it bounds. */
export function gateTable(gates: readonly GateResult[]): string {
  const rows = gates.flatMap(({ name, status, detail, measurements }) => {
    const [first, ...others] = measurements.length === 0 ? [undefined] : measurements;
    return [
      [name, status.replace('_', ' '), ...cells(first), detail],
      ...others.map((one) => ['', '', ...cells(one), '']),
    ];
  });
  return table([['gate', 'verdict', 'measured', 'value', 'bound', 'of'], ...rows]);
}

function cells(measurement: Measurement | undefined): string[] {
  if (measurement === undefined) return ['', '', ''];
  const { what, value, min, max } = measurement;
  const bounds = [
    ...(min === undefined ? [] : [`>= ${formatValue(min)}`]),
    ...(max === undefined ? [] : [`<= ${formatValue(max)}`]),
  ];
  return [what, formatValue(value), bounds.join(', ')];
}

function diffTable({
  generation,
  items,
  users,
  moved,
  norms,
  recall,
  bytes,
  models,
  feature_schema_changed,
}: Diff): string {
  const change = (before: number, now: number): string => {
    const by = now - before;
    return by === 0 ? 'same' : `${by > 0 ? '+' : ''}${formatValue(by)}`;
  };
  const counts = (what: string, one: Diff['items']): string[] => [
    what,
    String(one.before),
    String(one.now),
    `${one.added} added${examples(one.added_examples)}, ${one.removed} removed${examples(one.removed_examples)}`,
  ];
  return table([
    ['', generation, 'now', 'difference'],
    counts('items', items),
    ...(users === undefined ? [] : [counts('users', users)]),
    ...(moved === undefined
      ? []
      : [
          [
            'vectors',
            '',
            '',
            `${moved.moved} of ${moved.compared} items moved, ${moved.unchanged} did not; ${(100 * moved.neighbours_kept).toFixed(1)} % of their neighbours are the same`,
          ],
        ]),
    ['item norm', norms.items.before.toPrecision(4), norms.items.now.toPrecision(4), ratio(norms.items)],
    ...(norms.users === undefined
      ? []
      : [['user norm', norms.users.before.toPrecision(4), norms.users.now.toPrecision(4), ratio(norms.users)]]),
    ...recall.map(({ k, before, now }) => [`recall@${k}`, before.toFixed(4), now.toFixed(4), change(before, now)]),
    ['size', formatBytes(bytes.before), formatBytes(bytes.now), ratio(bytes)],
    ...models.map(({ role, before, now }) => [role.replace('_', ' '), before, now, 'another file']),
    ['features', '', '', feature_schema_changed ? 'columns or bindings changed' : 'same'],
  ]);
}

function ratio({ before, now }: { readonly before: number; readonly now: number }): string {
  return before === 0 ? '' : `x ${(now / before).toFixed(3)}`;
}

function examples(ids: readonly (string | number)[]): string {
  return ids.length === 0 ? '' : ` (${ids.slice(0, 3).join(', ')}${ids.length > 3 ? ', ...' : ''})`;
}
