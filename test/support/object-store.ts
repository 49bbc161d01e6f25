/** An S3 server of the test's own on loopback, and a proxy before it that does what networks and stores do at times. */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createRequire } from 'node:module';
import {
  DeleteObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  S3Client,
} from '@aws-sdk/client-s3';
import { type ObjectStoreSettings } from '../../src/config/schema.js';
import { temporaryFolder } from './folders.js';

const BUCKET = 'models';

/** What happens to one request. Bytes are those of the body. */
export type Fault =
  | { readonly kind: 'status'; readonly status: number; readonly code?: string }
  | { readonly kind: 'reset'; readonly after: number }
  | { readonly kind: 'end'; readonly after: number }
  | { readonly kind: 'flip'; readonly at: number }
  | { readonly kind: 'drip' }
  | { readonly kind: 'hang' }
  | { readonly kind: 'whole' };

export interface SeenRequest {
  readonly method: string;
  /** Path without the bucket. */
  readonly key: string;
  readonly query: string;
  readonly range: string | undefined;
}

interface S3rver {
  run(): Promise<{ port: number }>;
  close(): Promise<void>;
}

export class TestStore {
  /** Of all requests that came by. */
  readonly seen: SeenRequest[] = [];
  /** Decides what goes wrong; `n` counts requests of this method and key from 1. */
  fault: (request: SeenRequest, n: number) => Fault | undefined = () => undefined;
  /** Added to an answer: what newer stores say and this one does not. */
  headers: (request: SeenRequest) => Record<string, string> = () => ({});
  /** After a request was answered. */
  answered: (request: SeenRequest) => Promise<void> | void = () => undefined;
  private readonly client: S3Client;
  private readonly open = new Set<ServerResponse>();

  private constructor(
    private readonly server: S3rver,
    private readonly proxy: Server,
    readonly endpoint: string,
    readonly directory: string,
    direct: string,
  ) {
    this.client = new S3Client({ ...clientOptions(direct) });
  }

  static async start(directory = temporaryFolder()): Promise<TestStore> {
    const S3rverClass = createRequire(import.meta.url)('s3rver') as new (options: object) => S3rver;
    const server = new S3rverClass({
      port: 0,
      address: '127.0.0.1',
      silent: true,
      directory: join(directory, 's3'),
      vhostBuckets: false,
      configureBuckets: [{ name: BUCKET }],
    });
    const { port } = await server.run();
    const proxy = createServer((incoming, outgoing) => store.pass(port, incoming, outgoing));
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const endpoint = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    const store = new TestStore(server, proxy, endpoint, directory, `http://127.0.0.1:${port}`);
    return store;
  }

  settings(more: Partial<ObjectStoreSettings> = {}): ObjectStoreSettings {
    return {
      s3_endpoint: this.endpoint,
      s3_region: 'us-east-1',
      s3_access_key_id: 'S3RVER',
      s3_secret_access_key: 'S3RVER',
      s3_checksums: 'when_supported',
      s3_etag: 'md5',
      s3_timeout_ms: 2_000,
      s3_attempts: 3,
      ...more,
    };
  }

  async put(key: string, body: Uint8Array | string, more: Partial<PutObjectCommandInput> = {}): Promise<void> {
    await this.client.send(new PutObjectCommand({ Bucket: BUCKET, Key: key, Body: body, ...more }));
    // s3rver answers before the last bytes are in its file, which then seems to change.
    for (;;) {
      const { ContentLength } = await this.client.send(new HeadObjectCommand({ Bucket: BUCKET, Key: key }));
      if (ContentLength === Buffer.byteLength(body)) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async delete(key: string): Promise<void> {
    await this.client.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }));
  }

  /** Requests of a method for keys that end so. */
  requests(method: string, keyEnd: string): SeenRequest[] {
    return this.seen.filter((one) => one.method === method && one.key.endsWith(keyEnd));
  }

  async stop(): Promise<void> {
    this.client.destroy();
    for (const response of this.open) response.destroy();
    this.proxy.closeAllConnections();
    await new Promise((resolve) => this.proxy.close(resolve));
    await this.server.close();
  }

  private pass(port: number, incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { pathname, search } = new URL(incoming.url as string, 'http://proxy');
    const seen: SeenRequest = {
      method: incoming.method as string,
      key: decodeURIComponent(pathname.replace(/^\/[^/]*\/?/, '')),
      query: search,
      range: incoming.headers.range,
    };
    this.seen.push(seen);
    const n = this.seen.filter(({ method, key }) => method === seen.method && key === seen.key).length;
    const fault = this.fault(seen, n);
    this.open.add(outgoing);
    outgoing.on('close', () => this.open.delete(outgoing));
    if (fault?.kind === 'hang') return void incoming.resume();
    if (fault?.kind === 'status') {
      incoming.resume();
      outgoing.writeHead(fault.status, { 'content-type': 'application/xml' });
      outgoing.end(
        seen.method === 'HEAD'
          ? undefined
          : `<Error><Code>${fault.code ?? 'X'}</Code><Message>made up</Message></Error>`,
      );
      return;
    }
    const headers = { ...incoming.headers };
    if (fault?.kind === 'whole') delete headers.range;
    const upstream = request(
      { host: '127.0.0.1', port, method: incoming.method, path: incoming.url, headers },
      (answer) => {
        const isEnd = fault?.kind === 'end' && seen.method === 'GET';
        const answerHeaders = { ...answer.headers, ...this.headers(seen) };
        if (isEnd) delete answerHeaders['content-length']; // as chunks, which may end at any time
        outgoing.writeHead(answer.statusCode as number, answerHeaders);
        answer.on('end', () => void this.answered(seen));
        if (fault === undefined || seen.method !== 'GET' || fault.kind === 'whole') return void answer.pipe(outgoing);
        void spoil(answer, outgoing, fault);
      },
    );
    upstream.on('error', () => outgoing.destroy());
    incoming.pipe(upstream);
  }
}

async function spoil(answer: IncomingMessage, outgoing: ServerResponse, fault: Fault): Promise<void> {
  let at = 0;
  for await (const piece of answer as AsyncIterable<Buffer>) {
    const chunk = Buffer.from(piece);
    if (fault.kind === 'flip' && fault.at >= at && fault.at < at + chunk.length) chunk[fault.at - at]! ^= 0x10;
    if (fault.kind === 'drip') {
      for (const byte of chunk) {
        if (outgoing.destroyed) return;
        outgoing.write(Buffer.of(byte));
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    if ((fault.kind === 'reset' || fault.kind === 'end') && at + chunk.length >= fault.after) {
      outgoing.write(chunk.subarray(0, fault.after - at));
      // What was written must have left before the connection breaks.
      await new Promise((resolve) => setTimeout(resolve, 50));
      if (fault.kind === 'end') outgoing.end();
      else outgoing.socket?.resetAndDestroy();
      return;
    }
    at += chunk.length;
    outgoing.write(chunk);
  }
  outgoing.end();
}

function clientOptions(endpoint: string) {
  return {
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' },
  };
}
