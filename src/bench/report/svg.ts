/** Plots as SVG: the same text for the same data, light and dark by the viewer's scheme. */
import { formatValue } from './format.js';
import { THEME } from './theme.js';
import { type Scale, scaleFor } from './scales.js';
import type { Plot, PlotSeries, Unit } from './schema.js';

const WIDTH = 860;
const HEIGHT = 400;
const LEFT = 78;
const RIGHT = 24;
const BOTTOM = 52;
/** Long names of categories stand at a slant, cut to what has room. */
const TILTED_BOTTOM = 104;
const TILTED_CHARACTERS = 28;
/** Dots are drawn on lines of up to this many points: more would hide the line. */
const DOTS_MAX = 24;
export const COLOURS = 8;

/** What a pointer can find: pixels and the text of a point. */
export interface HoverPoint {
  readonly x: number;
  readonly y: number;
  readonly xText: string;
  readonly yText: string;
}

export interface DrawnPlot {
  /** `<svg>` without styles: the page around it has them. */
  readonly svg: string;
  /** By `x`: the values of all series at the moment that is pointed at. By `point`: the nearest one. */
  readonly hover: {
    readonly by: 'x' | 'point';
    readonly top: number;
    readonly bottom: number;
    readonly series: readonly {
      readonly name: string;
      readonly colour: string;
      readonly points: readonly HoverPoint[];
    }[];
  };
}

/** A file of its own: with title, background and styles for both schemes. */
export function standaloneSvg(plot: Plot): string {
  const { svg } = drawPlot(plot, { withTitle: true });
  return svg.replace('>', `><style>${THEME}</style><rect width="100%" height="100%" class="surface"/>`);
}

export function drawPlot(plot: Plot, { withTitle = false } = {}): DrawnPlot {
  const stacked = stack(plot.series);
  const rows = legendRows(plot.series);
  const top = (withTitle ? 34 : 8) + rows.length * 20 + (plot.marks?.some(({ x }) => x !== undefined) ? 34 : 12);
  const bottom = HEIGHT - (hasLongLabels(plot.x) ? TILTED_BOTTOM : BOTTOM);
  const box = { left: LEFT, right: WIDTH - RIGHT, top, bottom };
  const marks = plot.marks ?? [];
  const xs = stacked.flatMap(({ points }) => points.map(({ x }) => x));
  const ys = stacked.flatMap(({ points }) => points.map(({ y }) => y));
  // A limit far above the data would press the data flat; one that is near is shown.
  const reach = Math.max(...ys.slice(0, 1e5), 0) * (plot.y.scale === 'log' ? 12 : 1.6);
  const nearMarks = marks.flatMap(({ y }) => (y !== undefined && y <= reach ? [y] : []));
  const hasBars = plot.series.some(({ style }) => style === 'bars' || style === 'area');
  const xScale = scaleFor(plot.x, xs, 8);
  const yScale = scaleFor(plot.y, [...ys, ...nearMarks, ...(hasBars && plot.y.scale === 'linear' ? [0] : [])], 5);
  const px = (value: number) => round(box.left + xScale.position(value) * (box.right - box.left));
  const py = (value: number) => round(box.bottom - yScale.position(value) * (box.bottom - box.top));
  const parts = [
    ...(withTitle ? [textAt(box.left, 22, plot.title, 'title', 'start')] : []),
    ...legend(rows, withTitle ? 42 : 14),
    ...axes(plot, xScale, yScale, box),
    // Context lies below what it is the context of; a point that stands for something above the lines.
    ...stacked
      .map((series, i) => ({ layer: layerOf(series), drawn: drawSeries(series, i, stacked, { px, py, box }) }))
      .sort((a, b) => a.layer - b.layer)
      .map(({ drawn }) => drawn),
    ...drawMarks(marks, { px, py, box, reach }),
  ];
  const label = `${plot.title}: ${plot.series.map(({ name }) => name).join(', ')}`;
  return {
    svg: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeXml(label)}" font-family="system-ui, sans-serif" font-size="13">${parts.join('\n')}</svg>`,
    hover: {
      by: plot.series.some(({ style, points }) => style === 'dots' || points.some((point) => point.length === 3))
        ? 'point'
        : 'x',
      top: box.top,
      bottom: box.bottom,
      series: stacked.map(({ name, colour, points }) => ({
        name,
        colour,
        points: points.map(({ x, y, value, label: named }) => ({
          x: px(x),
          y: py(y),
          xText: named ?? plot.x.categories?.[x] ?? readable(x, plot.x.unit, plot.x.label),
          yText: readable(value, plot.y.unit, ''),
        })),
      })),
    },
  };
}

