// The index bench's report for people: a Markdown file, and a short text for the terminal.

const number = (value, digits = 0) =>
  value === null || value === undefined
    ? 'not reached'
    : value.toLocaleString('en-GB', { maximumFractionDigits: digits, minimumFractionDigits: digits });

function table(head, rows) {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

function engineTable({ engines, recalls, ratios }) {
  const head = [
    'engine',
    ...recalls.map((recall) => `QPS at ${recall}`),
    ...recalls.map((recall) => `belfry is, at ${recall}`),
    'build s (threads)',
    'build CPU s',
    'bytes per item',
    'highest recall',
  ];
  const rows = Object.entries(engines).map(([name, engine]) => {
    if (engine.absent !== undefined) return [name, `absent: ${engine.absent}`, ...head.slice(2).map(() => '')];
    const ratio = (recall) => ratios[recall]?.[name];
    return [
      `${name} ${engine.version}`,
      ...recalls.map((recall) => number(engine.qps_at_recall[recall])),
      ...recalls.map((recall) => (ratio(recall) ? `${ratio(recall)}x` : '')),
      engine.build_s === null ? '' : `${number(engine.build_s, 1)} (${engine.build_threads})`,
      engine.build_cpu_s === null ? '' : number(engine.build_cpu_s, 1),
      engine.bytes_per_item === undefined
        ? ''
        : `${number(engine.bytes_per_item)}${engine.mapped_bytes_per_item > 1 ? ` + ${number(engine.mapped_bytes_per_item)} mapped` : ''}`,
      engine.recall_max.toFixed(4),
    ];
  });
  return table(head, rows);
}

function sections(report) {
  const { recalls } = report;
  const parts = [];
  if (report.engines) parts.push(['One query at a time, one thread', engineTable(report)]);
  if (report.batch) {
    const rows = report.batch.map((row) => [
      row.share === undefined ? row.mode : `${row.mode}, ${row.share} of the partitions`,
      row.batch,
      row.recall.toFixed(4),
      number(row.qps),
      row.over_hnswlib_node === null ? '' : `${row.over_hnswlib_node}x`,
    ]);
    parts.push(['Belfry in batches', table(['mode', 'batch', 'recall', 'QPS', 'over hnswlib-node at 0.95'], rows)]);
  }
  if (report.filters) {
    const { filters, recall, k, unfiltered_qps: base } = report.filters;
    const rows = filters.map((row) => [
      row.selectivity,
      row.matching,
      number(row.qps_at_recall),
      row.slowdown === null ? 'not reached' : `${row.slowdown}x`,
      `${row.fewest_returned} of ${row.expected}`,
    ]);
    parts.push([
      `Belfry with filters, recall@${k} ${recall} (${number(base)} QPS without)`,
      table(['selectivity', 'rows that pass', 'QPS', 'slowdown', 'fewest returned'], rows),
    ]);
  }
  if (report.scale) {
    const rows = report.scale.curve.map((row) => [
      row.size,
      ...recalls.map((recall) =>
        row.qps_at_recall[recall] === null ? 'not reached' : `${number(1e6 / row.qps_at_recall[recall], 1)} µs`,
      ),
      `${number(row.build_s, 1)} (${row.build_threads})`,
      number(row.bytes_per_item),
    ]);
    const law = recalls.map((recall) => `n^${report.scale.exponents[recall]} at ${recall}`).join(', ');
    parts.push([
      `Belfry as the catalogue grows: ${law}`,
      table(
        ['items', ...recalls.map((recall) => `one query at ${recall}`), 'build s (threads)', 'bytes per item'],
        rows,
      ),
    ]);
  }
  return parts;
}

function title({ dataset, k }) {
  return dataset
    ? `${dataset.name}: ${dataset.rows.toLocaleString('en-GB')} x ${dataset.dims}, ${dataset.metric}, recall@${k}`
    : `recall@${k}`;
}

export function markdown(report) {
  const { machine, versions } = report;
  const facts = [
    `${machine.cpu} (${machine.kernels.join(', ')}), ${machine.cpus} cores, ${machine.memory_gib} GiB, ${machine.os}; Node ${versions.node}; Belfry ${versions.belfry} at ${versions.commit}.`,
    `Each engine in a process of its own, one thread pinned to core ${machine.pinned_to}; best of its grid; medians of ${report.repeats} interleaved rounds. Bytes: ${report.bytes}.`,
  ];
  const body = sections(report).map(([head, content]) => `## ${head}\n${content}\n`);
  return `# ${title(report)}\n${facts.join('\n')}\n\n${body.join('\n')}`;
}

export function text(report) {
  return `${title(report)}\n${sections(report)
    .map(([head, content]) => `\n${head}\n${content}\n`)
    .join('')}`;
}
