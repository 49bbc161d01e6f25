/** A published generation into an object store, so that no reader ever sees half of it. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BelfryError } from '../errors.js';
import type { DataFolder } from '../generation/data-folder.js';
import { leaseGeneration } from '../generation/file-locks.js';
import { makeFolder } from '../generation/files.js';
import { readManifest } from '../generation/manifest.js';
import type { TransferOptions } from './download-all.js';
import { copiedFiles, copyFolder, MANIFEST, SHA256, writeLatest } from './generation-copies.js';
import type { ObjectStore } from './object-store.js';
import { upload } from './upload.js';

const STAGE = 'push';

export interface PushOptions extends TransferOptions {
  /** For tests: files above this go in parts. Default 16 MiB. */
  readonly partBytes?: number;
}

export interface PushResult {
  readonly id: string;
  readonly bytes: number;
  /** True when the store had all of it. */
  readonly wasThere: boolean;
}

/**
 * Copies a generation of the data folder, by default the one that CURRENT names, and makes it `latest`. Errors:
 * BELFRY_UNKNOWN_GENERATION, BELFRY_GENERATION_CORRUPT, BELFRY_OBJECT_CORRUPT where another one of this id is there,
 * BELFRY_OBJECT_STORE_*.
 */
export async function pushGeneration(
  store: ObjectStore,
  data: DataFolder,
  id: string | undefined,
  { onProgress, signal, partBytes }: PushOptions = {},
): Promise<PushResult> {
  const chosen = id ?? (await data.pointed());
  if (chosen === undefined || !(await data.ids()).includes(chosen)) {
    throw new BelfryError('BELFRY_UNKNOWN_GENERATION', `${data.path} holds no generation ${chosen ?? 'that serves'}`, {
      field: 'id',
    });
  }
  const folder = data.folderOf(chosen);
  const lease = await leaseGeneration(folder);
  try {
    const manifest = await readManifest(folder);
    const files = copiedFiles(manifest);
    const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
    const copy = store.within(copyFolder(chosen));
    const text = await readFile(join(folder, MANIFEST));
    const sha256 = createHash('sha256').update(text).digest('hex');
    const there = await copy.head(MANIFEST, signal);
    if (there !== undefined && there.metadata[SHA256] !== sha256) {
      throw new BelfryError(
        'BELFRY_OBJECT_CORRUPT',
        `${copy.show(MANIFEST)} is not that of generation ${chosen} here; push to another prefix`,
        { field: 'to' },
      );
    }
    if (there === undefined) {
      const journals = join(data.path, 'pushes');
      await makeFolder(journals, 'download');
      let done = 0;
      for (const [name, facts] of Object.entries(files)) {
        const journal = join(journals, createHash('sha256').update(copy.show(name)).digest('hex').slice(0, 40));
        await upload(copy, name, join(folder, name), facts, {
          journal,
          partBytes,
          signal,
          onBytes: (some) => onProgress?.({ stage: STAGE, done: done + some, total: bytes }),
        });
        done += facts.bytes;
      }
      await copy.put(MANIFEST, text, { [SHA256]: sha256 }, signal);
    }
    await writeLatest(store, chosen, signal);
    onProgress?.({ stage: STAGE, done: bytes, total: bytes });
    return { id: chosen, bytes, wasThere: there !== undefined };
  } finally {
    await lease.release();
  }
}
