/** A typed client of the HTTP API. It loads nothing native: it runs where the service does not. */
import type { ErrorAnswer, Operations } from './api.js';
import { type Call, Transport, type TransportOptions } from './transport.js';

export type RetrieveRequest = Operations['POST /retrieve']['body'];
export type RetrieveAnswer = Operations['POST /retrieve']['answer'];
export type BatchAnswer = Operations['POST /retrieve/batch']['answer']['responses'][number];
export type SimilarItemsRequest = Operations['POST /similar/items']['body'];
export type SimilarUsersRequest = Operations['POST /similar/users']['body'];
export type SimilarAnswer = Operations['POST /similar/items']['answer'];
export type Item = Operations['PUT /items/{id}']['body'];
export type ItemAnswer = Operations['PUT /items/{id}']['answer'];
export type ModelsAnswer = Operations['GET /models']['answer'];
export type RebuildRequest = Operations['POST /admin/rebuild']['body'];
export type RebuildAnswer = Operations['POST /admin/rebuild']['answer'];
export type BuildRecord = Operations['DELETE /admin/rebuild']['answer'];
export type GenerationsAnswer = Operations['GET /admin/generations']['answer'];
export type RecallAnswer = Operations['GET /admin/recall']['answer'];
export type ActivateAnswer = Operations['POST /admin/generations/{id}/activate']['answer'];

/** Of GET /readyz; further facts of the generation and of builds stand beside these. */
export interface Readiness {
  readonly ready: boolean;
  readonly generation?: string;
  readonly reason?: string;
  readonly [fact: string]: unknown;
}

export interface BelfryClientOptions extends Partial<
  Pick<TransportOptions, 'connections' | 'retries' | 'headers' | 'tls'>
> {
  /** Where the service listens: `http://127.0.0.1:8080`. */
  readonly url: string | URL;
  /** Where /admin is, when it has a port of its own; default `url`. */
  readonly adminUrl?: string | URL;
  /** Sent as `x-api-key`. */
  readonly apiKey?: string;
  /** Time of one call with its retries, milliseconds; the server hears what is left of it. Default 1000. */
  readonly timeoutMs?: number;
  /** Likewise of calls under /admin; default 60,000. */
  readonly adminTimeoutMs?: number;
}

export interface CallOptions {
  readonly timeoutMs?: number;
  /** Ends the call; it rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Sent as `x-request-id`: what the log of the server calls the request. */
  readonly requestId?: string;
  /** For example `traceparent`. */
  readonly headers?: Readonly<Record<string, string>>;
}

export class BelfryClient {
  private readonly transport: Transport;
  private readonly url: URL;
  private readonly adminUrl: URL;
  private readonly timeoutMs: number;
  private readonly adminTimeoutMs: number;

  /** Errors: TypeError for an address that is none. */
  constructor(options: BelfryClientOptions) {
    const { url, adminUrl = url, apiKey, timeoutMs = 1000, adminTimeoutMs = 60_000 } = options;
    this.url = new URL(url);
    this.adminUrl = new URL(adminUrl);
    this.timeoutMs = timeoutMs;
    this.adminTimeoutMs = adminTimeoutMs;
    this.transport = new Transport({
      connections: options.connections ?? 64,
      retries: options.retries ?? 2,
      headers: { ...options.headers, ...(apiKey === undefined ? {} : { 'x-api-key': apiKey }) },
      tls: options.tls,
    });
  }

  /** The top k items for a user. Errors of all calls: BelfryClientError. */
  retrieve(request: RetrieveRequest, options?: CallOptions): Promise<RetrieveAnswer> {
    return this.ask('/retrieve', request, options);
  }

  /** Many requests in one call, each with its own answer or error (isRefused tells), in their order. */
  async retrieveBatch(requests: readonly RetrieveRequest[], options?: CallOptions): Promise<readonly BatchAnswer[]> {
    const body: Operations['POST /retrieve/batch']['body'] = { requests };
    const { responses } = await this.ask<Operations['POST /retrieve/batch']['answer']>(
      '/retrieve/batch',
      body,
      options,
    );
    return responses;
  }

  similarItems(request: SimilarItemsRequest, options?: CallOptions): Promise<SimilarAnswer> {
    return this.ask('/similar/items', request, options);
  }

