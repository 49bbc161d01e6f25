/** What all `belfry bench` commands print and write alike, and how a gate ends them. */
import type { Command } from 'commander';
import { formatValue } from '../bench/report/format.js';
import type { BenchReport } from '../bench/report/schema.js';
import { keepReport } from '../bench/report/keep.js';
import { assertGates, writeReport } from '../bench/report/write.js';
import { colors, print, printJson, table } from './terminal.js';

export interface BenchOutputFlags {
  json?: boolean;
  out?: string;
}

export function addBenchOutput(command: Command): Command {
  return command
    .option('--out <dir>', 'write report.html, report.md, report.json and the plots as SVG into this folder')
    .option('--json', 'the report as JSON');
}

/** `data`: the data folder that was measured, which keeps the last reports for the console. Writes, prints, and throws BELFRY_BENCH_GATE (exit code 3) where a gate did not pass. */
export async function finishBench(report: BenchReport, { json, out }: BenchOutputFlags, data?: string): Promise<void> {
  if (data !== undefined) await keepReport(report, data);
  const files = out === undefined ? [] : await writeReport(report, out);
  if (json === true) printJson(report);
  else print(forPeople(report, files));
  assertGates(report);
}

function forPeople(report: BenchReport, files: readonly string[]): string {
  const width = Math.max(...report.summary.map(({ label }) => label.length));
  const parts = [
    colors.bold(report.title),
    colors.dim(report.subject),
    '',
    ...report.summary.map(
      ({ label, value, unit, note }) =>
        `${label.padEnd(width)}  ${colors.bold(formatValue(value, unit))}${note === undefined ? '' : colors.dim(`  ${note}`)}`,
    ),
  ];
  for (const { title, columns, rows } of report.tables) {
    const cells = rows.map((row) => row.map((cell, i) => formatValue(cell, columns[i]?.unit)));
    parts.push('', colors.bold(title), table([columns.map(({ label }) => label), ...cells]));
  }
  if (report.gates.length > 0) parts.push('');
  for (const { name, limit, value, unit, passed } of report.gates) {
    const verdict = passed ? colors.green('passed') : colors.red('failed');
    parts.push(`${verdict}  ${name} ${formatValue(limit, unit)}: ${formatValue(value, unit)}`);
  }
  if (report.warnings.length > 0) parts.push('');
  for (const { code, message } of report.warnings) parts.push(`${colors.yellow(code)}  ${message}`);
  if (files.length > 0) parts.push('', `written: ${files.join(', ')}`);
  return parts.join('\n');
}
