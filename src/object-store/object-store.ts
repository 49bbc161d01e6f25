/**
 * A prefix of a bucket on the S3 API: list, look, read from a byte on, write. The client of AWS is an optional peer and
 * loaded with the first store. Requests are tried again by the client (5xx, throttling, broken connections) up to
 * `s3_attempts` times; what breaks in the middle of a body is the reader's to take up again.
 *
 * Keys are relative to the prefix. Errors: BELFRY_OBJECT_STORE_*, BELFRY_FILE_CHANGED, BELFRY_OBJECT_CORRUPT.
 */
import type * as Sdk from '@aws-sdk/client-s3';
import type { Readable } from 'node:stream';
import { type ObjectAddress, showAddress } from '../config/object-address.js';
import type { ObjectStoreSettings } from '../config/schema.js';
import { BelfryError } from '../errors.js';
import { ALGORITHMS, type Checksum } from './checksums.js';
import { explainStoreError } from './explain-error.js';

/** More under one prefix is no export and no generation, but a wrong address. */
const LIST_MAX = 100_000;

export interface ObjectFacts {
  /** Relative to the prefix. */
  readonly key: string;
  readonly bytes: number;
  /** As the store writes it, with its quotes. */
  readonly etag: string;
  readonly modified: Date;
}

export interface ObjectDetails extends ObjectFacts {
  /** Of the whole object, where the store keeps one. */
  readonly checksum?: Checksum;
  /** What a writer noted. */
  readonly metadata: Readonly<Record<string, string>>;
}

export class ObjectStore {
  private constructor(
    private readonly sdk: typeof Sdk,
    private readonly client: Sdk.S3Client,
    readonly address: ObjectAddress,
    readonly settings: ObjectStoreSettings,
  ) {}

  /** Opens no connection. Errors: BELFRY_OBJECT_STORE_CLIENT, BELFRY_CONFIG_INVALID. */
  static async open(address: ObjectAddress, settings: ObjectStoreSettings): Promise<ObjectStore> {
    const sdk = await loadSdk();
    const { s3_endpoint: endpoint, s3_region: region, s3_timeout_ms: timeoutMs } = settings;
    const client = new sdk.S3Client({
      ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
      // A compatible store takes any region; for AWS an absent one comes from its environment or profile.
      ...(region !== undefined || endpoint !== undefined ? { region: region ?? 'us-east-1' } : {}),
      ...credentialsOf(settings),
      maxAttempts: settings.s3_attempts,
      requestChecksumCalculation: settings.s3_checksums === 'when_required' ? 'WHEN_REQUIRED' : 'WHEN_SUPPORTED',
      // The downloader checks whole objects, also those that it read in parts.
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { connectionTimeout: timeoutMs, requestTimeout: timeoutMs, throwOnRequestTimeout: true },
      logger: SILENT,
    });
    return new ObjectStore(sdk, client, address, settings);
  }

  /** A folder of this prefix as a store of its own, on the same connections. */
  within(folder: string): ObjectStore {
    const { bucket } = this.address;
    return new ObjectStore(this.sdk, this.client, { bucket, prefix: this.keyOf(folder) }, this.settings);
  }

  /** For people: `s3://bucket/prefix/key`. */
  show(key = ''): string {
    const name = showAddress(this.address);
    return key === '' ? name : `${name}/${key}`;
  }

