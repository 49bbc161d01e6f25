/** The server under load: is it there, does it answer the requests, what does it say of itself. */
import { Pool } from 'undici';
import { BelfryError, show } from '../../errors.js';
import type { Id } from '../../types.js';
import type { PreparedRequest } from './generator.js';

/** User ids are asked for by their first character, this many each. */
const SUGGESTIONS = 100;
const FIRST_CHARACTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

export interface Answered {
  readonly status: number;
  readonly body: Buffer;
}

export class Target {
  readonly #client: Pool;

  private constructor(
    readonly origin: string,
    private readonly timeoutMs: number,
    /** Of an API key, sent with whatever is asked. */
    private readonly authorization: readonly string[],
  ) {
    // Several: while an admin request takes its seconds, the metrics are still read.
    this.#client = new Pool(origin, {
      connections: 4,
      connect: { timeout: Math.min(timeoutMs, 5000) },
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
    });
  }

  /** `address` names a server: http://host:port. Error: BELFRY_INVALID_ARGUMENT. */
  static at(address: string, timeoutMs: number, key?: string): Target {
    let url: URL;
    try {
      url = new URL(address);
    } catch (error) {
      throw new BelfryError('BELFRY_INVALID_ARGUMENT', `url: expected http://host:port, received ${show(address)}`, {
        field: 'url',
        cause: error,
      });
    }
    if (url.protocol !== 'http:' && url.protocol !== 'https:')
      throw new BelfryError('BELFRY_INVALID_ARGUMENT', `url: expected http or https, received ${show(address)}`, {
        field: 'url',
      });
    return new Target(url.origin, timeoutMs, key === undefined ? [] : ['authorization', `Bearer ${key}`]);
  }

  /** Error: BELFRY_SERVER_UNREACHABLE. */
  async ask({ path, method, headers, body }: PreparedRequest): Promise<Answered> {
    try {
      const answer = await this.#client.request({
        path,
        method,
        headers: [...headers, ...this.authorization] as string[],
        body,
      });
      return { status: answer.statusCode, body: Buffer.from(await answer.body.arrayBuffer()) };
    } catch (error) {
      throw new BelfryError(
        'BELFRY_SERVER_UNREACHABLE',
        `${this.origin}: no answer to ${method} ${path} in ${this.timeoutMs} ms (${(error as Error).message || (error as NodeJS.ErrnoException).code}); start it with belfry serve`,
        { field: 'url', cause: error },
      );
    }
  }

  /** The address for administrators, to which a server on this machine sends those who ask for its page; else this one. */
  async adminAddress(): Promise<string> {
    try {
      const { headers, body } = await this.#client.request({ path: '/', method: 'GET' });
      await body.dump();
      return typeof headers.location === 'string' ? new URL(headers.location, this.origin).origin : this.origin;
    } catch {
      return this.origin; // the first request to it says what is wrong
    }
  }

  get(path: string): Promise<Answered> {
    return this.ask({ path, method: 'GET', headers: [], body: null });
  }

  post(path: string, body: unknown): Promise<Answered> {
    return this.ask({
      path,
      method: 'POST',
      headers: ['content-type', 'application/json'],
      body: JSON.stringify(body),
    });
  }

  /**
   * Sends some of the requests once: a mix that the server refuses measures nothing but refusals.
   * Error: BELFRY_BENCH_REFUSED with what the server said.
   */
  async rehearse(requests: readonly PreparedRequest[], count = 5): Promise<void> {
    const step = Math.max(1, Math.floor(requests.length / count));
    for (let at = 0; at < requests.length; at += step) {
      const request = requests[at] as PreparedRequest;
      const { status, body } = await this.ask(request);
      // Overload and late answers are what is measured; a request that is wrong, or a route that is not there, is not.
      if (status < 400 || status === 503 || status === 504 || status === 429) continue;
      throw new BelfryError(
        'BELFRY_BENCH_REFUSED',
        `${this.origin}${request.path} answers ${status} to request ${at + 1} of the mix: ${body.toString('utf8', 0, 400)}`,
        { field: 'mix' },
      );
    }
  }

  /** A KServe v2 server, and its model is loaded. Errors: BELFRY_SERVER_UNREACHABLE, BELFRY_BENCH_REFUSED. */
  async mustBeReady(model: string): Promise<void> {
    const path = `/v2/models/${encodeURIComponent(model)}/ready`;
    const { status, body } = await this.get(path);
    if (status >= 200 && status < 300) return;
    throw new BelfryError(
      'BELFRY_BENCH_REFUSED',
      `${this.origin}${path} answers ${status}: ${body.toString('utf8', 0, 200)}; is the model loaded?`,
      { field: 'kserve' },
    );
  }

  /** Ids of users that the server knows, from its console's look-up; empty where it has none. */
  async userIds(): Promise<Id[]> {
    const ids = new Set<Id>();
    for (const first of ['', ...FIRST_CHARACTERS]) {
      const { status, body } = await this.get(`/console/users?limit=${SUGGESTIONS}&q=${first}`);
      if (status !== 200) return [];
      const found = idsOf(body);
      if (found === undefined) return [];
      for (const id of found) ids.add(id);
    }
    return [...ids];
  }

  close(): Promise<void> {
    return this.#client.destroy();
  }
}

/** Undefined where the body is not that of our console. */
function idsOf(body: Buffer): readonly Id[] | undefined {
  try {
    const { ids } = JSON.parse(body.toString()) as { ids?: unknown };
    return Array.isArray(ids) ? (ids as Id[]) : undefined;
  } catch {
    return undefined;
  }
}
