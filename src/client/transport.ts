/** One call over HTTP: a deadline over all its attempts, retries inside the budget, errors as BelfryClientError. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, errors } from 'undici';
import { BelfryClientError } from './client-error.js';
import { pauseMs, RetryBudget } from './retry-budget.js';

export interface TransportOptions {
  /** Sockets per server; they are kept open between calls. */
  readonly connections: number;
  /** Retries of one call, besides what the budget allows. */
  readonly retries: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Of node:tls, for a server with a certificate of one's own. */
  readonly tls?:
    { readonly ca?: string | Buffer; readonly cert?: string | Buffer; readonly key?: string | Buffer } | undefined;
}

export interface Call {
  readonly url: URL;
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly body?: unknown;
  /** Sending it twice is as good as once. */
  readonly isIdempotent: boolean;
  readonly timeoutMs: number;
  /** The server hears how much time is left, and gives up when it is over. */
  readonly tellsDeadline: boolean;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal | undefined;
  /** Statuses besides 2xx that are answers. */
  readonly accept?: readonly number[];
}

interface Reply {
  readonly status: number;
  readonly requestId: string | undefined;
  readonly retryAfterMs: number | undefined;
  readonly text: string;
}

/** Errors after which nothing has been sent: such a call may always be repeated. */
const NOT_SENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'UND_ERR_CONNECT_TIMEOUT']);
/** The server, or what stands before it, did not take the request. */
const TURNED_AWAY = new Set([429, 503]);
const NO_MORE_MS = 1;

export class Transport {
  private readonly agent: Agent;
  private readonly budget = new RetryBudget();

  constructor(private readonly options: TransportOptions) {
    this.agent = new Agent({
      connections: options.connections,
      pipelining: 1,
      keepAliveTimeout: 30_000,
      ...(options.tls === undefined ? {} : { connect: options.tls }),
    });
  }

  /** The JSON of the answer. Errors: BelfryClientError; the reason of `signal` when the caller aborts. */
  async json(call: Call): Promise<unknown> {
    const { text, status, requestId } = await this.send(call);
    try {
      return text === '' ? undefined : JSON.parse(text);
    } catch (cause) {
      throw badAnswer(call, 'is not JSON', { status, requestId, cause });
    }
  }

  /** Ends calls that run, and closes the sockets. */
  close(): Promise<void> {
    return this.agent.destroy();
  }

  private async send(call: Call): Promise<Reply> {
    const end = performance.now() + call.timeoutMs;
    this.budget.earn();
    for (let attempt = 0; ; attempt++) {
      call.signal?.throwIfAborted();
      const failure = await this.attempt(call, end, attempt + 1);
      if (!(failure instanceof BelfryClientError)) return failure;
      const pause = pauseMs(attempt, failure.retryAfterMs);
      const isWorthIt = attempt < this.options.retries && mayRepeat(call, failure);
      // A pause past the deadline would only make the caller wait for the same error.
      if (!isWorthIt || performance.now() + pause >= end - NO_MORE_MS || !this.budget.spend()) throw failure;
      await sleep(pause, undefined, call.signal === undefined ? {} : { signal: call.signal }).catch(() =>
        call.signal?.throwIfAborted(),
      );
    }
  }

  private async attempt(call: Call, end: number, attempts: number): Promise<Reply | BelfryClientError> {
    const { url, method, signal } = call;
    const leftMs = Math.max(NO_MORE_MS, end - performance.now());
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), leftMs);
    try {
      const response = await this.agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: {
          ...this.options.headers,
          ...(call.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...(call.tellsDeadline ? { 'x-deadline-ms': String(Math.max(1, Math.floor(leftMs))) } : {}),
          ...call.headers,
        },
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        signal: signal === undefined ? late.signal : AbortSignal.any([late.signal, signal]),
        // The one deadline is the one above.
        headersTimeout: 0,
        bodyTimeout: 0,
      });
      const reply = {
        status: response.statusCode,
        requestId: headerOf(response.headers['x-request-id']),
        retryAfterMs: retryAfterOf(headerOf(response.headers['retry-after'])),
        text: await response.body.text(),
      };
      const isAnswer = (reply.status >= 200 && reply.status < 300) || call.accept?.includes(reply.status) === true;
      return isAnswer ? reply : refusal(call, reply, attempts);
    } catch (cause) {
      if (signal?.aborted === true) throw signal.reason;
      if (late.signal.aborted) {
        return new BelfryClientError(
          'BELFRY_DEADLINE_EXCEEDED',
          `${method} ${url.pathname}: no answer within ${call.timeoutMs} ms; raise timeoutMs`,
          { attempts, cause },
        );
      }
      return new BelfryClientError(
        'BELFRY_SERVER_UNREACHABLE',
        `${method} ${url.origin}${url.pathname}: ${(cause as Error).message || codeOf(cause)}`,
        { attempts, cause },
      );
    } finally {
      clearTimeout(timer);
    }
  }
}

function mayRepeat(call: Call, { status, code, cause }: BelfryClientError): boolean {
  if (status !== undefined) return TURNED_AWAY.has(status);
  if (code === 'BELFRY_DEADLINE_EXCEEDED') return false;
  return call.isIdempotent || NOT_SENT.has(codeOf(cause));
}

function codeOf(cause: unknown): string {
  return String((cause as { code?: unknown }).code ?? (cause instanceof errors.UndiciError ? cause.name : 'unknown'));
}

/** The error envelope of the server, or what something before it said. */
function refusal(call: Call, { status, requestId, retryAfterMs, text }: Reply, attempts: number): BelfryClientError {
  let envelope: Record<string, unknown> | null = null;
  try {
    envelope = JSON.parse(text) as Record<string, unknown> | null;
  } catch {
    // A proxy answers with a page.
  }
  if (typeof envelope?.code !== 'string' || typeof envelope.message !== 'string')
    return badAnswer(call, `has status ${status} and is no error of Belfry`, {
      status,
      requestId,
      retryAfterMs,
      attempts,
    });
  const { code, message, field, limit, request_id: ownId } = envelope;
  return new BelfryClientError(code, message, {
    status,
    attempts,
    retryAfterMs,
    requestId: typeof ownId === 'string' ? ownId : requestId,
    field: typeof field === 'string' ? field : undefined,
    limit: typeof limit === 'string' || typeof limit === 'number' ? limit : undefined,
  });
}

function badAnswer(
  { method, url }: Call,
  what: string,
  details: ConstructorParameters<typeof BelfryClientError>[2],
): BelfryClientError {
  return new BelfryClientError(
    'BELFRY_BAD_ANSWER',
    `${method} ${url.origin}${url.pathname}: the answer ${what}`,
    details,
  );
}

function headerOf(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : value?.[0];
}

/** Seconds, or a date (RFC 9110, 10.2.3). */
function retryAfterOf(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, at - Date.now());
}
