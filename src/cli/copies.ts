/** `belfry push` and `belfry pull`: copies of generations in an object store. */
import type { Command } from 'commander';
import { dataFolder, loadSettings } from '../config/load.js';
import { parseObjectAddress } from '../config/object-address.js';
import { objectStoreSettings } from '../config/schema.js';
import { DataFolder } from '../generation/data-folder.js';
import { ObjectStore } from '../object-store/object-store.js';
import { pullGeneration } from '../object-store/pull.js';
import { pushGeneration } from '../object-store/push.js';
import { type ExportFlags, exportSettings } from './export-options.js';
import { formatBytes, ProgressLine, print, printJson, stopSignal } from './terminal.js';

type CopyFlags = Pick<ExportFlags, 'models' | 'sample' | 'data' | 'config'> & { json?: boolean };

export function addPush(program: Command): void {
  addCopyOptions(program.command('push'))
    .description('copy a generation to s3://bucket/prefix and make it the latest there')
    .argument('[id]', 'generation; default the one that serves')
    .requiredOption('--to <address>', 's3://bucket/prefix')
    .action(push);
}

export function addPull(program: Command): void {
  addCopyOptions(program.command('pull'))
    .description('bring a generation from s3://bucket/prefix, check every byte, and make it the one that serves')
    .argument('[id]', 'generation', 'latest')
    .requiredOption('--from <address>', 's3://bucket/prefix')
    .action(pull);
}

function addCopyOptions(command: Command): Command {
  return command
    .option('--data <dir>', 'folder of the generations; default .belfry/<name of the models folder>')
    .option('--models <dir>', 'models folder that the default of --data is named after; default ./models')
    .option('--sample', 'the sample export that ships with Belfry')
    .option('--config <file>', 'settings file; default belfry.yaml where it exists')
    .option('--json', 'as JSON');
}

async function push(id: string | undefined, flags: CopyFlags & { to: string }): Promise<void> {
  await withStore(flags, flags.to, 'to', async (store, data, options) => {
    const pushed = await pushGeneration(store, data, id, options);
    const to = store.show();
    if (flags.json) return printJson({ ...pushed, to });
    const what = pushed.wasThere ? 'was there already' : `${formatBytes(pushed.bytes)}, every file checked`;
    print(`generation ${pushed.id} is the latest of ${to} (${what})`);
  });
}

async function pull(id: string, flags: CopyFlags & { from: string }): Promise<void> {
  await withStore(flags, flags.from, 'from', async (store, data, options) => {
    const pulled = await pullGeneration(store, data, id, options);
    const { items } = pulled.manifest;
    if (flags.json)
      return printJson({
        id: pulled.id,
        was_here: pulled.wasHere,
        items: items.count,
        data: data.path,
        from: flags.from,
      });
    const what = pulled.wasHere ? 'was here already' : 'every file checked';
    print(`generation ${pulled.id} serves from ${data.path} (${items.count} items, ${what})`);
  });
}

async function withStore(
  flags: CopyFlags,
  address: string,
  field: string,
  action: (
    store: ObjectStore,
    data: DataFolder,
    options: { onProgress: ProgressLine['update']; signal: AbortSignal },
  ) => Promise<void>,
): Promise<void> {
  // A data folder that is named needs no models folder.
  const models = flags.models ?? (flags.data === undefined ? undefined : '.');
  const settings = loadSettings(exportSettings({ ...flags, ...(models === undefined ? {} : { models }) }));
  const data = await DataFolder.open(dataFolder(settings));
  const store = await ObjectStore.open(parseObjectAddress(address, field), objectStoreSettings(settings));
  const progress = new ProgressLine();
  const stop = stopSignal();
  try {
    await action(store, data, { onProgress: progress.update, signal: stop.signal });
  } finally {
    stop.release();
    progress.finish();
    store.close();
  }
}
