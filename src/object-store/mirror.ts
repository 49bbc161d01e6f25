/**
 * An export of an object store as a local models folder, all of one moment:
 *
 *     <data>/exports/<name>/           the models folder
 *                    <name>.json       what it was made from: address, and of each object ETag, size, SHA-256
 *                    <name>.parts/     what a fetch has brought so far
 *                    <name>.incoming/  the next models folder, while it takes its name
 *
 * The prefix is listed, what changed is downloaded and checked, the prefix is listed again, and only then the folder is
 * exchanged, while nobody builds. What did not change is linked.
 */
import { link, readFile, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { isPlainKey } from '../config/object-address.js';
import { BelfryError } from '../errors.js';
import type { DataFolder } from '../generation/data-folder.js';
import {
  copyDurable,
  exists,
  type FileFacts,
  hashFile,
  makeFolder,
  remove,
  renameFile,
  replaceDurable,
  syncFolder,
  syncFolders,
} from '../generation/files.js';
import { withWriterLock } from '../generation/writer-lock.js';
import { PartsFolder, type TransferOptions } from './download-all.js';
import { readListedFiles } from './listed-files.js';
import { changed, type ObjectFacts, type ObjectStore } from './object-store.js';

const EXPORT_JSON = 'embeddings/export.json';
const OBJECTS_MAX = 10_000;
const STAGE = 'download export';

interface Recorded extends FileFacts {
  readonly etag: string;
}

interface MirrorRecord {
  readonly address: string;
  readonly fetched: string;
  readonly objects: Readonly<Record<string, Recorded>>;
}

/**
 * Brings the export of now; returns the models folder. Errors: BELFRY_EXPORT_INVALID, BELFRY_MODELS_FOLDER,
 * BELFRY_FILE_CHANGED when the prefix changes meanwhile, BELFRY_LOCKED while another process fetches or builds, those of
 * PartsFolder.fetch.
 */
export async function mirrorExport(
  store: ObjectStore,
  data: DataFolder,
  name: string,
  options: TransferOptions = {},
): Promise<string> {
  const exports = join(data.path, 'exports');
  await makeFolder(exports, 'download');
  const words = {
    field: 'data',
    folder: `folder of exports ${exports}`,
    busy: exports,
    cure: 'name another data folder with --data DIR',
  };
  return withWriterLock(exports, () => new Mirror(store, data, join(exports, name)).fetch(options), words);
}

class Mirror {
  private readonly incoming: string;
  private readonly recordFile: string;
  private readonly parts: PartsFolder;

  constructor(
    private readonly store: ObjectStore,
    private readonly data: DataFolder,
    private readonly folder: string,
  ) {
    this.incoming = `${folder}.incoming`;
    this.recordFile = `${folder}.json`;
    this.parts = new PartsFolder(`${folder}.parts`);
  }

  async fetch(options: TransferOptions): Promise<string> {
    await this.cleanUp();
    const objects = await this.list(options.signal);
    const recorded = (await readRecord(this.recordFile))?.objects ?? {};
    if (await this.isCurrent(objects, recorded)) {
      await this.parts.remove();
      return this.folder;
    }
    const kept = await this.unchanged(objects, recorded);
    const missing = objects.filter(({ key }) => !kept.has(key));
    const fetched = await this.download(objects, missing, options);
    const after = await this.list(options.signal);
    if (!isSameListing(objects, after)) throw changed(this.store.show());
    // A build reads the folder from its first file to its last; it holds this lock.
    await this.data.withWriterLock(() => this.exchange(kept, missing));
    const entries = objects.map(({ key, etag }): [string, Recorded] => [
      key,
      { ...(kept.get(key) ?? fetched.get(key))!, etag },
    ]);
    const record: MirrorRecord = {
      address: this.store.show(),
      fetched: new Date().toISOString(),
      objects: Object.fromEntries(entries),
    };
    await replaceDurable(this.recordFile, `${JSON.stringify(record, null, 2)}\n`, 'download');
    await this.parts.remove();
    return this.folder;
  }

  private async list(signal: AbortSignal | undefined): Promise<ObjectFacts[]> {
    const objects = await this.store.list('', signal);
    const show = this.store.show();
    if (objects.length === 0) {
      throw new BelfryError(
        'BELFRY_OBJECT_STORE_NOT_FOUND',
        `${show} holds no objects; look at the prefix, an export holds embeddings/item_embeddings.npy`,
        { field: 'models' },
      );
    }
    const refuse = (why: string) =>
      new BelfryError('BELFRY_EXPORT_INVALID', `${show}: ${why}`, { field: 'models', limit: OBJECTS_MAX });
    if (objects.length > OBJECTS_MAX)
      throw refuse(`holds ${objects.length} objects, expected at most ${OBJECTS_MAX}; name the prefix of one export`);
    const keys = new Set(objects.map(({ key }) => key));
    for (const { key } of objects) {
      if (!isPlainKey(key)) throw refuse(`${JSON.stringify(key)} cannot be a file name; rename the object`);
      for (let folder = dirname(key); folder !== '.'; folder = dirname(folder))
        if (keys.has(folder)) throw refuse(`${folder} is an object and a folder; rename one of them`);
    }
    if (!keys.has('embeddings/item_embeddings.npy')) {
      throw new BelfryError(
        'BELFRY_MODELS_FOLDER',
        `${show} holds no embeddings/item_embeddings.npy; export the item tower's output there (N x dims, f2, f4 or f8)`,
        { field: 'models' },
      );
    }
    return objects;
  }

  /** What a fetch that was killed left: half an exchange is undone. */
  private async cleanUp(): Promise<void> {
    const gone = `${this.folder}.gone`;
    if (!(await exists(this.folder)) && (await exists(gone))) await renameFile(gone, this.folder, 'download');
    for (const path of [this.incoming, gone]) await remove(path, 'download');
  }

  private async isCurrent(objects: readonly ObjectFacts[], recorded: MirrorRecord['objects']): Promise<boolean> {
    if (Object.keys(recorded).length !== objects.length) return false;
    for (const object of objects) if (!(await this.isKept(object, recorded[object.key]))) return false;
    return true;
  }

  private async isKept({ key, etag, bytes }: ObjectFacts, recorded: Recorded | undefined): Promise<boolean> {
    if (recorded === undefined || recorded.etag !== etag || recorded.bytes !== bytes) return false;
    return (await stat(join(this.folder, key)).catch(() => undefined))?.size === bytes;
  }

  /** Files of the folder that are the objects of now, read again: nothing is handed on that was not looked at. */
  private async unchanged(
    objects: readonly ObjectFacts[],
    recorded: MirrorRecord['objects'],
  ): Promise<Map<string, FileFacts>> {
    const kept = new Map<string, FileFacts>();
    for (const object of objects) {
      if (!(await this.isKept(object, recorded[object.key]))) continue;
      const facts = await hashFile(join(this.folder, object.key));
      if (facts.sha256 === recorded[object.key]!.sha256) kept.set(object.key, facts);
    }
    return kept;
  }

  /** export.json first: it may say what the other files must be. */
  private async download(
    objects: readonly ObjectFacts[],
    missing: readonly ObjectFacts[],
    options: TransferOptions,
  ): Promise<Map<string, FileFacts>> {
    const description = objects.find(({ key }) => key === EXPORT_JSON);
    const listed =
      description === undefined ? new Map() : await readListedFiles(this.store, description, options.signal);
    const keys = new Set(objects.map(({ key }) => key));
    for (const key of listed.keys()) {
      if (keys.has(key)) continue;
      throw new BelfryError(
        'BELFRY_EXPORT_INVALID',
        `${this.store.show(EXPORT_JSON)}: files names ${key}, which is not there; write export.json last`,
        { field: `files.${key}` },
      );
    }
    const wanted = missing.map((object) => ({ object, sha256: listed.get(object.key) }));
    return this.parts.fetch(this.store, wanted, STAGE, options);
  }

  private async exchange(kept: ReadonlyMap<string, FileFacts>, fetched: readonly ObjectFacts[]): Promise<void> {
    const gone = `${this.folder}.gone`;
    for (const key of kept.keys()) await linkFile(join(this.folder, key), join(this.incoming, key));
    await this.parts.moveInto(this.incoming, fetched);
    await syncFolders(this.incoming, 'download');
    await remove(this.recordFile, 'download'); // from here on it speaks of another folder
    if (await exists(this.folder)) await renameFile(this.folder, gone, 'download');
    await renameFile(this.incoming, this.folder, 'download');
    await syncFolder(dirname(this.folder), 'download');
    await remove(gone, 'download');
  }
}

function isSameListing(before: readonly ObjectFacts[], after: readonly ObjectFacts[]): boolean {
  return (
    before.length === after.length &&
    before.every(({ key, etag, bytes }, at) => {
      const other = after[at]!;
      return other.key === key && other.etag === etag && other.bytes === bytes;
    })
  );
}

async function linkFile(from: string, to: string): Promise<void> {
  await makeFolder(dirname(to), 'download');
  try {
    await link(from, to);
  } catch {
    await rm(to, { force: true }); // a file system without links
    await copyDurable(from, to, 'download');
  }
}

/** Undefined where there is none, or none that can be read: then all is downloaded. */
async function readRecord(file: string): Promise<MirrorRecord | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as MirrorRecord;
  } catch {
    return undefined;
  }
}
