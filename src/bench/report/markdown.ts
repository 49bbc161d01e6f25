/** A report as Markdown: what goes into a pull request or a wiki. The plots stand beside it as SVG. */
import { formatMachine, formatValue } from './format.js';
import type { BenchReport, Cell } from './schema.js';

/** `plotFolder`: where the SVG files are, as seen from the Markdown file. */
export function toMarkdown(report: BenchReport, plotFolder = 'plots'): string {
  const parts = [
    `# ${report.title}`,
    report.subject,
    `${report.started.slice(0, 16).replace('T', ' ')} UTC. ${formatMachine(report.machine, report.versions)}.`,
    `\`\`\`\n${report.command}\n\`\`\``,
    table(
      ['', 'value', ''],
      report.summary.map(({ label, value, unit, note }) => [label, formatValue(value, unit), note ?? '']),
    ),
  ];
  if (report.gates.length > 0) {
    parts.push(
      '## Gates',
      table(
        ['gate', 'limit', 'measured', ''],
        report.gates.map(({ name, limit, value, unit, passed }) => [
          name,
          formatValue(limit, unit),
          formatValue(value, unit),
          passed ? 'passed' : '**failed**',
        ]),
      ),
    );
  }
  if (report.warnings.length > 0)
    parts.push('## Warnings', report.warnings.map(({ code, message }) => `- **${code}**: ${message}`).join('\n'));
  for (const { title, columns, rows, note } of report.tables) {
    parts.push(`## ${title}`);
    parts.push(
      table(
        columns.map(({ label }) => label),
        rows.map((row) => row.map((cell, i) => formatValue(cell, columns[i]?.unit))),
      ),
    );
    if (note !== undefined) parts.push(note);
  }
  for (const { id, title, note } of report.plots) {
    parts.push(`## ${title}`, `![${title}](${plotFolder}/${id}.svg)`);
    if (note !== undefined) parts.push(note);
  }
  return `${parts.join('\n\n')}\n`;
}

function table(head: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`)
    .join('\n');
}