interface Placed {
  readonly x: number;
  /** Where it is drawn; in a stack above what is below. */
  readonly y: number;
  readonly base: number;
  readonly value: number;
  readonly label: string | undefined;
}
interface PlacedSeries {
  readonly name: string;
  readonly style: PlotSeries['style'];
  readonly colour: string;
  readonly points: readonly Placed[];
}

/** Areas stand upon each other; a muted series takes no colour of the palette. */
function stack(series: readonly PlotSeries[]): PlacedSeries[] {
  const heights = new Map<number, number>();
  let next = 0;
  return series.map(({ name, style, points, muted }) => ({
    name,
    style,
    colour: muted ? 'muted' : `c${next++ % COLOURS}`,
    points: points.map(([x, value, label]) => {
      const base = style === 'area' ? (heights.get(x) ?? 0) : 0;
      if (style === 'area') heights.set(x, base + value);
      return { x, y: base + value, base, value, label };
    }),
  }));
}

interface Frame {
  readonly px: (value: number) => number;
  readonly py: (value: number) => number;
  readonly box: { readonly left: number; readonly right: number; readonly top: number; readonly bottom: number };
}

function drawSeries(series: PlacedSeries, index: number, all: readonly PlacedSeries[], { px, py, box }: Frame): string {
  const { points, style, colour, name } = series;
  const at = points.map(({ x, y }) => `${px(x)},${py(y)}`);
  const parts: string[] = [];
  if (style === 'bars') {
    const beside = all.filter((one) => one.style === 'bars');
    const place = beside.indexOf(series);
    const gap = points.length > 1 ? Math.abs(px(points[1]!.x) - px(points[0]!.x)) : (box.right - box.left) / 2;
    const width = Math.min(48, (gap * 0.72) / beside.length);
    for (const { x, y } of points) {
      const left = px(x) + (place - beside.length / 2) * width + 1;
      parts.push(
        `<rect x="${round(left)}" y="${py(y)}" width="${round(Math.max(1, width - 2))}" height="${round(box.bottom - py(y))}" rx="2" class="fill"/>`,
      );
    }
  } else if (style === 'area') {
    const under = points.map(({ x, base }) => `${px(x)},${py(base)}`).reverse();
    parts.push(`<polygon points="${[...at, ...under].join(' ')}" class="fill area"/>`);
  } else if (style === 'steps') {
    const path = points.map(({ x, y }, i) => (i === 0 ? `M${px(x)} ${py(y)}` : `H${px(x)}V${py(y)}`));
    parts.push(`<path d="${path.join('')}" class="line"/>`);
  } else if (style === 'line' && points.length > 1) {
    parts.push(`<polyline points="${at.join(' ')}" class="line"/>`);
  }
  if (style === 'dots' || (style === 'line' && points.length <= DOTS_MAX))
    parts.push(
      ...at.map(
        (one) =>
          `<circle cx="${one.split(',')[0]}" cy="${one.split(',')[1]}" r="${style === 'dots' ? 4 : 3}" class="fill dot"/>`,
      ),
    );
  return `<g class="series ${colour}" data-series="${index}"><title>${escapeXml(name)}</title>${parts.join('')}</g>`;
}

function axes(plot: Plot, x: Scale, y: Scale, { left, right, top, bottom }: Frame['box']): string[] {
  const parts: string[] = [];
  for (const { at, label } of y.ticks) {
    const place = round(bottom - at * (bottom - top));
    parts.push(lineAt(left, place, right, place, 'grid'), textAt(left - 8, place + 4, label, 'tick', 'end'));
  }
  const tilted = hasLongLabels(plot.x);
  for (const { at, label } of x.ticks) {
    const place = round(left + at * (right - left));
    if (plot.x.scale !== 'category') parts.push(lineAt(place, bottom, place, bottom + 4, 'axis'));
    parts.push(
      tilted
        ? `<text x="${place}" y="${bottom + 14}" class="tick" text-anchor="end" transform="rotate(-28 ${place} ${bottom + 14})">${escapeXml(cut(label))}</text>`
        : textAt(place, bottom + 19, label, 'tick'),
    );
  }
  parts.push(lineAt(left, bottom, right, bottom, 'axis'));
  if (!tilted) parts.push(textAt((left + right) / 2, HEIGHT - 10, axisLabel(plot.x), 'label'));
  parts.push(
    `<text x="18" y="${(top + bottom) / 2}" class="label" text-anchor="middle" transform="rotate(-90 18 ${(top + bottom) / 2})">${escapeXml(axisLabel(plot.y))}</text>`,
  );
  return parts;
}

