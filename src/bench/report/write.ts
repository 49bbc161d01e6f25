/** Writes the report folder that every bench leaves: report.json, report.md, report.html, plots/*.svg. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BelfryError } from '../../errors.js';
import { formatValue } from './format.js';
import { toHtml } from './html.js';
import { toMarkdown } from './markdown.js';
import type { BenchReport } from './schema.js';
import { standaloneSvg } from './svg.js';

/** Returns the files written, the HTML first. */
export async function writeReport(report: BenchReport, folder: string): Promise<string[]> {
  const plots = join(folder, 'plots');
  await mkdir(plots, { recursive: true });
  const files: [string, string][] = [
    ['report.html', toHtml(report)],
    ['report.json', `${JSON.stringify(report, undefined, 1)}\n`],
    ['report.md', toMarkdown(report)],
    ...report.plots.map((plot): [string, string] => [join('plots', `${plot.id}.svg`), standaloneSvg(plot)]),
  ];
  for (const [name, text] of files) await writeFile(join(folder, name), text);
  return files.map(([name]) => join(folder, name));
}

/** Error: BELFRY_BENCH_GATE where a gate of the report did not pass. */
export function assertGates({ gates }: BenchReport): void {
  const failed = gates.filter(({ passed }) => !passed);
  if (failed.length === 0) return;
  const told = failed.map(
    ({ name, limit, value, unit }) =>
      `${name} ${formatValue(limit, unit)}: ${value === null ? 'could not be measured' : `measured ${formatValue(value, unit)}`}`,
  );
  throw new BelfryError('BELFRY_BENCH_GATE', `not met: ${told.join('; ')}`, { field: failed[0]!.name });
}
