/**
 * One model server that speaks the KServe v2 protocol over HTTP (Triton, KServe, MLServer, Seldon). Its address comes
 * from the settings; redirects are not followed, link-local addresses are not connected to, and no answer is read
 * beyond its bound.
 */
import { type Dispatcher, Pool } from 'undici';
import { BelfryError, show } from '../../errors.js';
import { traceHeaders } from '../../telemetry/tracing.js';
import type { TensorData } from '../../types.js';
import {
  decodeResponse,
  encodeRequest,
  FrameError,
  type InferAnswer,
  JSON_LENGTH_HEADER,
  listOf,
  objectOf,
  parseJson,
} from './infer-frames.js';
import { guardedLookup } from '../../config/addresses.js';
import { type ModelMetadata, readMetadata } from './model-metadata.js';
import { RetryBudget } from '../../resilience/retry-budget.js';

export interface KserveServerOptions {
  /** What messages call it: its name in the settings. */
  readonly name: string;
  /** http://host:port, or https, with a path in front where the server has one. */
  readonly url: string;
  /** Sent as the header of that name; never shown. */
  readonly authorization?: string | undefined;
  /** Most time of one call, milliseconds; the request's own deadline may be sooner. */
  readonly timeoutMs?: number | undefined;
  readonly connections?: number | undefined;
  /** Calls that wait for a connection; more are refused. */
  readonly maxQueue?: number | undefined;
  /** Largest answer to an inference. */
  readonly maxResponseBytes?: number | undefined;
  /** `auto`: raw tensors where the server lists `binary_tensor_data`. */
  readonly tensors?: 'auto' | 'binary' | 'json' | undefined;
  /** The setting `allow_link_local`. */
  readonly allowLinkLocal?: boolean | undefined;
}

export interface ModelAddress {
  readonly model: string;
  readonly version?: string | undefined;
}

export const KSERVE_DEFAULTS = {
  timeoutMs: 500,
  connections: 16,
  maxQueue: 256,
  maxResponseBytes: 16 * 1024 * 1024,
  tensors: 'auto',
} as const;

/** Of health, metadata and error answers. */
const SMALL_BYTES = 1024 * 1024;
const CONNECT_MS = 300;
/** Below those of servers: Triton closes idle connections after 60 s, and a request on a closed one would be lost. */
const KEEP_ALIVE_MS = 20_000;
const HEADER_BYTES = 16 * 1024;

/** Nothing was sent: a second try cannot make the server work twice. */
const CONNECT_ERRORS = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

type Call = Pick<Dispatcher.RequestOptions, 'method' | 'path'> & {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly maxBytes: number;
};

export class KserveClient {
  readonly name: string;
  readonly #pool: Pool;
  readonly #base: string;
  readonly #options: KserveServerOptions & typeof KSERVE_DEFAULTS;
  readonly #retries = new RetryBudget();
  #inFlight = 0;
  #requests = 0;
  #retried = 0;