function layerOf({ colour, style }: PlacedSeries): number {
  if (style === 'dots') return 2;
  return colour === 'muted' ? 0 : 1;
}

function hasLongLabels({ scale, categories = [] }: Plot['x']): boolean {
  return (
    scale === 'category' && categories.some(({ length }) => length * 7 > (WIDTH - LEFT - RIGHT) / categories.length)
  );
}

function cut(label: string): string {
  return label.length > TILTED_CHARACTERS ? `${label.slice(0, TILTED_CHARACTERS - 1)}…` : label;
}

/** Lines across the plot; labels of neighbours in time go to two heights. */
function drawMarks(marks: NonNullable<Plot['marks']>, { px, py, box, reach }: Frame & { reach: number }): string[] {
  let row = 0;
  return marks.flatMap(({ x, y, label }) => {
    if (x !== undefined) {
      const place = px(x);
      const isRight = place > (box.left + box.right) / 2;
      return [
        lineAt(place, box.top, place, box.bottom, 'mark'),
        textAt(place + (isRight ? -4 : 4), box.top - 5 - (row++ % 2) * 14, label, 'note', isRight ? 'end' : 'start'),
      ];
    }
    if (y === undefined || y > reach) return [];
    return [lineAt(box.left, py(y), box.right, py(y), 'mark'), textAt(box.right, py(y) - 5, label, 'note', 'end')];
  });
}

interface LegendEntry {
  readonly name: string;
  readonly colour: string;
  readonly index: number;
  readonly left: number;
}

/** One series needs no legend: the title names it. */
function legendRows(series: readonly PlotSeries[]): LegendEntry[][] {
  if (series.length < 2) return [];
  const rows: LegendEntry[][] = [[]];
  let left = LEFT;
  stack(series).forEach(({ name, colour }, index) => {
    const width = 34 + [...name].reduce((sum, one) => sum + (one === one.toLowerCase() && one !== '_' ? 7 : 9), 0);
    if (left + width > WIDTH - RIGHT && left > LEFT) {
      rows.push([]);
      left = LEFT;
    }
    rows.at(-1)!.push({ name, colour, index, left });
    left += width;
  });
  return rows;
}

function legend(rows: readonly LegendEntry[][], top: number): string[] {
  return rows.flatMap((row, i) =>
    row.map(
      ({ name, colour, index, left }) =>
        `<g class="legend ${colour}" data-series="${index}"><rect x="${left}" y="${top + i * 20 - 10}" width="14" height="10" rx="2" class="fill"/>${textAt(left + 20, top + i * 20, name, 'label', 'start')}</g>`,
    ),
  );
}

function axisLabel({ label, unit }: Plot['x']): string {
  if (unit === 'ms') return `${label}, ms`;
  if (unit === 'seconds') return `${label}, s`;
  if (unit === 'rate') return `${label} a second`;
  return label;
}

function readable(value: number, unit: Unit | undefined, label: string): string {
  // The digits of a percentile are its meaning.
  const text =
    unit === 'share' && value > 0.5 && value < 1
      ? `${Number((value * 100).toPrecision(6))} %`
      : formatValue(value, unit);
  return label === '' ? text : `${label} ${text}`;
}

const round = (value: number) => Math.round(value * 10) / 10;

function lineAt(x1: number, y1: number, x2: number, y2: number, kind: string): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" class="${kind}"/>`;
}

function textAt(x: number, y: number, text: string, kind: string, anchor = 'middle'): string {
  return `<text x="${x}" y="${y}" class="${kind}" text-anchor="${anchor}">${escapeXml(text)}</text>`;
}

export function escapeXml(text: string): string {
  const names: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return text.replace(/[&<>"]/g, (one) => names[one]!);
}
