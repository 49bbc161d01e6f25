/** Calls of the service. Every failure is an ApiError with the service's own envelope, or one made here of the same form. */
import type { ErrorEnvelope, Id, Info, RetrieveAnswer, RetrieveBody, SimilarAnswer } from './contract.js';
import { askForKey, withKey } from './key.js';

export class ApiError extends Error {
  constructor(
    readonly envelope: ErrorEnvelope,
    readonly status: number,
  ) {
    super(envelope.message);
    this.name = 'ApiError';
  }
}

export interface Timed<T> {
  readonly answer: T;
  /** From sending to the parsed answer, as the browser saw it. */
  readonly roundTripMs: number;
}

export const fetchInfo = (): Promise<Info> => getJson<Info>('/console/info');

export async function suggest(kind: 'items' | 'users', text: string, signal: AbortSignal): Promise<readonly Id[]> {
  const query = new URLSearchParams({ q: text, limit: '12' });
  return (await getJson<{ ids: Id[] }>(`/console/${kind}?${query}`, signal)).ids;
}

export async function isReady(): Promise<boolean> {
  try {
    return (await fetch('/readyz', { cache: 'no-store' })).ok;
  } catch {
    return false; // not reachable is not ready: the dot in the header says so
  }
}

export async function retrieve(body: RetrieveBody, signal: AbortSignal): Promise<Timed<RetrieveAnswer>> {
  const started = performance.now();
  const answer = await postJson<RetrieveAnswer>('/retrieve', body, signal);
  return { answer, roundTripMs: performance.now() - started };
}

export const similarItems = (
  body: { item_id: Id; k: number; with_metadata: string[]; timeout_ms: number },
  signal: AbortSignal,
): Promise<SimilarAnswer> => postJson<SimilarAnswer>('/similar/items', body, signal);

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === 'AbortError';
}

export function asEnvelope(error: unknown): ErrorEnvelope {
  if (error instanceof ApiError) return error.envelope;
  return { code: 'PAGE_ERROR', message: error instanceof Error ? error.message : String(error) };
}

export function getJson<T>(url: string, signal?: AbortSignal): Promise<T> {
  return request<T>(url, { cache: 'no-store', ...(signal === undefined ? {} : { signal }) });
}

export function postJson<T>(url: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  return request<T>(url, {
    method: 'POST',
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Of a route that answers text; its errors are JSON as everywhere. */
export async function getText(url: string): Promise<string> {
  const response = await reach(url, { cache: 'no-store' });
  if (response.ok) return response.text();
  throw await failureOf(url, response);
}

async function request<T>(url: string, init: RequestInit): Promise<T> {
  const response = await reach(url, init);
  const answer: unknown = response.ok
    ? await response.json().catch((error: unknown) => {
        if (isAbort(error)) throw error;
        return undefined;
      })
    : undefined;
  if (answer !== undefined) return answer as T;
  throw await failureOf(url, response);
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    const response = await fetch(url, withKey(init));
    return response.status === 401 && (await askForKey()) ? await fetch(url, withKey(init)) : response;
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError(
      { code: 'UNREACHABLE', message: `${url}: the service does not answer; is it still running?` },
      0,
    );
  }
}

async function failureOf(url: string, response: Response): Promise<ApiError> {
  const answer: unknown = response.bodyUsed
    ? undefined
    : await response.json().catch((error: unknown) => {
        if (isAbort(error)) throw error;
        return undefined;
      });
  if (isEnvelope(answer)) return new ApiError(answer, response.status);
  return new ApiError(
    { code: `HTTP_${response.status}`, message: `${url}: answered ${response.status} without a JSON body` },
    response.status,
  );
}

function isEnvelope(value: unknown): value is ErrorEnvelope {
  return typeof value === 'object' && value !== null && 'code' in value && 'message' in value;
}
