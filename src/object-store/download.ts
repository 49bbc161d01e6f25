/**
 * One object into a file: resumed at the byte where an earlier attempt or an earlier process ended, checked against all
 * that is known of it, made durable. What is on disk from before is read and checked like what arrives.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { BelfryError } from '../errors.js';
import { type FileFacts, remove, WrittenFile } from '../generation/files.js';
import { type Checksum, type Digest, digestOf } from './checksums.js';
import { changed, type ObjectFacts, type ObjectStore } from './object-store.js';

/** A body that brings less than this in `s3_timeout_ms` is given up and asked for again. */
const STEADY_BYTES = 64 * 1024;
const BACKOFF_MS = 100;
const BACKOFF_MAX_MS = 5_000;

export interface DownloadOptions {
  /** Hexadecimal, where an export or a manifest says what the bytes must be. */
  readonly sha256?: string | undefined;
  /** Bytes of the object that are on disk. Falls when bytes from before turn out to be wrong. */
  readonly onBytes?: (bytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Downloads `object` into the file `part`, which may hold its beginning. Errors: BELFRY_FILE_CHANGED,
 * BELFRY_OBJECT_CORRUPT, BELFRY_OBJECT_STORE_*, those of files.ts.
 */
export async function download(
  store: ObjectStore,
  object: ObjectFacts,
  part: string,
  options: DownloadOptions = {},
): Promise<FileFacts> {
  const found = await store.head(object.key, options.signal);
  if (found === undefined || found.etag !== object.etag || found.bytes !== object.bytes)
    throw changed(store.show(object.key));
  const wrong: string[] = [];
  // Wrong once may be the beginning of an earlier process, cut off by a power loss; wrong twice is the store's.
  for (const isSecond of [false, true]) {
    if (isSecond) await remove(part, 'download');
    const check = new Check(found.checksum);
    await fill(store, object, part, check, options);
    const { facts, problem } = check.end(options.sha256);
    if (problem === undefined) return facts;
    wrong.push(problem);
  }
  await remove(part, 'download');
  throw new BelfryError(
    'BELFRY_OBJECT_CORRUPT',
    `${store.show(object.key)}: ${wrong.at(-1)}, twice; write the export again` +
      (found.checksum?.algorithm === 'MD5' ? ', or set s3_etag: opaque where the ETags of the store are no MD5' : ''),
    { field: object.key },
  );
}

/** What is computed of the bytes as they come by. */
class Check {
  private readonly sha256 = createHash('sha256');
  private readonly digest: Digest | undefined;
  private bytes = 0;

  constructor(private readonly checksum: Checksum | undefined) {
    this.digest = checksum === undefined ? undefined : digestOf(checksum.algorithm);
  }

  update(chunk: Uint8Array): void {
    this.sha256.update(chunk);
    this.digest?.update(chunk);
    this.bytes += chunk.length;
  }

  end(expected: string | undefined): { facts: FileFacts; problem?: string } {
    const sha256 = this.sha256.digest('hex');
    const facts = { bytes: this.bytes, sha256 };
    if (expected !== undefined && expected !== sha256)
      return { facts, problem: `expected SHA-256 ${expected}, received ${sha256}` };
    const value = this.digest?.end();
    if (this.checksum !== undefined && value !== this.checksum.value) {
      const { algorithm } = this.checksum;
      return { facts, problem: `expected ${algorithm} ${this.checksum.value} as the store says, received ${value}` };
    }
    return { facts };
  }
}

/** Appends until the file has the size of the object, and syncs it. */
async function fill(
  store: ObjectStore,
  object: ObjectFacts,
  part: string,
  check: Check,
  { onBytes, signal }: DownloadOptions,
): Promise<void> {
  let at = await readBeginning(part, object.bytes, check, signal);
  const file = await WrittenFile.open(part, at === 0 ? 'w' : 'a', 'download');
  try {
    onBytes?.(at);
    let failures = 0;
    while (at < object.bytes) {
      const before = at;
      try {
        const { body, isWhole } = await store.read(object, at, signal);
        for await (const chunk of fromByte(steady(body, store, object.key, signal), isWhole ? at : 0)) {
          if (at + chunk.length > object.bytes) throw changed(store.show(object.key));
          await file.write(chunk);
          check.update(chunk);
          at += chunk.length;
          onBytes?.(at);
        }
        if (at === before) throw new Error('the body is empty');
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof BelfryError && error.code !== 'BELFRY_OBJECT_STORE_SLOW') throw error;
        failures = at - before >= STEADY_BYTES ? 1 : failures + 1;
        if (failures >= store.settings.s3_attempts) throw explainBody(error, store, object, at);
        await backOff(failures, signal);
      }
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Bytes of the object that `part` holds; 0 where it is not there, or holds too much. */
async function readBeginning(
  part: string,
  bytesMax: number,
  check: Check,
  signal: AbortSignal | undefined,
): Promise<number> {
  const size = (await stat(part).catch(() => undefined))?.size ?? 0;
  if (size === 0 || size > bytesMax) return 0;
  let at = 0;
  for await (const chunk of createReadStream(part, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    signal?.throwIfAborted();
    check.update(chunk);
    at += chunk.length;
  }
  return at;
}

/** The chunks of a body, as long as enough of them come. Error: BELFRY_OBJECT_STORE_SLOW. */
async function* steady(
  body: Readable,
  store: ObjectStore,
  key: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const windowMs = store.settings.s3_timeout_ms;
  let bytes = 0;
  const timer = setInterval(() => {
    if (bytes < STEADY_BYTES) {
      body.destroy(
        new BelfryError(
          'BELFRY_OBJECT_STORE_SLOW',
          `${store.show(key)}: ${bytes} bytes came in ${windowMs} ms, expected ${STEADY_BYTES}; raise s3_timeout_ms on a slow line`,
          { field: key, limit: STEADY_BYTES },
        ),
      );
    }
    bytes = 0;
  }, windowMs);
  const abort = (): void => void body.destroy(new Error('stopped'));
  signal?.addEventListener('abort', abort, { once: true });
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      yield chunk;
    }
  } finally {
    clearInterval(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** Leaves out the first `skip` bytes: the store sent what we have. */
async function* fromByte(chunks: AsyncIterable<Buffer>, skip: number): AsyncGenerator<Buffer> {
  let left = skip;
  for await (const chunk of chunks) {
    const rest = chunk.subarray(Math.min(left, chunk.length));
    left -= chunk.length - rest.length;
    if (rest.length > 0) yield rest;
  }
}

function explainBody(error: unknown, store: ObjectStore, { key, bytes }: ObjectFacts, at: number): BelfryError {
  if (error instanceof BelfryError) return error;
  return new BelfryError(
    'BELFRY_OBJECT_STORE_UNREACHABLE',
    `${store.show(key)}: the connection broke at byte ${at} of ${bytes} (${(error as Error).message}), ` +
      `${store.settings.s3_attempts} times without getting on; run it again, it goes on from there`,
    { field: key, cause: error },
  );
}

/** Twice as long each time, and never at the moment of all others. */
async function backOff(failures: number, signal: AbortSignal | undefined): Promise<void> {
  const longest = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** failures);
  try {
    await sleep(longest * (0.5 + Math.random() / 2), undefined, signal === undefined ? {} : { signal });
  } catch {
    signal?.throwIfAborted(); // with the reason of whoever stopped it
  }
}
