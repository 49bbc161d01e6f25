/** Where a value stands on an axis, and which values get a tick. */
import { formatNumber, formatValue } from './format.js';
import type { Axis, Unit } from './schema.js';

export interface Tick {
  /** 0 to 1 along the axis. */
  readonly at: number;
  readonly label: string;
}

export interface Scale {
  /** 0 to 1 along the axis; values beyond its ends are held at them. */
  position(value: number): number;
  readonly ticks: readonly Tick[];
}

/** `values`: all that are drawn. `wanted`: about as many ticks as there is room for. */
export function scaleFor(axis: Axis, values: readonly number[], wanted: number): Scale {
  const known = values.length === 0 ? [0, 1] : values;
  const low = axis.min ?? least(known);
  const high = axis.max ?? most(known);
  switch (axis.scale) {
    case 'log':
      return logScale(low, high, axis.unit);
    case 'nines':
      return ninesScale(axis.min ?? least(known), known, axis.unit);
    case 'category':
      return categoryScale(axis.categories ?? []);
    default:
      return linearScale(low, high, wanted, axis);
  }
}

// Not Math.min(...values): a long run has more values than a call may have arguments.
const least = (values: readonly number[]) => values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
const most = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
const held = (share: number) => Math.min(1, Math.max(0, share));

function linearScale(low: number, high: number, wanted: number, { min, max, unit }: Axis): Scale {
  let [from, to] = [low, high];
  if (to <= from) [from, to] = from === 0 ? [0, 1] : [Math.min(0, from), Math.max(0, to * 1.2)];
  const step = niceStep((to - from) / wanted);
  if (min === undefined) from = Math.floor(from / step + 1e-9) * step;
  if (max === undefined) to = Math.ceil(to / step - 1e-9) * step;
  const position = (value: number) => held((value - from) / (to - from));
  const ticks: Tick[] = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to * (1 + 1e-9) + 1e-12; i++)
    ticks.push({ at: position(i * step), label: tickLabel(i * step, unit, step) });
  return { position, ticks };
}

/** 1, 2 or 5 times a power of ten. */
function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  const share = rough / power;
  return power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
}

function logScale(low: number, high: number, unit: Unit | undefined): Scale {
  const floor = low > 0 ? low : high > 0 ? high / 1000 : 0.1;
  const all = steps125(floor / 10, Math.max(high, floor) * 10);
  const from = all.filter((one) => one <= floor * 1.0001).at(-1) as number;
  let to = all.find((one) => one >= Math.max(high, floor) * 0.9999) as number;
  if (to <= from * 2.1) to = all[all.indexOf(from) + 3] ?? from * 10; // a flat line is not the top edge
  const span = Math.log(to / from);
  const position = (value: number) => held(Math.log(Math.max(value, from) / from) / span);
  const shown = all.filter((one) => one >= from * 0.9999 && one <= to * 1.0001);
  const decades = span / Math.LN10;
  const ticks = shown.filter((one) => decades < 3 || isPowerOfTen(one) || (decades < 4 && String(one).includes('3')));
  return { position, ticks: ticks.map((one) => ({ at: position(one), label: tickLabel(one, unit, one) })) };
}

function isPowerOfTen(value: number): boolean {
  const power = Math.log10(value);
  return Math.abs(power - Math.round(power)) < 1e-6;
}

function steps125(low: number, high: number): number[] {
  const steps: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const digit of [1, 2, 5]) steps.push(Number(`${digit}e${power}`));
  return steps;
}

const NINES = [0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
const ninesOf = (value: number) => -Math.log10(1 - value);

function ninesScale(low: number, values: readonly number[], unit: Unit | undefined): Scale {
  const finite = values.filter((value) => value < 1);
  const last = Math.max(1, ...[most(finite)].filter(Number.isFinite).map(ninesOf));
  const hasOne = finite.length < values.length;
  // 1 lies infinitely far: it gets a place of its own beyond the last finite value.
  const end = hasOne ? Math.ceil(last + 0.35) : last;
  const start = ninesOf(Math.max(0, Math.min(low, 0.9)));
  const position = (value: number) => held(((value >= 1 ? end : ninesOf(Math.max(0, value))) - start) / (end - start));
  const inside = NINES.filter(
    (one) => ninesOf(one) >= start - 1e-9 && ninesOf(one) <= (hasOne ? last + 1e-9 : end + 1e-9),
  );
  const ticks = inside.map((one) => ({ at: position(one), label: ninesLabel(one, unit) }));
  if (hasOne) ticks.push({ at: 1, label: ninesLabel(1, unit) });
  // Close ones would overlap; those with more nines matter more.
  const kept: Tick[] = [];
  for (const tick of ticks.reverse()) if (kept.every(({ at }) => at - tick.at > 0.055)) kept.push(tick);
  return { position, ticks: kept.reverse() };
}

function ninesLabel(value: number, unit: Unit | undefined): string {
  return unit === 'share' ? `${Number((value * 100).toPrecision(8))} %` : String(value);
}

function categoryScale(categories: readonly string[]): Scale {
  const position = (value: number) => held((value + 0.5) / Math.max(1, categories.length));
  return { position, ticks: categories.map((label, i) => ({ at: position(i), label })) };
}

function tickLabel(value: number, unit: Unit | undefined, step: number): string {
  if (unit === 'bytes') return formatValue(value, 'bytes');
  if (unit === 'share') {
    const percentStep = step * 100;
    return `${(value * 100).toFixed(percentStep >= 1 ? 0 : Math.ceil(-Math.log10(percentStep)))} %`;
  }
  if (value === 0) return '0'; // and not -0
  const digits = Math.max(0, Math.ceil(-Math.log10(step) - 1e-9));
  return Math.abs(value) >= 1e7
    ? formatNumber(value)
    : value.toLocaleString('en-GB', { maximumFractionDigits: digits });
}
