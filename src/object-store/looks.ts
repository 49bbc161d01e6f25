/** Looks at an object store by whoever waits there for something new: an export, or a copy of a generation. */
import { parseObjectAddress } from '../config/object-address.js';
import type { ObjectStoreSettings } from '../config/schema.js';
import { LATEST } from './generation-copies.js';
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

/** The ETag of an empty _SUCCESS is always the same: its time tells that it was written again. */
function factsOf({ bytes, etag, modified }: ObjectFacts): string {
  return `${bytes} ${etag} ${modified.toISOString()}`;
}

function lookOf(objects: readonly ObjectFacts[]): PrefixLook {
  const facts = new Map(objects.map((object) => [object.key, factsOf(object)]));
  const at = (name: string): string => FOLDERS.map((folder) => facts.get(folder + name) ?? '').join(',');
  const success = at(SUCCESS);
  return {
    ...(success === ',' ? {} : { success }),
    marks: `${success};${at('export.json')}`,
    content: [...facts].map(([key, fact]) => `${key} ${fact}`).join('\n'),
  };
}

/** A look asks for one object, `latest`. Undefined while nothing was pushed. */
export function latestLooker(address: string, settings: ObjectStoreSettings): () => Promise<PrefixLook | undefined> {
  const from = parseObjectAddress(address, 'pull_from');
  let store: ObjectStore | undefined;
  return async () => {
    store ??= await ObjectStore.open(from, settings);
    const latest = await store.head(LATEST);
    if (latest === undefined) return undefined;
    const marks = factsOf(latest);
    return { marks, content: marks };
  };
}
