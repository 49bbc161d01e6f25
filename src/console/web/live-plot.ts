/** A small plot of the last minutes: lines over time on one axis, and the numbers of the moment that is pointed at. */
import { h, replace, svg } from './dom.js';

export interface PlotLine {
  readonly name: string;
  /** Colour: `live-a`, `live-b`, `live-c`. */
  readonly kind: 'a' | 'b' | 'c';
  /** By moment; undefined leaves a gap. */
  readonly values: readonly (number | undefined)[];
}

export interface PlotOptions {
  readonly title: string;
  readonly format: (value: number) => string;
  /** Moments that there is room for. */
  readonly length: number;
  /** Seconds between two moments. */
  readonly everySeconds: number;
  /** Lower end of the axis unless a value lies below; default 0. */
  readonly from?: number;
  /** The axis reaches this far at least. */
  readonly least: number;
  /** Upper end of the axis where more cannot be. */
  readonly most?: number;
}

const WIDTH = 320;
const HEIGHT = 120;
const PLOT = { left: 44, right: 6, top: 6, bottom: 18 };
const TICKS = 3;

/** Draws itself anew for each call of `draw`. */
export function createLivePlot(options: PlotOptions): { element: HTMLElement; draw(lines: readonly PlotLine[]): void } {
  const { title, format, length, everySeconds } = options;
  const legend = h('div', { class: 'live-legend' });
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': title });
  const element = h('figure', { class: 'live-plot' }, h('figcaption', {}, title), legend, picture);
  let shown: readonly PlotLine[] = [];
  let pointed: number | undefined;

  const x = (place: number): number => PLOT.left + (place / (length - 1)) * (WIDTH - PLOT.left - PLOT.right);
  /** Newest values stand at the right edge. */
  const placeOf = (line: PlotLine, index: number): number => length - line.values.length + index;

  picture.addEventListener('pointermove', (event) => {
    const { left, width } = picture.getBoundingClientRect();
    const at = ((event.clientX - left) / width) * WIDTH;
    pointed = Math.min(
      length - 1,
      Math.max(0, Math.round(((at - PLOT.left) / (x(length - 1) - PLOT.left)) * (length - 1))),
    );
    render();
  });
  picture.addEventListener('pointerleave', () => {
    pointed = undefined;
    render();
  });

  function render(): void {
    const known = shown.flatMap(({ values }) => values.filter((value) => value !== undefined));
    const wanted = options.from ?? 0;
    const from = known.every((value) => value >= wanted) ? wanted : 0;
    const step = niceStep((Math.min(options.most ?? Infinity, Math.max(options.least, ...known)) - from) / TICKS);
    const to = Math.min(
      options.most ?? Infinity,
      from + step * Math.ceil((Math.max(options.least, ...known) - from) / step - 1e-9),
    );
    const y = (value: number): number =>
      HEIGHT -
      PLOT.bottom -
      ((Math.max(from, Math.min(to, value)) - from) / (to - from)) * (HEIGHT - PLOT.top - PLOT.bottom);
    const ticks: SVGElement[] = [];
    for (let value = from; value <= to + step / 1e6; value += step)
      ticks.push(
        svg('line', { class: 'live-grid', x1: PLOT.left, x2: WIDTH - PLOT.right, y1: y(value), y2: y(value) }),
        svg('text', { x: PLOT.left - 5, y: y(value) + 3.5, 'text-anchor': 'end' }, format(value)),
      );
    replace(
      picture,
      ...ticks,
      svg('text', { x: PLOT.left, y: HEIGHT - 4 }, `${Math.round(((length - 1) * everySeconds) / 60)} min ago`),
      svg('text', { x: WIDTH - PLOT.right, y: HEIGHT - 4, 'text-anchor': 'end' }, 'now'),
      ...shown.map((line) => svg('path', { class: `live-line live-${line.kind}`, d: pathOf(line, y) })),
      pointed !== undefined &&
        svg('line', { class: 'live-pointer', x1: x(pointed), x2: x(pointed), y1: PLOT.top, y2: HEIGHT - PLOT.bottom }),
    );
    replace(
      legend,
      ...shown.map((line) => {
        const index = pointed === undefined ? line.values.length - 1 : pointed - placeOf(line, 0);
        const value = line.values[index];
        return h(
          'span',
          { class: `live-${line.kind}` },
          h('i', { 'aria-hidden': 'true' }),
          `${line.name} `,
          h('b', {}, value === undefined ? '–' : format(value)),
        );
      }),
    );
  }

  function pathOf(line: PlotLine, y: (value: number) => number): string {
    let isOpen = false;
    return line.values
      .map((value, index) => {
        const command = isOpen ? 'L' : 'M';
        isOpen = value !== undefined;
        if (value === undefined) return '';
        const place = placeOf(line, index);
        // A moment alone is a point: a line of no length with a round end.
        const alone = line.values[index - 1] === undefined && line.values[index + 1] === undefined ? 'h0' : '';
        return `${command}${x(place).toFixed(1)} ${y(value).toFixed(1)}${alone}`;
      })
      .join('');
  }

  render();
  return {
    element,
    draw(lines) {
      shown = lines;
      render();
    },
  };
}

/** 1, 2 or 5 times a power of ten, at least `rough`. */
function niceStep(rough: number): number {
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * ([1, 2, 5].find((digit) => digit * power >= rough * 0.9999) ?? 10);
}
