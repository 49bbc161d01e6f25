/** The options of every command that reads an export: which one, where its generations live, how it is taken. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';

/** The sample ships beside dist/, in a checkout and in the package. */
const SAMPLE = join(fileURLToPath(new URL('../../', import.meta.url)), 'embeddings', 'sample');

export interface ExportFlags {
  models?: string;
  sample?: boolean;
  data?: string;
  config?: string;
  metric?: string;
  onBadVector?: string;
}

export function addExportOptions(command: Command): Command {
  return command
    .option('--models <dir>', 'models folder; default ./models')
    .option('--sample', 'the sample export that ships with Belfry')
    .option('--data <dir>', 'folder of the generations; default .belfry/<name of the models folder>')
    .option('--config <file>', 'settings file; default belfry.yaml where it exists')
    .option('--metric <metric>', 'ip, cosine or l2; default from export.json, else ip')
    .option('--on-bad-vector <what>', 'reject (default) or skip rows that are not finite, or zero under cosine');
}

/** What loadSettings takes of them; a command adds its own settings as `more`. */
export function exportSettings(flags: ExportFlags, more: Readonly<Record<string, unknown>> = {}) {
  return {
    file: flags.config,
    flags: {
      models: flags.sample ? SAMPLE : flags.models,
      data: flags.data,
      metric: flags.metric,
      on_bad_vector: flags.onBadVector,
      ...more,
    },
  };
}