  similarUsers(request: SimilarUsersRequest, options?: CallOptions): Promise<SimilarAnswer> {
    return this.ask('/similar/users', request, options);
  }

  /** Adds or replaces an item; the next request may be answered with it. */
  putItem(id: string | number, item: Item, options?: CallOptions): Promise<ItemAnswer> {
    return this.call('PUT', `/items/${encodeURIComponent(id)}`, item, true, options);
  }

  deleteItem(id: string | number, options?: CallOptions): Promise<ItemAnswer> {
    return this.call('DELETE', `/items/${encodeURIComponent(id)}`, undefined, true, options);
  }

  /** Whether the process is alive. */
  health(options?: CallOptions): Promise<{ readonly status: string }> {
    return this.call('GET', '/healthz', undefined, true, options);
  }

  /** Whether it answers requests; `ready: false` is an answer, no error. */
  ready(options?: CallOptions): Promise<Readiness> {
    return this.call('GET', '/readyz', undefined, true, options, [503]);
  }

  /** The model registry of what serves. */
  models(options?: CallOptions): Promise<ModelsAnswer> {
    return this.call('GET', '/models', undefined, true, options);
  }

  /** Starts a build; `rebuildStatus` tells how far it is. */
  rebuild(request: RebuildRequest = {}, options?: CallOptions): Promise<RebuildAnswer> {
    return this.administer('POST', '/admin/rebuild', request, options);
  }

  rebuildStatus(options?: CallOptions): Promise<RebuildAnswer> {
    return this.administer('GET', '/admin/rebuild', undefined, options);
  }

  cancelRebuild(options?: CallOptions): Promise<BuildRecord> {
    return this.administer('DELETE', '/admin/rebuild', undefined, options);
  }

  generations(options?: CallOptions): Promise<GenerationsAnswer> {
    return this.administer('GET', '/admin/generations', undefined, options);
  }

  /** Serves this generation: a rollback, or a way forward again. */
  activate(id: string, options?: CallOptions): Promise<ActivateAnswer> {
    return this.administer('POST', `/admin/generations/${encodeURIComponent(id)}/activate`, undefined, options);
  }

  /** How near to exact the answers are, by samples of what is asked. */
  recall(options?: CallOptions): Promise<RecallAnswer> {
    return this.administer('GET', '/admin/recall', undefined, options);
  }

  /** Ends what runs and closes the sockets. */
  close(): Promise<void> {
    return this.transport.close();
  }

  private ask<T>(path: string, body: unknown, options?: CallOptions): Promise<T> {
    return this.call('POST', path, body, true, options); // a question may be asked twice
  }

  private call<T>(
    method: Call['method'],
    path: string,
    body: unknown,
    isIdempotent: boolean,
    options: CallOptions = {},
    accept: readonly number[] = [],
  ): Promise<T> {
    const tellsDeadline = method === 'POST';
    return this.send(
      { method, url: at(this.url, path), body, isIdempotent, tellsDeadline, accept },
      this.timeoutMs,
      options,
    );
  }

  private administer<T>(method: Call['method'], path: string, body: unknown, options: CallOptions = {}): Promise<T> {
    const isIdempotent = method === 'GET';
    const url = at(this.adminUrl, path);
    return this.send({ method, url, body, isIdempotent, tellsDeadline: false }, this.adminTimeoutMs, options);
  }

  private async send<T>(
    call: Omit<Call, 'timeoutMs' | 'headers' | 'signal'>,
    otherwiseMs: number,
    { timeoutMs = otherwiseMs, signal, requestId, headers }: CallOptions,
  ): Promise<T> {
    return (await this.transport.json({
      ...call,
      timeoutMs,
      signal,
      headers: { ...headers, ...(requestId === undefined ? {} : { 'x-request-id': requestId }) },
    })) as T;
  }
}

/** Whether one of a batch has an error instead of an answer. */
export function isRefused(answer: BatchAnswer): answer is { readonly error: ErrorAnswer } {
  return 'error' in answer;
}

/** The address may have a path of its own, that of a proxy. */
function at(base: URL, path: string): URL {
  return new URL(`${base.pathname.replace(/\/$/, '')}${path}`, base);
}
