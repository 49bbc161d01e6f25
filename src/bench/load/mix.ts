/** What is asked: requests from a file, from user ids, or one recorded body; and the order in which they are sent. */
import { readFile } from 'node:fs/promises';
import { BelfryError, invalid, show } from '../../errors.js';
import type { Id } from '../../types.js';
import { drawFrom, seeded, shuffle, zipfCumulative } from '../random.js';
import type { PreparedRequest } from './generator.js';

/** Distinct requests, and positions in them in the order of sending. */
export interface RequestMix {
  readonly requests: readonly PreparedRequest[];
  readonly order: Uint32Array;
  /** By position in `requests`: ids of the true top k, where they are given, one list for each request of a batch. */
  readonly truth: readonly (readonly (readonly Id[])[] | undefined)[];
  /** For the report: what it is, in words. */
  readonly description: string;
}

export interface ShapingOptions {
  readonly k: number;
  /** Share of requests with `"rerank": true`. */
  readonly rerankShare: number;
  /** One of these is drawn for the share of requests that are filtered. */
  readonly filters: readonly object[];
  readonly filterShare: number;
  /** Requests in one POST /retrieve/batch; 1 sends them to /retrieve. */
  readonly batch: number;
  /** Exponent of the popularity of users; 0 asks for all alike. */
  readonly zipf: number;
  readonly seed: number;
}

/** Orders are drawn up to here, and begun again: longer ones would not repeat less in any way that a cache could see. */
const DRAWS = 50_000;
const JSON_HEADERS = ['content-type', 'application/json'];

/** User ids by zipf: which user is how popular is drawn from the seed. Error: BELFRY_INVALID_ARGUMENT without a user. */
export function userMix(
  users: readonly Id[],
  shaping: ShapingOptions,
  /** By position in `users`. */
  given?: readonly (readonly Id[])[],
): RequestMix {
  if (users.length === 0) throw emptyMix('no user id to ask for; give --users FILE, --mix FILE or --data DIR');
  const random = seeded(shaping.seed);
  const ranked = shuffle([...users.keys()], random);
  const cumulative = zipfCumulative(ranked.length, shaping.zipf);
  const found = new Map<string, number>();
  const bodies: string[] = [];
  const truth: (readonly Id[])[][] = [];
  let drawn: number[] = [];
  const draw = (): object => {
    const user = ranked[drawFrom(cumulative, random)] as number;
    drawn.push(user);
    const body: Record<string, unknown> = { user_id: users[user], k: shaping.k };
    if (random() < shaping.rerankShare) body.rerank = true;
    if (shaping.filters.length > 0 && random() < shaping.filterShare)
      body.filter = shaping.filters[Math.floor(random() * shaping.filters.length)];
    return body;
  };
  const order = Uint32Array.from({ length: Math.ceil(DRAWS / shaping.batch) }, () => {
    drawn = [];
    const body = shaping.batch === 1 ? draw() : { requests: Array.from({ length: shaping.batch }, draw) };
    const text = JSON.stringify(body);
    let at = found.get(text);
    if (at === undefined) {
      at = bodies.push(text) - 1;
      found.set(text, at);
      if (given !== undefined) truth.push(drawn.map((user) => given[user] as readonly Id[]));
    }
    return at;
  });
  const path = shaping.batch === 1 ? '/retrieve' : '/retrieve/batch';
  return {
    requests: bodies.map((body) => ({ path, method: 'POST', headers: JSON_HEADERS, body })),
    order,
    truth,
    description: `${users.length} users, zipf ${shaping.zipf}`,
  };
}

/** What a line of a mix file may hold besides a plain POST /retrieve body. */
interface Envelope {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
  readonly weight?: number;
  readonly truth?: readonly Id[];
}

/**
 * A mix file: JSON lines, or one JSON list. A line is a POST /retrieve body, or {"path", "method", "headers", "body",
 * "weight", "truth"} with at least a path or a body. Without weights the lines are sent in their order, again and again.
 * Errors: BELFRY_INVALID_ARGUMENT naming file and line; BELFRY_BENCH_TRUTH for a truth that is shorter than k.
 */
