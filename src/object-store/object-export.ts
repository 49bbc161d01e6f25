/** An export under a prefix of an object store, as a folder that a build can read. */
import { folderNameOf, parseObjectAddress } from '../config/object-address.js';
import type { ObjectStoreSettings } from '../config/schema.js';
import { DataFolder } from '../generation/data-folder.js';
import type { TransferOptions } from './download-all.js';
import { mirrorExport } from './mirror.js';
import { ObjectStore } from './object-store.js';

/**
 * Brings the export at `models` (`s3://bucket/prefix`) into the data folder; returns the models folder to build from.
 * Errors: those of mirrorExport.
 */
export async function fetchExport(
  models: string,
  data: string,
  settings: ObjectStoreSettings,
  options: TransferOptions = {},
): Promise<string> {
  const address = parseObjectAddress(models, 'models');
  const store = await ObjectStore.open(address, settings);
  try {
    return await mirrorExport(store, await DataFolder.open(data), folderNameOf(address), options);
  } finally {
    store.close();
  }
}
