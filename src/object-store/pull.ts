/** A generation out of an object store: every file against the manifest's SHA-256, then published as a build is. */
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isPlainKey } from '../config/object-address.js';
import { BelfryError } from '../errors.js';
import type { DataFolder } from '../generation/data-folder.js';
import { makeFolder, remove, syncFolders, writeDurable } from '../generation/files.js';
import { type Manifest, readManifest } from '../generation/manifest.js';
import { verifyFiles } from '../generation/verify.js';
import { withWriterLock } from '../generation/writer-lock.js';
import { PartsFolder, type TransferOptions, type WantedObject } from './download-all.js';
import { copiedFiles, copyFolder, MANIFEST, MANIFEST_BYTES_MAX, readLatest } from './generation-copies.js';
import type { ObjectStore } from './object-store.js';

export interface PullResult {
  readonly id: string;
  readonly manifest: Manifest;
  /** True when the data folder held it. */
  readonly wasHere: boolean;
}

/**
 * Brings generation `id`, or the newest for `latest`, and makes it the one that serves. Downloads hold no lock of the
 * data folder; a run that ended early is taken up where it was. Errors: BELFRY_UNKNOWN_GENERATION, BELFRY_OBJECT_CORRUPT,
 * BELFRY_FILE_VERSION, BELFRY_DISK_SPACE, BELFRY_LOCKED while a build runs, BELFRY_OBJECT_STORE_*.
 */
export async function pullGeneration(
  store: ObjectStore,
  data: DataFolder,
  id: string,
  options: TransferOptions = {},
): Promise<PullResult> {
  const chosen = id === 'latest' ? await readLatest(store, options.signal) : id;
  if ((await data.ids()).includes(chosen)) {
    const { manifest } = await data.activate(chosen);
    return { id: chosen, manifest, wasHere: true };
  }
  const pulls = join(data.path, 'pulls');
  await makeFolder(pulls, 'download');
  const words = {
    field: 'data',
    folder: `folder of downloads ${pulls}`,
    busy: pulls,
    cure: 'name another data folder with --data DIR',
  };
  return withWriterLock(
    pulls,
    async () => {
      const copy = store.within(copyFolder(chosen));
      const bytes = await copy.readSmall(MANIFEST, MANIFEST_BYTES_MAX, options.signal);
      if (bytes === undefined) {
        throw new BelfryError(
          'BELFRY_UNKNOWN_GENERATION',
          `${store.show()} holds no whole generation ${chosen}; list the prefix, or pull latest`,
          { field: 'id' },
        );
      }
      const manifest = await checkManifest(bytes, pulls, chosen, copy);
      const wanted = await wantedOf(manifest, copy, options);
      const parts = new PartsFolder(join(pulls, 'parts'));
      await parts.fetch(copy, wanted, 'pull', options);
      await data.withWriterLock(async () => {
        const temporary = data.newTemporary(chosen);
        try {
          await parts.moveInto(
            temporary,
            wanted.map(({ object }) => object),
          );
          await writeDurable(join(temporary, MANIFEST), bytes, 'manifest');
          await syncFolders(temporary, 'generation');
          await verifyFiles(temporary, await readManifest(temporary));
          await data.publish(temporary, chosen);
        } catch (error) {
          await remove(temporary, 'discard');
          throw error;
        }
      });
      await parts.remove();
      return { id: chosen, manifest, wasHere: false };
    },
    words,
  );
}

/** As a load would read it, and only names that stay inside a generation. */
async function checkManifest(bytes: Buffer, pulls: string, id: string, copy: ObjectStore): Promise<Manifest> {
  const corrupt = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_OBJECT_CORRUPT', `${copy.show(MANIFEST)}: ${why}`, { field: MANIFEST, cause });
  const folder = await mkdtemp(join(pulls, 'manifest-'));
  let manifest: Manifest;
  try {
    await writeDurable(join(folder, MANIFEST), bytes, 'download');
    manifest = await readManifest(folder);
  } catch (error) {
    if (!(error instanceof BelfryError) || error.code !== 'BELFRY_GENERATION_CORRUPT') throw error;
    throw corrupt(error.message.slice(error.message.indexOf(MANIFEST) + MANIFEST.length + 2), error);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  if (manifest.id !== id) throw corrupt(`is that of generation ${manifest.id}`);
  for (const name of Object.keys(copiedFiles(manifest)))
    if (!isPlainKey(name) || name === MANIFEST)
      throw corrupt(`${JSON.stringify(name)} cannot be a file of a generation`);
  return manifest;
}

async function wantedOf(manifest: Manifest, copy: ObjectStore, { signal }: TransferOptions): Promise<WantedObject[]> {
  const there = new Map((await copy.list('', signal)).map((object) => [object.key, object]));
  return Object.entries(copiedFiles(manifest)).map(([name, { bytes, sha256 }]) => {
    const object = there.get(name);
    if (object?.bytes === bytes) return { object, sha256 };
    throw new BelfryError(
      'BELFRY_OBJECT_CORRUPT',
      `${copy.show(name)}: expected ${bytes} bytes as the manifest says, found ${object?.bytes ?? 'no object'}; push the generation again under another prefix`,
      { field: name },
    );
  });
}
