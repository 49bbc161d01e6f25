// The headline in README.md: a table, the machine, and plots in docs/bench, between two markers; in place.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatMachine, formatValue } from '../../dist/bench/report/format.js';
import { standaloneSvg } from '../../dist/bench/report/svg.js';

const BEGIN = '<!-- npm run bench -- --readme: begin -->';
const END = '<!-- npm run bench -- --readme: end -->';
/** Plot of the suite's report → its file in docs/bench. */
const PLOTS = { 'recall-recall-latency': 'recall', 'load-latency-percentiles': 'latency', 'ramp-ramp-latency': 'ramp' };

/** Returns the files written. Error where README.md has not both markers. */
export function writeReadme(report, root) {
  const path = join(root, 'README.md');
  const text = readFileSync(path, 'utf8');
  const [from, to] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`README.md: expected ${BEGIN} and ${END}, one after the other`);
  const folder = join(root, 'docs', 'bench');
  mkdirSync(folder, { recursive: true });
  const drawn = report.plots.filter(({ id }) => id in PLOTS);
  const files = drawn.map((plot) => join(folder, `${PLOTS[plot.id]}.svg`));
  drawn.forEach((plot, i) => writeFileSync(files[i], standaloneSvg(plot)));
  writeFileSync(path, `${text.slice(0, from)}${BEGIN}\n${section(report, drawn)}\n${text.slice(to)}`);
  return [path, ...files];
}

function section({ summary, machine, versions, started, command }, plots) {
  return [
    `| on the sample | |\n|---|---|`,
    ...summary.map(({ label, value, unit }) => `| ${label} | ${formatValue(value, unit)} |`),
    '',
    `\`${command}\`, ${started.slice(0, 10)}: ${formatMachine(machine, versions)}. Server and generator share the machine.`,
    '',
    ...plots.map(({ id, title }) => `![${title}](docs/bench/${PLOTS[id]}.svg)`),
  ].join('\n');
}
