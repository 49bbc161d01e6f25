/**
 * The recall-latency curve of a generation as an SVG that stands alone: it follows the light or dark scheme of whoever shows
 * it. Recall is drawn by what is missing (1 - recall, logarithmic), since the way from 0.99 to 0.999 is as long as that from
 * 0.9 to 0.99.
 */
import type { RecallCurve } from './recall-curve.js';
import type { Report } from './report-schema.js';

const WIDTH = 500;
const HEIGHT = 380;
const PLOT = { left: 62, right: 18, top: 68, bottom: 52 };
const LEGEND = 50;
/** Recalls that get a line; the last stands for all that is as good as exact. */
const TICKS = [0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
const BEST = 0.9995;

const STYLE = `
  .ground { fill: #ffffff } .grid { stroke: #e2e0d9 } .axis { stroke: #cbc8bf }
  text { font: 13px -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; fill: #565d66 }
  .title { font-size: 15px; font-weight: 600; fill: #1c2024 }
  .line { fill: none; stroke-width: 2 } .before { stroke-dasharray: 4 4; stroke-width: 1.5; opacity: .6 }
  .s0 { stroke: #8a5a0c } .s1 { stroke: #3f7fb5 } .s2 { stroke: #0b7a5c } .scan { stroke: #8b9098; stroke-dasharray: 2 3 }
  .f0 { fill: #8a5a0c } .f1 { fill: #3f7fb5 } .f2 { fill: #0b7a5c }
  .served { fill: #ffffff; stroke-width: 2.5 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #1b1e22 } .grid { stroke: #2c3036 } .axis { stroke: #434950 }
    text { fill: #a9b0b8 } .title { fill: #e8e9ea }
    .s0 { stroke: #dfb05c } .s1 { stroke: #5b9fd8 } .s2 { stroke: #4cc39b } .scan { stroke: #767d86 }
    .f0 { fill: #dfb05c } .f1 { fill: #5b9fd8 } .f2 { fill: #4cc39b } .served { fill: #1b1e22 }
  }`;

/** `before` is drawn dashed. */
export function recallSvg(report: Report, before: RecallCurve): string {
  const { curve, measured, scan_microseconds: scan } = report.recall;
  if (curve.length === 0) return frame(report, [text(WIDTH / 2, HEIGHT / 2, scanned(report), 'middle')]);
  const costs = [
    ...[...curve, ...before].flatMap(({ points }) => points.map(({ microseconds }) => microseconds)),
    ...measured.map(({ microseconds }) => microseconds),
    ...(scan === undefined ? [] : [scan]),
  ].filter((one) => one > 0);
  const [low, high] = [
    10 ** Math.floor(Math.log10(Math.min(...costs))),
    10 ** Math.ceil(Math.log10(Math.max(...costs))),
  ];
  const least = Math.min(...curve.flatMap(({ points }) => points.map(({ recall }) => recall)));
  const first = TICKS.findLast((tick) => tick <= least) ?? 0;
  const depth = (recall: number): number => -Math.log10(1 - Math.min(recall, BEST));
  const x = (recall: number): number =>
    PLOT.left +
    ((Math.max(depth(recall), depth(first)) - depth(first)) / (depth(BEST) - depth(first))) *
      (WIDTH - PLOT.left - PLOT.right);
  const y = (microseconds: number): number =>
    HEIGHT -
    PLOT.bottom -
    (Math.log10(microseconds / low) / Math.log10(high / low)) * (HEIGHT - PLOT.top - PLOT.bottom);

  const parts: string[] = [];
  for (const tick of TICKS.filter((one) => one >= first)) {
    parts.push(line(x(tick), PLOT.top, x(tick), HEIGHT - PLOT.bottom, 'grid'));
    parts.push(text(x(tick), HEIGHT - PLOT.bottom + 18, String(tick), 'middle'));
  }
  for (let cost = low; cost <= high; cost *= 10) {
    parts.push(line(PLOT.left, y(cost), WIDTH - PLOT.right, y(cost), 'grid'));
    parts.push(text(PLOT.left - 8, y(cost) + 4, duration(cost), 'end'));
  }
  parts.push(text((PLOT.left + WIDTH - PLOT.right) / 2, HEIGHT - 12, 'recall', 'middle'));
  const path = (points: RecallCurve[number]['points']): string =>
    points.map(({ recall, microseconds }) => `${x(recall).toFixed(1)},${y(microseconds).toFixed(1)}`).join(' ');
  const colour = (k: number): number => Math.max(0, [10, 100, 1000].indexOf(k));

  for (const { k, points } of before)
    parts.push(`<polyline class="line before s${colour(k)}" points="${path(points)}"/>`);
  if (scan !== undefined) {
    parts.push(line(PLOT.left, y(scan), WIDTH - PLOT.right, y(scan), 'scan'));
    parts.push(text(PLOT.left + 8, y(scan) + 15, `scan of all items: ${duration(scan)}`, 'start'));
  }
  curve.forEach(({ k, points }, position) => {
    parts.push(`<polyline class="line s${colour(k)}" points="${path(points)}"/>`);
    for (const { recall, microseconds, effort } of points) {
      const title = `k ${k}, ${effort}: recall ${recall.toFixed(4)}, ${duration(microseconds)}`;
      parts.push(
        `<circle class="f${colour(k)}" cx="${x(recall).toFixed(1)}" cy="${y(microseconds).toFixed(1)}" r="3"><title>${title}</title></circle>`,
      );
    }
    const served = measured.find((one) => one.k === k);
    if (served !== undefined && served.microseconds > 0) {
      const title = `as served: recall ${served.recall.toFixed(4)}, ${duration(served.microseconds)}`;
      parts.push(
        `<circle class="served s${colour(k)}" cx="${x(served.recall).toFixed(1)}" cy="${y(served.microseconds).toFixed(1)}" r="6"><title>${title}</title></circle>`,
      );
    }
    const at = PLOT.left + 86 * position;
    parts.push(`<rect class="f${colour(k)}" x="${at}" y="44" width="14" height="4" rx="2"/>`);
    parts.push(text(at + 20, LEGEND, `k = ${k}`, 'start'));
  });
  const after = PLOT.left + 86 * curve.length;
  parts.push(`<circle class="served s0" cx="${after + 7}" cy="46" r="5"/>`);
  parts.push(text(after + 20, LEGEND, 'as served', 'start'));
  if (before.length > 0) {
    parts.push(line(after + 96, 46, after + 112, 46, 'before s0'));
    parts.push(text(after + 118, LEGEND, 'before', 'start'));
  }
  return frame(report, parts);
}

function frame({ generation }: Report, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="Recall and latency of generation ${generation}">`,
    `<style>${STYLE}</style>`,
    `<rect class="ground" width="${WIDTH}" height="${HEIGHT}" rx="10"/>`,
    `<text class="title" x="${PLOT.left}" y="26">Recall and cost of a query on one thread</text>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function scanned({ items }: Report): string {
  return `No graph: all ${items} items are scanned, recall is 1 but for rounding.`;
}

function line(x1: number, y1: number, x2: number, y2: number, kind: string): string {
  return `<line class="${kind}" x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}"/>`;
}

function text(x: number, y: number, content: string, anchor: 'start' | 'middle' | 'end'): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}">${content}</text>`;
}

function duration(microseconds: number): string {
  if (microseconds < 1000) return `${Number(microseconds.toPrecision(2))} us`;
  return `${Number((microseconds / 1000).toPrecision(2))} ms`;
}
