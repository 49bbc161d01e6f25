/** `belfry build`: a new generation from a models folder, checked and published; nothing is served. */
import { type Command, Option } from 'commander';
import { SearchPlanner } from '../ann/planner.js';
import { dataFolder, loadSettings } from '../config/load.js';
import { DataFolder } from '../generation/data-folder.js';
import { GATE_NAMES, type GateName, type GateResult } from '../generation/gates/gate.js';
import { type ExclusionEntry, type Manifest, readManifest } from '../generation/manifest.js';
import { readReport } from '../generation/report/make-report.js';
import { recordedBuild } from '../rebuild/recorded-build.js';
import { buildTask } from './build-task.js';
import { gateTable, reportText } from './report-text.js';
import { addExportOptions, type ExportFlags, exportSettings } from './export-options.js';
import { colors, formatBytes, ProgressLine, print, printJson, stopSignal, table } from './terminal.js';

interface BuildFlags extends ExportFlags {
  force?: boolean;
  override?: GateName[];
  json?: boolean;
}

export function addBuild(program: Command): void {
  addExportOptions(program.command('build'))
    .description('check an export and publish it as a new generation')
    .option('--force', 'build even when the newest generation was made from this very export')
    .addOption(
      new Option(
        '--override <gate...>',
        'publish though this gate fails; the manifest says so; may be repeated',
      ).choices(GATE_NAMES),
    )
    .option('--json', 'the report as JSON')
    .action(build);
}

async function build(flags: BuildFlags): Promise<void> {
  const settings = loadSettings(exportSettings(flags));
  const progress = new ProgressLine();
  const stop = stopSignal();
  const data = await DataFolder.open(dataFolder(settings));
  const gates: GateResult[] = [];
  try {
    const { outcome, error } = await recordedBuild(
      { ...buildTask(settings, data.path, 'alone'), force: flags.force === true, overrides: flags.override ?? [] },
      'cli',
      {
        onProgress: progress.update,
        onPlan: progress.plan,
        onGate: (gate) => gates.push(gate),
        signal: stop.signal,
      },
    );
    if (outcome === undefined) {
      progress.finish();
      if (gates.length > 0) {
        if (flags.json) printJson({ published: false, gates });
        else print(gateTable(gates));
      }
      throw error;
    }
    const { id, reused } = outcome;
    progress.finish();
    const folder = data.folderOf(id);
    const manifest = await readManifest(folder);
    const report = await readReport(folder, manifest);
    if (flags.json) printJson({ reused, folder, ...manifest, report });
    else print(`${buildReport(manifest, folder, reused)}\n\n${reportText(report)}`);
  } finally {
    stop.release();
    progress.finish();
  }
}

export function buildReport(manifest: Manifest, folder: string, reused: boolean): string {
  const { items, users } = manifest;
  const bytes = Object.values(manifest.files).reduce((sum, file) => sum + file.bytes, 0);
  const rows: [string, string][] = [
    ['generation', `${manifest.id}${reused ? ' (already built from this export)' : ''}`],
    ['folder', folder],
    ['items', `${items.count} x ${items.dims} ${items.dtype}, ids: ${items.idKind}, norms ${norms(items.norms)}`],
    [
      'users',
      users === undefined
        ? 'none'
        : `${users.count} x ${users.dims} ${users.dtype}, ids: ${users.idKind}, norms ${norms(users.norms)}`,
    ],
    ['metric', manifest.metric],
    ...(manifest.exclusions ?? []).map((set): [string, string] => ['excludes', describeSet(set)]),
    [
      'models',
      manifest.models.map((model) => `${model.name}@${model.version} (${model.format}, ${model.stage})`).join(', ') ||
        'none',
    ],
    ['graph', graphLine(manifest)],
    ['search', `recall ${manifest.search.recall} unless a request says otherwise`],
    ...(manifest.overrides.length === 0 ? [] : [['overridden', manifest.overrides.join(', ')] as [string, string]]),
    ['size', formatBytes(bytes)],
    ['built in', `${(manifest.buildMs / 1000).toFixed(2)} s`],
  ];
  const costs = recallTable(manifest);
  return `${rows.map(([key, value]) => `${colors.dim(key.padEnd(11))} ${value}`).join('\n')}${costs === '' ? '' : `\n\n${costs}`}`;
}

function describeSet(set: ExclusionEntry): string {
  const unknown = [
    ...(set.unknownItems > 0 ? [`${set.unknownItems} of items that are not in the generation`] : []),
    ...(set.unknownUsers > 0 ? [`${set.unknownUsers} users that are not`] : []),
  ];
  const lists = set.by === 'user' ? ` in lists of ${set.users} users` : ' for everyone';
  return `${set.name}: ${set.entries} entries${lists}${unknown.length > 0 ? ` (${unknown.join(', ')})` : ''}`;
}

export function graphLine({ graph, items }: Manifest): string {
  if (graph === undefined) return `none: ${items.count} items are scanned`;
  const { calibration } = graph;
  const learnt = graph.trainingUsers === 0 ? 'no users' : `${graph.trainingUsers} users`;
  return (
    `${graph.degree} links an item, from ${learnt}, in ${(graph.buildMs / 1000).toFixed(1)} s; ` +
    `calibrated on ${calibration.queries} ${calibration.source === 'users' ? 'other users' : 'items, for want of users'}`
  );
}

/** What a search costs, by recall: one row for each k, one column for each target; empty where a scan must do. */
export function recallTable({ graph, items }: Manifest): string {
  if (graph === undefined) return '';
  const { calibration } = graph;
  const planner = new SearchPlanner(items.count, calibration);
  const targets = [0.9, 0.95, 0.98, 0.99, 0.995];
  const ks = [...new Set(calibration.points.map(({ k }) => k))];
  const rows = ks.map((k) => [
    k,
    ...targets.map((recall) => {
      const { effort, expectedMicroseconds = 0 } = planner.plan({ k, recall });
      return `${expectedMicroseconds.toFixed(0)} us${effort.mode === 'walk' ? '' : ' (scan)'}`;
    }),
  ]);
  return table([['k', ...targets.map((recall) => `recall ${recall}`)], ...rows]);
}

function norms({ min, mean, max }: Manifest['items']['norms']): string {
  return [min, mean, max].map((one) => one.toPrecision(3)).join(' / ');
}