  /** Every object below `folder`, by key. Objects that only stand for a folder are left out. */
  async list(folder = '', signal?: AbortSignal): Promise<ObjectFacts[]> {
    const prefix = this.keyOf(folder === '' ? '' : `${folder}/`);
    const found: ObjectFacts[] = [];
    let token: string | undefined;
    do {
      const page = await this.call(folder, signal, () =>
        this.client.send(
          new this.sdk.ListObjectsV2Command({
            Bucket: this.address.bucket,
            Prefix: prefix,
            ...(token === undefined ? {} : { ContinuationToken: token }),
          }),
          options(signal),
        ),
      );
      for (const { Key = '', Size = 0, ETag = '', LastModified = new Date(0) } of page.Contents ?? []) {
        if (Key.endsWith('/')) continue;
        found.push({ key: this.relative(Key), bytes: Size, etag: ETag, modified: LastModified });
      }
      if (found.length > LIST_MAX) {
        throw new BelfryError(
          'BELFRY_EXPORT_INVALID',
          `${this.show(folder)} holds more than ${LIST_MAX} objects; name the prefix of one export`,
          { field: 'models', limit: LIST_MAX },
        );
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
    return found.sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Undefined when there is no such object. */
  async head(key: string, signal?: AbortSignal): Promise<ObjectDetails | undefined> {
    try {
      const found = await this.call(key, signal, () =>
        this.client.send(
          new this.sdk.HeadObjectCommand({ ...this.place(key), ChecksumMode: 'ENABLED' }),
          options(signal),
        ),
      );
      const etag = found.ETag ?? '';
      const checksum = checksumOf(found as unknown as Record<string, unknown>, this.settings.s3_etag === 'md5');
      return {
        key,
        bytes: found.ContentLength ?? 0,
        etag,
        modified: found.LastModified ?? new Date(0),
        metadata: found.Metadata ?? {},
        ...(checksum === undefined ? {} : { checksum }),
      };
    } catch (error) {
      // The answer to HEAD has no body that says which of them is missing: a look into the bucket tells.
      if (!(error instanceof BelfryError) || error.code !== 'BELFRY_OBJECT_STORE_NOT_FOUND') throw error;
      await this.assertBucket(key, signal);
      return undefined;
    }
  }

  /**
   * The bytes of one version of an object from `from` on. `isWhole` where the store ignored the range and sends it from
   * its beginning. Error: BELFRY_FILE_CHANGED when the object is another by now.
   */
  async read(
    object: ObjectFacts,
    from: number,
    signal?: AbortSignal,
  ): Promise<{ readonly body: Readable; readonly isWhole: boolean }> {
    const answer = await this.call(object.key, signal, () =>
      this.client.send(
        new this.sdk.GetObjectCommand({
          ...this.place(object.key),
          IfMatch: object.etag,
          ...(from === 0 ? {} : { Range: `bytes=${from}-` }),
        }),
        options(signal),
      ),
    );
    const body = answer.Body as Readable;
    const [, start = '0', total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(answer.ContentRange ?? '') ?? [];
    const bytes = total === undefined ? answer.ContentLength : Number(total);
    // Not every store heeds If-Match.
    if (answer.ETag !== object.etag || (bytes !== undefined && bytes !== object.bytes)) {
      body.on('error', () => undefined).destroy();
      throw changed(this.show(object.key));
    }
    return { body, isWhole: Number(start) !== from };
  }

  /** A small object whole; undefined when there is none. */
  async readSmall(key: string, bytesMax: number, signal?: AbortSignal): Promise<Buffer | undefined> {
    const found = await this.head(key, signal);
    if (found === undefined) return undefined;
    if (found.bytes > bytesMax) {
      throw new BelfryError(
        'BELFRY_OBJECT_CORRUPT',
        `${this.show(key)} has ${found.bytes} bytes, expected at most ${bytesMax}; it is no file of Belfry's`,
        { field: key, limit: bytesMax },
      );
    }
    const answer = await this.call(key, signal, async () => {
      const { Body } = await this.client.send(
        new this.sdk.GetObjectCommand({ ...this.place(key), IfMatch: found.etag }),
        options(signal),
      );
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    });
    if (answer.length !== found.bytes) throw changed(this.show(key));
    return answer;
  }

  /** Writes a whole object; the client adds a checksum that the store checks. */
  async put(key: string, body: Uint8Array, metadata: Record<string, string>, signal?: AbortSignal): Promise<void> {
    await this.call(key, signal, () =>
      this.client.send(
        new this.sdk.PutObjectCommand({ ...this.place(key), Body: body, Metadata: metadata }),
        options(signal),
      ),
    );
  }

  /** Begins an object in parts; returns its upload id. */
  async beginParts(key: string, metadata: Record<string, string>, signal?: AbortSignal): Promise<string> {
    const { UploadId } = await this.call(key, signal, () =>
      this.client.send(
        new this.sdk.CreateMultipartUploadCommand({ ...this.place(key), Metadata: metadata }),
        options(signal),
      ),
    );
    return UploadId as string;
  }

  /** `part` counts from 1. Returns the ETag that completes it. */
  async putPart(key: string, uploadId: string, part: number, body: Uint8Array, signal?: AbortSignal): Promise<string> {
    const { ETag } = await this.call(key, signal, () =>
      this.client.send(
        new this.sdk.UploadPartCommand({ ...this.place(key), UploadId: uploadId, PartNumber: part, Body: body }),
        options(signal),
      ),
    );
    return ETag as string;
  }

  async completeParts(key: string, uploadId: string, etags: readonly string[], signal?: AbortSignal): Promise<void> {
    const Parts = etags.map((ETag, position) => ({ ETag, PartNumber: position + 1 }));
    await this.call(key, signal, () =>
      this.client.send(
        new this.sdk.CompleteMultipartUploadCommand({
          ...this.place(key),
          UploadId: uploadId,
          MultipartUpload: { Parts },
        }),
        options(signal),
      ),
    );
  }

  close(): void {
    this.client.destroy();
  }

  private async assertBucket(key: string, signal: AbortSignal | undefined): Promise<void> {
    await this.call(key, signal, () =>
      this.client.send(
        new this.sdk.ListObjectsV2Command({ Bucket: this.address.bucket, Prefix: this.keyOf(key), MaxKeys: 1 }),
        options(signal),
      ),
    );
  }

  private async call<T>(key: string, signal: AbortSignal | undefined, action: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    try {
      return await action();
    } catch (error) {
      signal?.throwIfAborted();
      throw explainStoreError(error, this.show(key), this.settings);
    }
  }

  private place(key: string) {
    return { Bucket: this.address.bucket, Key: this.keyOf(key) };
  }

  private keyOf(key: string): string {
    return this.address.prefix === '' ? key : `${this.address.prefix}/${key}`;
  }

  private relative(key: string): string {
    return this.address.prefix === '' ? key : key.slice(this.address.prefix.length + 1);
  }
}

export function changed(what: string): BelfryError {
  return new BelfryError(
    'BELFRY_FILE_CHANGED',
    `${what} changed while it was read; write an export under a prefix of its own, or _SUCCESS last, and fetch again`,
    { field: what },
  );
}

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} };

function options(signal: AbortSignal | undefined) {
  return signal === undefined ? {} : { abortSignal: signal };
}

function credentialsOf(settings: ObjectStoreSettings) {
  const { s3_access_key_id: accessKeyId, s3_secret_access_key: secretAccessKey } = settings;
  if (accessKeyId === undefined && secretAccessKey === undefined) return {};
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    const missing = accessKeyId === undefined ? 's3_access_key_id' : 's3_secret_access_key';
    throw new BelfryError('BELFRY_CONFIG_INVALID', `${missing}: set both keys of the object store, or neither`, {
      field: missing,
    });
  }
  const { s3_session_token: sessionToken } = settings;
  return { credentials: { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) } };
}

