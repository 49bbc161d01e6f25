/**
 * File operations of builds, publishes and the item log: durable writes, hashed copies. Each call is a failpoint of
 * the place that it is made for. A failed fsync fails the caller and is never tried again on the same descriptor: after
 * it the kernel may have dropped what was to be written.
 *
 * Errors of what writes: BELFRY_DISK_SPACE, else BELFRY_FILE_UNREADABLE, with the system's own as the cause.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { BelfryError } from '../errors.js';
import { type Failpoint, failpoint, type FaultPlace, type FileCall } from './faults.js';

export interface FileFacts {
  readonly bytes: number;
  readonly sha256: string;
}

const COPY_BYTES = 1 << 20;

/** A file that is written by this process alone, from its beginning or from its end. */
export class WrittenFile {
  private constructor(
    private readonly handle: FileHandle,
    private readonly path: string,
    private readonly place: FaultPlace,
  ) {}

  /** `w`: new, or emptied; `wx`: must not be there; `a`: at the end of what is there. */
  static async open(path: string, flags: 'w' | 'wx' | 'a', place: FaultPlace): Promise<WrittenFile> {
    return new WrittenFile(await fileCall(place, 'open', path, () => open(path, flags)), path, place);
  }

  get descriptor(): number {
    return this.handle.fd;
  }

  write(bytes: Uint8Array): Promise<void> {
    return fileCall(
      this.place,
      'write',
      this.path,
      () => this.handle.writeFile(bytes),
      () => this.handle.writeFile(bytes.subarray(0, bytes.length >> 1)),
    );
  }

  sync(): Promise<void> {
    return fileCall(this.place, 'sync', this.path, () => this.handle.sync());
  }

  truncate(bytes: number): Promise<void> {
    return fileCall(this.place, 'truncate', this.path, () => this.handle.truncate(bytes));
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

/** Writes a whole small file and makes it durable; its folder is the caller's to sync. */
export async function writeDurable(path: string, content: string | Uint8Array, place: FaultPlace): Promise<FileFacts> {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  await makeFolder(dirname(path), place);
  const file = await WrittenFile.open(path, 'w', place);
  try {
    await file.write(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes: bytes.byteLength, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** A small file whole or as it was before: written beside it, synced, renamed, and the folder synced. */
export async function replaceDurable(path: string, content: string | Uint8Array, place: FaultPlace): Promise<void> {
  const beside = `${path}.tmp`;
  try {
    await writeDurable(beside, content, place);
    await renameFile(beside, path, place);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
  await syncFolder(dirname(path), place);
}

/** Copies a file, hashing the bytes that were written, and makes the copy durable. */
export async function copyDurable(from: string, to: string, place: FaultPlace): Promise<FileFacts> {
  await makeFolder(dirname(to), place);
  const hash = createHash('sha256');
  let bytes = 0;
  const file = await WrittenFile.open(to, 'w', place);
  try {
    for await (const chunk of createReadStream(from, { highWaterMark: COPY_BYTES }) as AsyncIterable<Buffer>) {
      await file.write(chunk);
      hash.update(chunk);
      bytes += chunk.length;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  return { bytes, sha256: hash.digest('hex') };
}

export async function hashFile(path: string): Promise<FileFacts> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: COPY_BYTES })) {
    hash.update(chunk as Buffer);
    bytes += (chunk as Buffer).length;
  }
  return { bytes, sha256: hash.digest('hex') };
}

export async function makeFolder(path: string, place: FaultPlace): Promise<void> {
  await fileCall(place, 'mkdir', path, () => mkdir(path, { recursive: true }));
}

/** Atomic, but durable only after syncFolder. */
export function renameFile(from: string, to: string, place: FaultPlace): Promise<void> {
  return fileCall(place, 'rename', to, () => rename(from, to));
}

/** A file, or a folder with all that is in it; none is no error. */
export function remove(path: string, place: FaultPlace): Promise<void> {
  return fileCall(place, 'remove', path, () => rm(path, { recursive: true, force: true }));
}

/** A rename is atomic, but durable only after its folder is synced. */
export function syncFolder(path: string, place: FaultPlace): Promise<void> {
  return fileCall(place, 'sync-folder', path, async () => {
    const folder = await open(path, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  });
}

/** A folder and all within it: the entry of a file lives in its folder, not in the file. */
export async function syncFolders(path: string, place: FaultPlace): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true }))
    if (entry.isDirectory()) await syncFolders(join(path, entry.name), place);
  await syncFolder(path, place);
}

export async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

/**
 * Any other call on a file as a failpoint: of the native core, which has its own errors, or of a lock. `half` does part of
 * a write.
 */
export async function fileCall<T>(
  place: FaultPlace,
  what: FileCall,
  path: string,
  action: () => Promise<T>,
  half?: () => Promise<unknown>,
): Promise<T> {
  const point: Failpoint = `${place}.${what}`;
  try {
    return await failpoint(point, path, action, half);
  } catch (error) {
    throw explain(error, path);
  }
}

function explain(error: unknown, path: string): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (error instanceof BelfryError || syscall === undefined) return error;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new BelfryError('BELFRY_DISK_SPACE', `${path}: the disk is full (${code}); free some space and try again`, {
      field: path,
      cause: error,
    });
  }
  return new BelfryError('BELFRY_FILE_UNREADABLE', `${path}: cannot be written: ${message}`, {
    field: path,
    cause: error,
  });
}