  constructor(options: KserveServerOptions) {
    const set = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = { ...KSERVE_DEFAULTS, ...set } as KserveServerOptions & typeof KSERVE_DEFAULTS;
    this.name = options.name;
    const { origin, pathname } = new URL(options.url);
    this.#base = pathname.replace(/\/+$/, '');
    const { timeoutMs, connections } = this.#options;
    this.#pool = new Pool(origin, {
      connections,
      pipelining: 1,
      connect: { timeout: Math.min(CONNECT_MS, timeoutMs), lookup: guardedLookup(options) },
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: HEADER_BYTES,
    });
  }

  get timeoutMs(): number {
    return this.#options.timeoutMs;
  }

  /** Second tries so far. */
  get retried(): number {
    return this.#retried;
  }

  /** Resolves when the server is ready. Errors: BELFRY_MODEL_SERVER_FAILED, BELFRY_DEADLINE_EXCEEDED. */
  async mustBeReady(signal?: AbortSignal): Promise<void> {
    for (const path of ['/v2/health/live', '/v2/health/ready']) {
      await this.#expectOk(await this.#call({ method: 'GET', path, maxBytes: SMALL_BYTES }, signal), path);
    }
  }

  /** Error: BELFRY_MODEL_SERVER_FAILED where the server does not have the model loaded. */
  async modelMustBeReady(address: ModelAddress, signal?: AbortSignal): Promise<void> {
    const path = `${modelPath(address)}/ready`;
    await this.#expectOk(await this.#call({ method: 'GET', path, maxBytes: SMALL_BYTES }, signal), path);
  }

  /** Whether raw tensors may be sent. A server that lists no extensions gets JSON. */
  async takesBinary(signal?: AbortSignal): Promise<boolean> {
    const { tensors } = this.#options;
    if (tensors !== 'auto') return tensors === 'binary';
    const answer = await this.#call({ method: 'GET', path: '/v2', maxBytes: SMALL_BYTES }, signal);
    await this.#expectOk(answer, '/v2');
    return this.#read('/v2', () => {
      const { extensions = [] } = objectOf(parseJson(answer.body), 'server metadata');
      return listOf(extensions, 'extensions').includes('binary_tensor_data');
    });
  }

  /** Names, dtypes and shapes of a model's inputs and outputs. */
  async metadata(address: ModelAddress, signal?: AbortSignal): Promise<ModelMetadata> {
    const path = modelPath(address);
    const answer = await this.#call({ method: 'GET', path, maxBytes: SMALL_BYTES }, signal);
    await this.#expectOk(answer, path);
    return this.#read(path, () => readMetadata(parseJson(answer.body)));
  }

  /** One run of the model: tensors in, the named outputs out. Errors: those of `#call`, BELFRY_MODEL_OUTPUT_INVALID. */
  async infer(
    address: ModelAddress,
    inputs: Readonly<Record<string, TensorData>>,
    outputs: readonly string[],
    isBinary: boolean,
    signal?: AbortSignal,
  ): Promise<InferAnswer> {
    const path = `${modelPath(address)}/infer`;
    const frame = encodeRequest(String(++this.#requests), inputs, outputs, isBinary);
    const { maxResponseBytes } = this.#options;
    const answer = await this.#call({ method: 'POST', path, ...frame, maxBytes: maxResponseBytes }, signal);
    await this.#expectOk(answer, path);
    const length = answer.headers[JSON_LENGTH_HEADER];
    if (Array.isArray(length)) throw this.#invalid(path, new FrameError(`${JSON_LENGTH_HEADER} stands twice`));
    const decoded = this.#read(path, () => decodeResponse(answer.body, length));
    if (address.version !== undefined && (decoded.modelVersion ?? address.version) !== address.version) {
      throw this.#invalid(
        path,
        new FrameError(`version ${address.version} was asked, version ${decoded.modelVersion} answers`),
      );
    }
    return decoded;
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
  }

  /** Errors: BELFRY_MODEL_SERVER_FAILED, BELFRY_DEADLINE_EXCEEDED, BELFRY_OVERLOADED. */
  async #call(call: Call, signal: AbortSignal | undefined): Promise<Answer> {
    const { maxQueue, connections } = this.#options;
    if (this.#inFlight >= maxQueue + connections) {
      throw new BelfryError(
        'BELFRY_OVERLOADED',
        `model server ${this.name}: ${this.#inFlight} calls are waiting for its ${connections} connections`,
        { field: this.name, limit: maxQueue },
      );
    }
    this.#retries.earn();
    this.#inFlight++;
    const stop = new AbortController();
    const abort = () => stop.abort();
    const timer = setTimeout(abort, this.timeoutMs);
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    try {
      return await this.#send(call, stop.signal);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      if (stop.signal.aborted || error instanceof BelfryError || !CONNECT_ERRORS.has(code) || !this.#retries.take())
        throw this.#explain(error, call, stop.signal.aborted);
      this.#retried++;
      return await this.#send(call, stop.signal).catch((second: unknown) => {
        throw this.#explain(second, call, stop.signal.aborted);
      });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      this.#inFlight--;
    }
  }

  async #send({ method, path, headers, body, maxBytes }: Call, signal: AbortSignal): Promise<Answer> {
    const { authorization } = this.#options;
    const answer = await this.#pool.request({
      method,
      path: this.#base + path,
      headers: { ...headers, ...traceHeaders(), ...(authorization === undefined ? {} : { authorization }) },
      ...(body === undefined ? {} : { body }),
      signal,
    });
    const tooLarge = (bytes: string) =>
      new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `model server ${this.name}: the answer to ${path} has ${bytes} bytes, at most ${maxBytes} are read`,
        { field: this.name, limit: maxBytes },
      );
    const announced = Number(answer.headers['content-length'] ?? 0);
    const chunks: Buffer[] = [];
    let bytes = 0;
    try {
      if (announced > maxBytes) throw tooLarge(String(announced));
      for await (const chunk of answer.body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > maxBytes) throw tooLarge(`more than ${maxBytes}`);
        chunks.push(chunk);
      }
    } catch (error) {
      // Its connection goes too: what is left of the answer would only be read to be dropped.
      answer.body.on('error', () => undefined).destroy();
      throw error;
    }
    return {
      status: answer.statusCode,
      headers: answer.headers,
      body: chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, bytes),
    };
  }

  #explain(error: unknown, { path }: Call, isLate: boolean): BelfryError {
    if (error instanceof BelfryError) return error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (isLate || code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT')
      return new BelfryError(
        'BELFRY_DEADLINE_EXCEEDED',
        `model server ${this.name}: no answer to ${path} in the time that was left`,
        { field: this.name },
      );
    // The address is the operator's, and messages are shown at /readyz.
    const why = CONNECT_ERRORS.has(code ?? '') ? `no connection (${code})` : message || code;
    return new BelfryError('BELFRY_MODEL_SERVER_FAILED', `model server ${this.name}: ${path} failed: ${why}`, {
      field: this.name,
      cause: error,
    });
  }

  async #expectOk({ status, body }: Answer, path: string): Promise<void> {
    if (status === 200) return;
    const hint = status >= 300 && status < 400 ? ' (redirects are not followed; set its real address)' : '';
    throw new BelfryError(
      'BELFRY_MODEL_SERVER_FAILED',
      `model server ${this.name}: ${path} answers ${status}${hint}: ${show(messageOf(body))}`,
      { field: this.name },
    );
  }

  #read<T>(path: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      if (error instanceof FrameError) throw this.#invalid(path, error);
      throw error;
    }
  }

  #invalid(path: string, error: FrameError): BelfryError {
    return new BelfryError(
      'BELFRY_MODEL_OUTPUT_INVALID',
      `model server ${this.name}: the answer to ${path} cannot be taken: ${error.message}`,
      { field: this.name, cause: error },
    );
  }
}

function modelPath({ model, version }: ModelAddress): string {
  const versions = version === undefined ? '' : `/versions/${encodeURIComponent(version)}`;
  return `/v2/models/${encodeURIComponent(model)}${versions}`;
}

/** `{"error": "..."}` of the protocol, else the text itself. */
function messageOf(body: Buffer): string {
  const text = body.toString('utf8', 0, 2000);
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error : text;
  } catch {
    return text;
  }
}