export async function fileMix(
  file: string,
  seed: number,
  /** Reads the true ids of `lines` requests, one list a line. */
  readTruth?: (lines: number, k: number) => Promise<readonly (readonly Id[])[]>,
): Promise<RequestMix> {
  const entries = parseEntries(await readFile(file, 'utf8'), file);
  if (entries.length === 0) throw emptyMix(`${file} holds no request`);
  const weights = entries.map(({ entry, where }) => weightOf(entry.weight, where));
  const requests = entries.map(({ entry, where }) => preparedOf(entry, where));
  const ks = entries.map(({ entry: { body } }) => Number((body as { k?: unknown } | undefined)?.k ?? 10));
  const given = await readTruth?.(entries.length, Math.max(...ks));
  const truth = entries.map(({ entry, where }, line) => {
    const ids = given?.[line] ?? truthOf(entry, where);
    return ids === undefined ? undefined : [ids];
  });
  const isWeighted = entries.some(({ entry }) => entry.weight !== undefined);
  let order = Uint32Array.from(entries.keys());
  if (isWeighted) {
    let sum = 0;
    const cumulative = Float64Array.from(weights, (weight) => (sum += weight));
    if (sum === 0) throw emptyMix(`${file}: all weights are 0`);
    const random = seeded(seed);
    order = Uint32Array.from({ length: DRAWS }, () => drawFrom(cumulative, random));
  }
  return { requests, order, truth, description: `${entries.length} requests of ${file}` };
}

/** One body, sent as the bytes that the file holds: for KServe v2 and other targets. */
export async function recordedMix(file: string, path: string, headers: readonly string[]): Promise<RequestMix> {
  const body = await readFile(file);
  if (body.length === 0) throw emptyMix(`${file} is empty`);
  const named = headers.some((name, i) => i % 2 === 0 && name.toLowerCase() === 'content-type');
  return {
    requests: [{ path, method: 'POST', headers: named ? headers : [...JSON_HEADERS, ...headers], body }],
    order: Uint32Array.of(0),
    truth: [],
    description: `the recorded body ${file}, ${body.length} bytes`,
  };
}

interface Entry {
  readonly entry: Envelope;
  readonly where: string;
}

function parseEntries(text: string, file: string): Entry[] {
  const parsed: { value: unknown; where: string }[] = [];
  if (text.trimStart().startsWith('[')) {
    const list = parseJson(text, file) as unknown[];
    list.forEach((value, i) => parsed.push({ value, where: `${file} entry ${i + 1}` }));
  } else {
    text.split('\n').forEach((line, i) => {
      const where = `${file} line ${i + 1}`;
      if (line.trim() !== '') parsed.push({ value: parseJson(line, where), where });
    });
  }
  return parsed.map(({ value, where }) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw invalid('mix', `${where} to be a JSON object`, value);
    const isEnvelope = 'path' in value || 'body' in value;
    if (isEnvelope) return { entry: value as Envelope, where };
    const { weight, truth, ...body } = value as Envelope & Record<string, unknown>;
    return {
      entry: { body, ...(weight === undefined ? {} : { weight }), ...(truth === undefined ? {} : { truth }) },
      where,
    };
  });
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BelfryError('BELFRY_INVALID_ARGUMENT', `mix: ${where} is not JSON (${(error as Error).message})`, {
      field: 'mix',
      cause: error,
    });
  }
}

function weightOf(weight: unknown, where: string): number {
  if (weight === undefined) return 1;
  if (typeof weight === 'number' && weight >= 0 && Number.isFinite(weight)) return weight;
  throw invalid('mix', `${where}: a weight of 0 or more`, weight);
}

function preparedOf(
  { path = '/retrieve', method = 'POST', headers = {}, body }: Envelope,
  where: string,
): PreparedRequest {
  if (typeof path !== 'string' || !path.startsWith('/'))
    throw invalid('mix', `${where}: a path that begins with /`, path);
  if (method !== 'POST' && method !== 'GET') throw invalid('mix', `${where}: method POST or GET`, method);
  if (method === 'GET') return { path, method, headers: Object.entries(headers).flat(), body: null };
  return {
    path,
    method,
    headers: [...JSON_HEADERS, ...Object.entries(headers).flat()],
    body: typeof body === 'string' ? body : JSON.stringify(body ?? {}),
  };
}

function truthOf({ truth, body }: Envelope, where: string): readonly Id[] | undefined {
  if (truth === undefined) return undefined;
  const k = (body as { k?: unknown } | undefined)?.k ?? 10;
  if (Array.isArray(truth) && typeof k === 'number' && truth.length >= k) return truth as Id[];
  throw new BelfryError(
    'BELFRY_BENCH_TRUTH',
    `truth: ${where}: expected at least ${show(k)} ids (its k), received ${Array.isArray(truth) ? truth.length : show(truth)}; is the file cut off?`,
    { field: 'truth' },
  );
}

function emptyMix(why: string): BelfryError {
  return new BelfryError('BELFRY_INVALID_ARGUMENT', `mix: ${why}`, { field: 'mix' });
}
