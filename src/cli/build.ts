/** `belfry build`: a new generation from a models folder, checked and published; nothing is served. */
import type { Command } from 'commander';
import { dataFolder, loadSettings } from '../config/load.js';
import { buildGeneration, ensureGeneration } from '../generation/build.js';
import type { ExclusionEntry, Manifest } from '../generation/manifest.js';
import { addExportOptions, type ExportFlags, exportSettings } from './export-options.js';
import { colors, formatBytes, ProgressLine, print, printJson, stopSignal, table } from './terminal.js';

interface BuildFlags extends ExportFlags {
  force?: boolean;
  json?: boolean;
}

export function addBuild(program: Command): void {
  addExportOptions(program.command('build'))
    .description('check an export and publish it as a new generation')
    .option('--force', 'build even when the newest generation was made from this very export')
    .option('--json', 'the report as JSON')
    .action(build);
}

async function build(flags: BuildFlags): Promise<void> {
  const settings = loadSettings(exportSettings(flags));
  const progress = new ProgressLine();
  const stop = stopSignal();
  const options = {
    models: settings.models,
    data: dataFolder(settings),
    metric: settings.metric,
    onBadVector: settings.on_bad_vector,
    onProgress: progress.update,
    onPlan: progress.plan,
    signal: stop.signal,
  };
  try {
    const { published, reused } = flags.force
      ? { published: await buildGeneration(options), reused: false }
      : await ensureGeneration(options);
    progress.finish();
    const { manifest, folder } = published;
    if (flags.json) printJson({ reused, folder, ...manifest });
    else print(buildReport(manifest, folder, reused));
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
    ['size', formatBytes(bytes)],
    ['built in', `${(manifest.buildMs / 1000).toFixed(2)} s`],
  ];
  const checks = manifest.checks.map((check) => [check.name, mark(check.status), check.detail]);
  return `${rows.map(([key, value]) => `${colors.dim(key.padEnd(11))} ${value}`).join('\n')}\n\n${table([['check', 'status', 'detail'], ...checks])}`;
}

function describeSet(set: ExclusionEntry): string {
  const unknown = [
    ...(set.unknownItems > 0 ? [`${set.unknownItems} of items that are not in the generation`] : []),
    ...(set.unknownUsers > 0 ? [`${set.unknownUsers} users that are not`] : []),
  ];
  const lists = set.by === 'user' ? ` in lists of ${set.users} users` : ' for everyone';
  return `${set.name}: ${set.entries} entries${lists}${unknown.length > 0 ? ` (${unknown.join(', ')})` : ''}`;
}

function norms({ min, mean, max }: Manifest['items']['norms']): string {
  return [min, mean, max].map((one) => one.toPrecision(3)).join(' / ');
}

function mark(status: string): string {
  return status.replace('_', ' ');
}
