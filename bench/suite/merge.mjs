// The reports of the parts as one: the headline of each, and all of their plots.

/** Part → the metrics of its summary that make the headline; a pattern, since recall's names hold its k. */
const HEADLINE = {
  recall: [/^recall_at_(10|100)$/],
  quality: [/^recall_at_10\./, /^ndcg_at_10\./],
  load: [/^latency_(p50|p99|p99_9)$/, /^goodput_share$/, /^recall_at_/],
  rerank: [/^latency_(p50|p99)$/, /^degraded_share$/],
  ramp: [/^knee$/],
  swap: [/^failed$/, /^p99_(before|during|ratio)$/, /^recall_at_/],
};
const METRICS_MAX = 6;

/** @returns {import('../../dist/bench/report/schema.js').BenchReport} */
export function suiteReport(parts, { started, command, others }) {
  const [first] = parts;
  const kernels = parts.map(({ report }) => report.machine.kernels).find((list) => list.length > 0) ?? [];
  return {
    format: 1,
    bench: 'suite',
    title: 'Belfry on its sample',
    subject:
      'Recall, quality for users, load, re-ranking, the knee and swaps, each by the command that users have; one process serves, the generator runs on the same machine.',
    command,
    started: started.toISOString(),
    seconds: (Date.now() - started.getTime()) / 1000,
    machine: { ...first.report.machine, kernels },
    versions: first.report.versions,
    settings: Object.fromEntries(parts.map(({ name, report }) => [name, report.command])),
    summary: parts.flatMap(({ name, title, report }) =>
      report.summary
        .filter((metric) => HEADLINE[name].some((pattern) => pattern.test(metric.name)))
        .slice(0, METRICS_MAX)
        .map((metric) => ({ ...metric, name: `${name}.${metric.name}`, label: named(title, metric.label) })),
    ),
    gates: parts.flatMap(({ name, report }) => report.gates.map((gate) => ({ ...gate, name: `${name} ${gate.name}` }))),
    tables:
      others.length === 0
        ? []
        : [
            {
              id: 'others',
              title: 'Other benches, and peers that are not here',
              columns: [{ label: 'bench' }, { label: 'time', unit: 'seconds' }, { label: 'result' }],
              rows: others.map(({ name, seconds, result }) => [name, seconds, result]),
            },
          ],
    plots: parts.flatMap(({ name, title, report }) =>
      report.plots.map((plot) => ({ ...plot, id: `${name}-${plot.id}`, title: named(title, plot.title) })),
    ),
    warnings: parts.flatMap(({ title, report }) =>
      report.warnings.map(({ code, message }) => ({ code, message: `${title}: ${message}` })),
    ),
  };
}

/** "Load: latency p99"; but "Recall and latency" says itself what it is of. */
function named(part, text) {
  const [first, ...rest] = text;
  if (text.toLowerCase().startsWith(part.toLowerCase())) return first.toUpperCase() + rest.join('');
  return `${part}: ${lowered(text)}`;
}

/** "Latency p99" → "latency p99", but not "DCG". */
function lowered(text) {
  return /^[A-Z][a-z]/.test(text) ? text[0].toLowerCase() + text.slice(1) : text;
}
