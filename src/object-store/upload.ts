/**
 * One file as an object: at once when it is small, else in parts of which those are not sent again that an earlier run
 * sent. Its bytes are hashed while they are read and must be what the manifest says, before the object comes to be.
 */
import { createHash } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { BelfryError } from '../errors.js';
import { type FileFacts, remove, replaceDurable } from '../generation/files.js';
import { SHA256 } from './generation-copies.js';
import type { ObjectStore } from './object-store.js';

/** In memory twice at most; 10,000 parts are an object's limit, so larger files have larger ones. */
const PART_BYTES = 16 * 1024 * 1024;
const PARTS_MAX = 9_000;

/** An upload in parts that is not complete. */
interface Begun {
  readonly uploadId: string;
  readonly partBytes: number;
  readonly sha256: string;
  readonly etags: string[];
}

export interface UploadOptions {
  /** Where this file's upload in parts is noted, for a later run. */
  readonly journal: string;
  /** Bytes of the file that the store has. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
  readonly partBytes?: number | undefined;
}

/** Errors: BELFRY_GENERATION_CORRUPT when the file is not what `facts` say, BELFRY_OBJECT_STORE_*. */
export async function upload(
  store: ObjectStore,
  key: string,
  path: string,
  facts: FileFacts,
  options: UploadOptions,
): Promise<void> {
  const { onBytes, signal } = options;
  const there = await store.head(key, signal);
  if (there?.bytes === facts.bytes && there.metadata[SHA256] === facts.sha256) {
    onBytes?.(facts.bytes);
    return;
  }
  const partBytes = Math.max(options.partBytes ?? PART_BYTES, Math.ceil(facts.bytes / PARTS_MAX));
  if (facts.bytes <= partBytes) {
    const bytes = await readFile(path);
    assertSame(path, facts, bytes.length, createHash('sha256').update(bytes).digest('hex'));
    await store.put(key, bytes, { [SHA256]: facts.sha256 }, signal);
    onBytes?.(facts.bytes);
    return;
  }
  try {
    await uploadParts(store, key, path, facts, { ...options, partBytes });
  } catch (error) {
    const isForgotten = error instanceof BelfryError && error.code === 'BELFRY_OBJECT_STORE_NOT_FOUND';
    const hadBegun = (await readBegun(options.journal)) !== undefined;
    if (!isForgotten || !hadBegun) throw error;
    // The store has dropped the upload of an earlier run, as it may after some days.
    await remove(options.journal, 'download');
    await uploadParts(store, key, path, facts, { ...options, partBytes });
  }
}

async function uploadParts(
  store: ObjectStore,
  key: string,
  path: string,
  facts: FileFacts,
  { journal, onBytes, signal, partBytes }: UploadOptions & { readonly partBytes: number },
): Promise<void> {
  const before = await readBegun(journal);
  const begun: Begun =
    before?.sha256 === facts.sha256 && before.partBytes === partBytes
      ? before
      : {
          uploadId: await store.beginParts(key, { [SHA256]: facts.sha256 }, signal),
          partBytes,
          sha256: facts.sha256,
          etags: [],
        };
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(partBytes);
  let at = 0;
  const file = await open(path, 'r');
  try {
    for (let part = 1; at < facts.bytes; part++) {
      signal?.throwIfAborted();
      const bytes = await readPart(file, buffer, at);
      if (bytes.length === 0) break; // shorter than the manifest says, which the check below tells
      hash.update(bytes);
      if (part > begun.etags.length) {
        begun.etags.push(await store.putPart(key, begun.uploadId, part, bytes, signal));
        await replaceDurable(journal, JSON.stringify(begun), 'download');
      }
      at += bytes.length;
      onBytes?.(Math.min(at, facts.bytes));
    }
  } finally {
    await file.close();
  }
  assertSame(path, facts, at, hash.digest('hex'));
  await store.completeParts(key, begun.uploadId, begun.etags, signal);
  await remove(journal, 'download');
}

async function readPart(file: Awaited<ReturnType<typeof open>>, buffer: Buffer, at: number): Promise<Buffer> {
  let length = 0;
  while (length < buffer.length) {
    const { bytesRead } = await file.read(buffer, length, buffer.length - length, at + length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return buffer.subarray(0, length);
}

function assertSame(path: string, facts: FileFacts, bytes: number, sha256: string): void {
  if (bytes === facts.bytes && sha256 === facts.sha256) return;
  throw new BelfryError(
    'BELFRY_GENERATION_CORRUPT',
    `${path}: its bytes are not what the manifest says; nothing of it was published, rebuild with belfry build`,
    { field: path },
  );
}

async function readBegun(journal: string): Promise<Begun | undefined> {
  try {
    return JSON.parse(await readFile(journal, 'utf8')) as Begun;
  } catch {
    return undefined;
  }
}
