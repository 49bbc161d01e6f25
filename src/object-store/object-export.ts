/** An export under a prefix of an object store: looked at by whoever waits for the next one, fetched by a build. */
import { folderNameOf, parseObjectAddress } from '../config/object-address.js';
import type { ObjectStoreSettings } from '../config/schema.js';
import { DataFolder } from '../generation/data-folder.js';
import type { TransferOptions } from './download-all.js';
import { mirrorExport } from './mirror.js';
import { type ObjectFacts, ObjectStore } from './object-store.js';

const SUCCESS = '_SUCCESS';
/** As in a models folder: at its top or beside the vectors. */
const FOLDERS = ['', 'embeddings/'];

/** What an export is now, as the watch of local folders has it. */
export interface PrefixLook {
  /** What `_SUCCESS` is; undefined without one. */
  readonly success?: string;
  /** `_SUCCESS` and `export.json`. */
  readonly marks: string;
  /** All objects. */
  readonly content: string;
}

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

/** A look lists the whole prefix: one request for each thousand objects. Undefined while it is empty. */
export function prefixLooker(models: string, settings: ObjectStoreSettings): () => Promise<PrefixLook | undefined> {
  const address = parseObjectAddress(models, 'models');
  let store: ObjectStore | undefined;
  return async () => {
    store ??= await ObjectStore.open(address, settings);
    const objects = await store.list();
    return objects.length === 0 ? undefined : lookOf(objects);
  };
}

function lookOf(objects: readonly ObjectFacts[]): PrefixLook {
  // The ETag of an empty _SUCCESS is always the same: its time tells that it was written again.
  const facts = new Map(
    objects.map(({ key, bytes, etag, modified }) => [key, `${bytes} ${etag} ${modified.toISOString()}`]),
  );
  const at = (name: string): string => FOLDERS.map((folder) => facts.get(folder + name) ?? '').join(',');
  const success = at(SUCCESS);
  return {
    ...(success === ',' ? {} : { success }),
    marks: `${success};${at('export.json')}`,
    content: [...facts].map(([key, fact]) => `${key} ${fact}`).join('\n'),
  };
}
