// Small hand-written SVG plots: recall against queries per second, build time, bytes per item.
import { paretoFront } from './pareto.mjs';

const WIDTH = 860;
const HEIGHT = 520;
const MARGIN = { left: 80, right: 200, top: 46, bottom: 60 };
const COLOURS = [
  '#c8102e',
  '#1f77b4',
  '#2ca02c',
  '#9467bd',
  '#8c564b',
  '#e377c2',
  '#7f7f7f',
  '#bcbd22',
  '#17becf',
  '#ff7f0e',
  '#393b79',
  '#637939',
  '#8c6d31',
  '#843c39',
  '#7b4173',
  '#3182bd',
  '#31a354',
];
/** Recall is drawn on the scale of -log10(1 - recall), where 0.9, 0.99 and 0.999 are equally far apart. */
const nines = (recall) => -Math.log10(1 - Math.min(recall, 0.9999));
const RECALL_TICKS = [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];

/** Ours is always the first colour. */
const colourOf = (name, i) => COLOURS[name === 'belfry' ? 0 : 1 + (i % (COLOURS.length - 1))];

const escape = (value) => String(value).replace(/[&<>]/g, (char) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[char]);

function frame(title, body, height = HEIGHT) {
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">
<rect width="100%" height="100%" fill="white"/>
<text x="${MARGIN.left}" y="26" font-size="16">${escape(title)}</text>
${body}
</svg>
`;
}

const line = (x1, y1, x2, y2, colour) => `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${colour}"/>`;

function textAt(x, y, content, { anchor = 'middle', rotate = false } = {}) {
  const turn = rotate ? ` transform="rotate(-90 ${x} ${y})"` : '';
  return `<text x="${x}" y="${y}" text-anchor="${anchor}"${turn}>${escape(content)}</text>`;
}

/** Ticks 1, 2, 5 times the powers of ten that lie in the range. */
function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const step of [1, 2, 5]) {
      const value = step * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  }
  return ticks;
}

function paretoPlot({ dataset, k, engines }) {
  const drawn = Object.entries(engines)
    .filter(([, engine]) => engine.points?.length > 0)
    .map(([name, engine], i) => ({ name, front: paretoFront(engine.points), colour: colourOf(name, i) }));
  const all = drawn.flatMap(({ front }) => front);
  if (all.length === 0) return undefined;
  const bottom = HEIGHT - MARGIN.bottom;
  const right = WIDTH - MARGIN.right;
  const lowest = Math.max(0.5, Math.min(...all.map((point) => point.recall)));
  const from = nines(lowest) - 0.05;
  const to = Math.max(...all.map((point) => nines(point.recall))) + 0.05;
  const speeds = all.map((point) => point.qps);
  const [slow, fast] = [Math.log10(Math.min(...speeds) / 1.2), Math.log10(Math.max(...speeds) * 1.2)];
  const x = (recall) => MARGIN.left + ((nines(recall) - from) / (to - from)) * (right - MARGIN.left);
  const y = (qps) => bottom - ((Math.log10(qps) - slow) / (fast - slow)) * (bottom - MARGIN.top);
  const parts = [];
  for (const tick of RECALL_TICKS.filter((recall) => nines(recall) >= from && nines(recall) <= to)) {
    parts.push(line(x(tick), MARGIN.top, x(tick), bottom, '#e4e4e4'), textAt(x(tick), bottom + 20, tick));
  }
  for (const tick of logTicks(10 ** slow, 10 ** fast)) {
    parts.push(
      line(MARGIN.left, y(tick), right, y(tick), '#e4e4e4'),
      textAt(MARGIN.left - 8, y(tick) + 4, tick.toLocaleString('en-GB'), { anchor: 'end' }),
    );
  }
  parts.push(
    line(MARGIN.left, bottom, right, bottom, '#444'),
    line(MARGIN.left, MARGIN.top, MARGIN.left, bottom, '#444'),
  );
  parts.push(textAt((MARGIN.left + right) / 2, HEIGHT - 16, `recall@${k}`));
  parts.push(textAt(20, (MARGIN.top + bottom) / 2, 'queries per second, one thread', { rotate: true }));
  drawn.forEach(({ name, front, colour }, i) => {
    const seen = front.filter((point) => point.recall >= lowest);
    const path = seen.map((point) => `${x(point.recall).toFixed(1)},${y(point.qps).toFixed(1)}`);
    parts.push(
      `<polyline points="${path.join(' ')}" fill="none" stroke="${colour}" stroke-width="${name === 'belfry' ? 3 : 1.6}"/>`,
    );
    parts.push(
      ...path.map((at) => `<circle cx="${at.split(',')[0]}" cy="${at.split(',')[1]}" r="3" fill="${colour}"/>`),
    );
    const top = MARGIN.top + 10 + i * 20;
    parts.push(
      `<rect x="${right + 16}" y="${top - 9}" width="14" height="10" fill="${colour}"/>`,
      textAt(right + 38, top, name, { anchor: 'start' }),
    );
  });
  return frame(
    `${dataset.name}, ${dataset.rows.toLocaleString('en-GB')} x ${dataset.dims}, ${dataset.metric}`,
    parts.join('\n'),
  );
}

function barPlot({ dataset, engines }, title, label, valueOf) {
  const bars = Object.entries(engines)
    .map(([name, engine]) => ({ name, value: valueOf(engine), note: label(engine) }))
    .filter(({ value }) => value !== null && value !== undefined && value > 0)
    .sort((a, b) => a.value - b.value);
  if (bars.length === 0) return undefined;
  const left = 130;
  const right = WIDTH - 130;
  const step = Math.min(34, (HEIGHT - MARGIN.top - 40) / bars.length);
  const most = Math.max(...bars.map(({ value }) => value));
  const parts = bars.flatMap(({ name, value, note }, i) => {
    const top = MARGIN.top + 10 + i * step;
    const length = Math.max(1, (value / most) * (right - left));
    return [
      textAt(left - 8, top + step / 2 + 2, name, { anchor: 'end' }),
      `<rect x="${left}" y="${top}" width="${length.toFixed(1)}" height="${(step * 0.7).toFixed(1)}" fill="${colourOf(name, 0)}"/>`,
      textAt(left + length + 6, top + step / 2 + 2, note, { anchor: 'start' }),
    ];
  });
  return frame(`${title}: ${dataset.name}`, parts.join('\n'), MARGIN.top + 30 + bars.length * step);
}

/** @returns {Record<string, string>} file name without ending, and SVG text, of what the report can show */
export function plots(report) {
  if (report.engines === undefined) return {};
  const made = {
    pareto: paretoPlot(report),
    'build-time': barPlot(
      report,
      'Build time, seconds (threads)',
      (engine) => `${engine.build_s} (${engine.build_threads})`,
      (engine) => engine.build_s,
    ),
    'bytes-per-item': barPlot(
      report,
      'Resident bytes per item',
      (engine) => Math.round(engine.bytes_per_item),
      (engine) => engine.bytes_per_item,
    ),
  };
  return Object.fromEntries(Object.entries(made).filter(([, svg]) => svg !== undefined));
}
