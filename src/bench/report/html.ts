/** A report as one HTML file that needs nothing else: it opens from disk, prints, and follows the viewer's colour scheme. */
import { formatMachine, formatValue } from './format.js';
import { PAGE_SCRIPT, PAGE_STYLE } from './page.js';
import type { BenchReport, Cell, Gate, MetricValue, Table } from './schema.js';
import { drawPlot, escapeXml as text } from './svg.js';
import { THEME } from './theme.js';

export function toHtml(report: BenchReport): string {
  const drawn = report.plots.map((plot) => ({ plot, ...drawPlot(plot) }));
  const hover = Object.fromEntries(drawn.map((one) => [one.plot.id, one.hover]));
  const figures = drawn.map(
    ({ plot, svg }) => `<figure class="card" data-plot="${plot.id}">
<figcaption><h3>${text(plot.title)}</h3>${plot.note === undefined ? '' : `<p>${text(plot.note)}</p>`}</figcaption>
${svg}
</figure>`,
  );
  const sections = [
    section('summary', 'Summary', `<div class="tiles">${report.summary.map(tile).join('')}</div>`),
    report.gates.length > 0 ? section('gates', 'Gates', gates(report.gates)) : '',
    report.warnings.length > 0
      ? section(
          'warnings',
          'Before you quote a number',
          `<ul class="warnings">${report.warnings.map(({ code, message }) => `<li><b>${text(code)}</b> ${text(message)}</li>`).join('')}</ul>`,
        )
      : '',
    figures.length > 0 ? section('plots', 'Plots', `<div class="figures">${figures.join('\n')}</div>`) : '',
    report.tables.length > 0 ? section('tables', 'Tables', report.tables.map(table).join('\n')) : '',
    section('environment', 'Environment', environment(report)),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="belfry ${text(report.versions.belfry)}">
<link rel="icon" href="data:,">
<title>${text(report.title)}, Belfry bench</title>
<style>${THEME}${PAGE_STYLE}</style>
</head>
<body>
<header>
<p class="kind">belfry bench ${text(report.bench)}</p>
<h1>${text(report.title)}</h1>
<p class="subject">${text(report.subject)}</p>
<p class="when">${text(report.started.slice(0, 16).replace('T', ' '))} UTC</p>
</header>
<main>
${sections.filter(Boolean).join('\n')}
</main>
<div id="tip" hidden></div>
<script type="application/json" id="hover">${embeddable(hover)}</script>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

function section(id: string, title: string, content: string): string {
  return `<section id="${id}"><h2>${title}</h2>\n${content}\n</section>`;
}

function tile({ label, value, unit, note }: MetricValue): string {
  return `<div class="tile"><span>${text(label)}</span><b>${text(formatValue(value, unit))}</b>${note === undefined ? '' : `<i>${text(note)}</i>`}</div>`;
}

function gates(all: readonly Gate[]): string {
  const rows = all.map(
    ({ name, limit, value, unit, passed }) =>
      `<tr><td>${text(name)}</td><td>${text(formatValue(limit, unit))}</td><td>${text(formatValue(value, unit))}</td><td class="${passed ? 'good' : 'bad'}">${passed ? '✓ passed' : '✗ failed'}</td></tr>`,
  );
  return `<div class="card scroll"><table><thead><tr><th>gate</th><th>limit</th><th>measured</th><th></th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`;
}

function table({ title, columns, rows, note }: Table): string {
  const isNumber = columns.map((_, i) => rows.some((row) => typeof row[i] === 'number'));
  const cell = (value: Cell, i: number) =>
    `<td${isNumber[i] ? ' class="number"' : ''}>${text(formatValue(value, columns[i]?.unit))}</td>`;
  const head = columns.map(({ label }, i) => `<th${isNumber[i] ? ' class="number"' : ''}>${text(label)}</th>`).join('');
  const body = rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`).join('');
  return `<div class="card scroll"><h3>${text(title)}</h3><table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table>${note === undefined ? '' : `<p>${text(note)}</p>`}</div>`;
}

function environment({ machine, versions, command, settings }: BenchReport): string {
  const rows = Object.entries(settings).map(
    ([name, value]) => `<tr><td>${text(name)}</td><td><code>${text(JSON.stringify(value) ?? '')}</code></td></tr>`,
  );
  return `<div class="card"><p>${text(formatMachine(machine, versions))}.</p>
<h3>Repeat it</h3>
<pre id="command">${text(command)}</pre>
<details><summary>Settings</summary><table>${rows.join('')}</table></details></div>`;
}

/** JSON inside a script element: `</script>` in a text would end it. */
function embeddable(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c');
}
