/** `belfry generations`, `belfry rollback`, `belfry verify`: what a data folder holds, and moves of its pointer. */
import { existsSync } from 'node:fs';
import type { Command } from 'commander';
import { dataFolder, loadSettings } from '../config/load.js';
import { asBelfryError, BelfryError, type ErrorCode } from '../errors.js';
import { DataFolder } from '../generation/data-folder.js';
import { listGenerations, type ListedGeneration } from '../generation/list-generations.js';
import { readReportFile } from '../generation/report/make-report.js';
import { formatBytes, print, printJson, table } from './terminal.js';
import { type ExportFlags, exportSettings } from './export-options.js';

type DataFlags = Pick<ExportFlags, 'models' | 'sample' | 'data' | 'config'> & { json?: boolean };

function addDataOptions(command: Command): Command {
  return command
    .option('--data <dir>', 'folder of the generations; default .belfry/<name of the models folder>')
    .option('--models <dir>', 'models folder that the default of --data is named after; default ./models')
    .option('--sample', 'the sample export that ships with Belfry')
    .option('--config <file>', 'settings file; default belfry.yaml where it exists')
    .option('--json', 'as JSON');
}

export function addGenerations(program: Command): void {
  addDataOptions(program.command('generations'))
    .description('the generations of a data folder: which one serves, which one a rollback goes to')
    .action(generations);
}

export function addRollback(program: Command): void {
  addDataOptions(program.command('rollback'))
    .description('make the generation serve that served before; servers on the data folder follow at once')
    .argument('[id]', 'this generation instead')
    .action(rollback);
}

export function addVerify(program: Command): void {
  addDataOptions(program.command('verify'))
    .description('compare every byte of the generations with their checksums; exit code 3 when one is damaged')
    .argument('[id]', 'this generation alone')
    .action(verify);
}

async function generations(flags: DataFlags): Promise<void> {
  const data = await openData(flags);
  const listed = await listGenerations(data);
  if (flags.json) printJson({ data: data.path, generations: listed });
  else if (listed.length === 0) print(`${data.path} holds no generation; make one with belfry build`);
  else print(generationsTable(listed));
}

function generationsTable(listed: readonly ListedGeneration[]): string {
  const rows = listed.map(({ id, state, created, items, bytes, problem }) => [
    id,
    state,
    created ?? '',
    items ?? '',
    formatBytes(bytes),
    problem ?? '',
  ]);
  return table([['generation', 'state', 'created', 'items', 'size', 'problem'], ...rows]);
}

async function rollback(id: string | undefined, flags: DataFlags): Promise<void> {
  const data = await openData(flags);
  const before = await data.pointed();
  const { id: now, manifest } = id === undefined ? await data.rollback() : await data.activate(id);
  if (flags.json) printJson({ data: data.path, before: before ?? null, serving: now });
  else if (before === now) print(`generation ${now} serves already`);
  else
    print(
      `generation ${now} serves (${manifest.items.count} items, built ${manifest.created}), before it ${before ?? 'none'}`,
    );
}

interface Verified {
  readonly id: string;
  readonly good: boolean;
  readonly code?: ErrorCode;
  readonly message?: string;
}

async function verify(id: string | undefined, flags: DataFlags): Promise<void> {
  const data = await openData(flags);
  const found: Verified[] = [];
  for (const one of id === undefined ? await data.ids() : [id]) {
    try {
      const manifest = await data.verify(one);
      for (const name of Object.keys(manifest.report)) await readReportFile(data.folderOf(one), manifest, name);
      found.push({ id: one, good: true });
    } catch (error) {
      const { code, message } = asBelfryError(error, 'BELFRY_FILE_UNREADABLE');
      if (code === 'BELFRY_UNKNOWN_GENERATION') throw error;
      found.push({ id: one, good: false, code, message });
    }
  }
  if (flags.json) printJson({ data: data.path, generations: found });
  else if (found.length === 0) print(`${data.path} holds no generation; make one with belfry build`);
  else {
    const rows = found.map((one) => [
      one.id,
      one.good ? 'good' : 'damaged',
      one.good ? '' : `${one.message} (${one.code})`,
    ]);
    print(table([['generation', 'state', 'problem'], ...rows]));
  }
  if (found.some(({ good }) => !good)) process.exitCode = 3;
}

/** A data folder that is named needs no models folder. Error: BELFRY_FILE_UNREADABLE when it does not exist. */
async function openData(flags: DataFlags): Promise<DataFolder> {
  const models = flags.models ?? (flags.data === undefined ? undefined : '.');
  const path = dataFolder(loadSettings(exportSettings({ ...flags, ...(models === undefined ? {} : { models }) })));
  if (!existsSync(path)) {
    throw new BelfryError(
      'BELFRY_FILE_UNREADABLE',
      `data folder ${path} does not exist; name another with --data DIR`,
      {
        field: 'data',
      },
    );
  }
  return DataFolder.open(path);
}