/** The strongest that there is of the whole object, not of its parts. */
function checksumOf(head: Record<string, unknown>, isEtagMd5: boolean): Checksum | undefined {
  if (head.ChecksumType !== 'COMPOSITE') {
    for (const algorithm of ALGORITHMS) {
      const value = head[`Checksum${algorithm}`];
      // One of parts is written with their number behind it.
      if (typeof value === 'string' && !value.includes('-')) return { algorithm, value };
    }
  }
  const [, md5] = /^"?([0-9a-f]{32})"?$/.exec(String(head.ETag ?? '')) ?? [];
  const isEncrypted =
    /^aws:kms/.test(String(head.ServerSideEncryption ?? '')) || head.SSECustomerAlgorithm !== undefined;
  if (md5 === undefined || !isEtagMd5 || isEncrypted) return undefined;
  return { algorithm: 'MD5', value: Buffer.from(md5, 'hex').toString('base64') };
}

async function loadSdk(): Promise<typeof Sdk> {
  try {
    return await import('@aws-sdk/client-s3');
  } catch (error) {
    throw new BelfryError(
      'BELFRY_OBJECT_STORE_CLIENT',
      `the client of S3 cannot be loaded (${(error as Error).message.split('\n')[0]}); install it beside Belfry: npm i @aws-sdk/client-s3@3`,
      { cause: error },
    );
  }
}
