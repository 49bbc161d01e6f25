/** `belfry query`: one /retrieve from the command line, in process or against a running server. */
import { readFileSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { CLIENT_KEY_VARIABLE } from '../config/environment.js';
import { loadSettings } from '../config/load.js';
import { BelfryError, ERROR_TABLE, type ErrorCode, show as quote } from '../errors.js';
import { Generation } from '../generation/generation.js';
import { GenerationStore } from '../generation/store.js';
import { buildApp } from '../http/app.js';
import { Retriever } from '../retrieval/retriever.js';
import { Metrics } from '../telemetry/metrics.js';
import { VERSION } from '../version.js';
import { currentGeneration } from './current-generation.js';
import { loadOptions } from './load-options.js';
import { openUpserts } from './open-upserts.js';
import { addExportOptions, type ExportFlags, exportSettings } from './export-options.js';
import { colors, numberOf, ProgressLine, print, printJson, table } from './terminal.js';

interface QueryFlags extends ExportFlags {
  user?: string;
  features?: string;
  embedding?: string;
  items?: string[];
  k?: number;
  rerank?: boolean | string;
  exact?: boolean;
  filter?: string;
  excludeSeen?: boolean;
  excludeSets?: string[];
  withMetadata?: string[];
  timeoutMs?: number;
  body?: string;
  url?: string;
  key?: string;
  json?: boolean;
}

export function addQuery(program: Command): void {
  addExportOptions(program.command('query'))
    .description('ask for candidates, in process or (--url) from a running server')
    .option('--user <id>', 'a user id; digits are an integer id, \'"42"\' a string of digits')
    .option('--features <json>', 'user features as a JSON object')
    .option('--embedding <json>', 'a query vector as a JSON list')
    .option('--items <ids...>', 'item ids whose mean is the query')
    .option('-k, --k <n>', 'how many items', numberOf('-k'))
    .option('--rerank [name]', 're-rank, with the reranker of that name')
    .option('--exact', 'search with a proof of exactness')
    .option('--filter <json>', 'a filter as in POST /retrieve')
    .option('--exclude-seen', 'leave out what the user has')
    .option('--exclude-sets <names...>', 'leave out the items of these exclusion sets')
    .option('--with-metadata <columns...>', 'item columns to show')
    .option('--timeout-ms <n>', 'deadline; default 1000', numberOf('--timeout-ms'))
    .option('--body <file>', 'a whole POST /retrieve body from a file, - for standard input')
    .option('--url <address>', 'ask this server, for example http://127.0.0.1:8080')
    .addOption(new Option('--key <key>', 'API key for --url').env(CLIENT_KEY_VARIABLE))
    .option('--json', 'the whole answer as JSON')
    .action(query);
}

interface Answer {
  items: {
    id: string | number;
    score: number;
    retrieval_score: number;
    retrieval_rank: number;
    metadata?: Record<string, unknown>;
  }[];
  generation: string;
  degraded: string[];
}

async function query(flags: QueryFlags): Promise<void> {
  const body =
    flags.body === undefined
      ? bodyOf(flags)
      : json('--body', readFileSync(flags.body === '-' ? 0 : flags.body, 'utf8'));
  const { status, text } =
    flags.url === undefined ? await askInProcess(flags, body) : await askServer(flags.url, body, flags.key);
  const answer = parseAnswer(text, status);
  if (flags.json) printJson(answer);
  else print(show(answer, flags.withMetadata ?? []));
}

function bodyOf(flags: QueryFlags): Record<string, unknown> {
  const id = (text: string): unknown => (/^(\d+|".*")$/.test(text) ? json('id', text) : text);
  const body: Record<string, unknown> = {
    user_id: flags.user === undefined ? undefined : id(flags.user),
    features: flags.features === undefined ? undefined : json('--features', flags.features),
    embedding: flags.embedding === undefined ? undefined : json('--embedding', flags.embedding),
    item_ids: flags.items?.map(id),
    k: flags.k,
    rerank: flags.rerank,
    exact: flags.exact,
    filter: flags.filter === undefined ? undefined : json('--filter', flags.filter),
    exclude_seen: flags.excludeSeen,
    exclude_sets: flags.excludeSets,
    with_metadata: flags.withMetadata,
    timeout_ms: flags.timeoutMs ?? 1000, // a first call pays for loading, and nobody waits in a queue here
  };
  return JSON.parse(JSON.stringify(body));
}

/** The address may be that of another program, or of another Belfry. */
function parseAnswer(text: string, status: number): Answer {
  let answer: Partial<Answer> & { code?: string; message?: string } = {};
  try {
    answer = JSON.parse(text) ?? {};
  } catch {
    // the message below shows what came
  }
  if (status === 200 && Array.isArray(answer.items)) return answer as Answer;
  if (answer.code !== undefined && answer.code in ERROR_TABLE)
    throw new BelfryError(answer.code as ErrorCode, answer.message ?? text);
  throw new BelfryError(
    'BELFRY_SERVER_UNREACHABLE',
    `no Belfry answers at this address: status ${status}, ${quote(text)}`,
    { field: 'url' },
  );
}

function json(field: string, text: string): Record<string, unknown> {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BelfryError('BELFRY_INVALID_ARGUMENT', `${field}: not JSON (${(error as Error).message})`, {
      field,
      cause: error,
    });
  }
}

async function askServer(url: string, body: unknown, key?: string): Promise<{ status: number; text: string }> {
  try {
    const response = await fetch(new URL('retrieve', url.endsWith('/') ? url : `${url}/`), {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
      },
      body: JSON.stringify(body),
    });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    const cause = (error as Error).cause as Error | undefined;
    throw new BelfryError(
      'BELFRY_SERVER_UNREACHABLE',
      `${url}: no answer (${cause?.message ?? (error as Error).message}); start it with belfry serve`,
      {
        field: 'url',
        cause: error,
      },
    );
  }
}

/** The same application as the server's, without a socket: the same checks, the same answers. */
async function askInProcess(flags: QueryFlags, body: object): Promise<{ status: number; text: string }> {
  const settings = loadSettings(exportSettings(flags));
  const progress = new ProgressLine();
  const published = await currentGeneration(settings, progress);
  const store = new GenerationStore(await Generation.load(published, loadOptions(settings)));
  const metrics = new Metrics();
  const upserts = await openUpserts(settings, store, metrics, (message) => process.stderr.write(`${message}\n`));
  const retriever = new Retriever(store, metrics, undefined, upserts);
  const app = await buildApp({ retriever, metrics, settings, version: VERSION });
  try {
    const response = await app.inject({
      method: 'POST',
      url: '/retrieve',
      headers: { 'content-type': 'application/json' },
      payload: JSON.stringify(body),
    });
    return { status: response.statusCode, text: response.body };
  } finally {
    await app.close();
    await upserts.close();
    await store.close();
  }
}

function show(answer: Answer, columns: readonly string[]): string {
  const rows = answer.items.map((item, place) => [
    place + 1,
    String(item.id),
    item.score.toFixed(4),
    item.retrieval_score.toFixed(4),
    item.retrieval_rank,
    ...columns.map((column) => String(item.metadata?.[column] ?? '')),
  ]);
  const notes = answer.degraded.length > 0 ? `\n${colors.yellow(`degraded: ${answer.degraded.join(', ')}`)}` : '';
  return `${table([['#', 'item', 'score', 'retrieval', 'rank', ...columns], ...rows])}\n${colors.dim(`generation ${answer.generation}`)}${notes}`;
}
