/**
 * The part of MLflow's REST interface that finds the files of a model version. Requests go to the address of the settings
 * and nowhere else: no redirect is followed, and a host in an answer is refused. Answers are bounded and checked.
 *
 * Errors: BELFRY_MLFLOW_UNREACHABLE (worth another try), BELFRY_MLFLOW_REFUSED (the server says no), BELFRY_MLFLOW_INVALID
 * (what it says cannot be used).
 */
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { type Dispatcher, Pool } from 'undici';
import { guardedLookup } from '../config/addresses.js';
import type { MlflowReference, MlflowSettings } from '../config/mlflow.js';
import { referenceText } from '../config/mlflow.js';
import { BelfryError, show } from '../errors.js';

const CONNECT_MS = 5_000;
/** For the head of an answer, and between two pieces of its body. */
const SILENCE_MS = 30_000;
const ANSWER_BYTES = 4 * 1024 * 1024;

const Version = Type.Object({
  name: Type.String(),
  version: Type.String({ pattern: '^[0-9]{1,18}$' }),
  status: Type.Optional(Type.String()),
});
const OneVersion = Type.Object({ model_version: Version });
const Versions = Type.Object({ model_versions: Type.Optional(Type.Array(Version)) });
const Uri = Type.Object({ artifact_uri: Type.String({ minLength: 1, maxLength: 4096 }) });
const Listing = Type.Object({
  files: Type.Optional(
    Type.Array(
      Type.Object({
        path: Type.String({ minLength: 1, maxLength: 1024 }),
        is_dir: Type.Optional(Type.Boolean()),
        file_size: Type.Optional(Type.Union([Type.Integer({ minimum: 0 }), Type.String({ pattern: '^[0-9]{1,15}$' })])),
      }),
      { maxItems: 10_000 },
    ),
  ),
});

export interface ArtifactFile {
  /** Relative to the folder that was listed. */
  readonly path: string;
  readonly isFolder: boolean;
  readonly bytes: number | undefined;
}

export class MlflowClient {
  private readonly pool: Pool;
  private readonly base: URL;
  private readonly headers: Record<string, string>;

  /** Opens no connection. */
  constructor(settings: MlflowSettings & { mlflow_url: string }) {
    const { mlflow_url, mlflow_token, mlflow_username, mlflow_password, allow_link_local } = settings;
    this.base = new URL(mlflow_url);
    this.pool = new Pool(this.base.origin, {
      connections: 4,
      headersTimeout: SILENCE_MS,
      bodyTimeout: SILENCE_MS,
      connect: { timeout: CONNECT_MS, lookup: guardedLookup({ allowLinkLocal: allow_link_local }) },
    });
    const basic = Buffer.from(`${mlflow_username ?? ''}:${mlflow_password ?? ''}`).toString('base64');
    this.headers =
      mlflow_token !== undefined
        ? { authorization: `Bearer ${mlflow_token}` }
        : mlflow_username !== undefined
          ? { authorization: `Basic ${basic}` }
          : {};
  }

  /** The version that an alias or a stage names now. */
  async versionOf(reference: MlflowReference): Promise<string> {
    const { name, alias, version, stage } = reference;
    const what = referenceText(reference);
    if (alias !== undefined) {
      const found = await this.get(OneVersion, 'registered-models/alias', { name, alias }, what);
      return readyVersion(found.model_version, what);
    }
    if (version !== undefined) {
      const found = await this.get(OneVersion, 'model-versions/get', { name, version: String(version) }, what);
      return readyVersion(found.model_version, what);
    }
    const found = await this.get(Versions, 'registered-models/get-latest-versions', { name, stages: stage! }, what);
    const [latest] = found.model_versions ?? [];
    if (latest === undefined)
      throw new BelfryError('BELFRY_MLFLOW_REFUSED', `${what}: no version is in stage ${stage}`, { field: what });
    return readyVersion(latest, what);
  }

  async artifactUri(name: string, version: string): Promise<string> {
    const what = `${name}/${version}`;
    return (await this.get(Uri, 'model-versions/get-download-uri', { name, version }, what)).artifact_uri;
  }

  /** Files right below a folder of proxied artifacts. */
  async list(folder: string, what: string): Promise<ArtifactFile[]> {
    const answer = await this.json(Listing, 'mlflow-artifacts/artifacts', { path: folder }, what);
    return (answer.files ?? []).map(({ path, is_dir, file_size }) => ({
      path,
      isFolder: is_dir === true,
      bytes: file_size === undefined ? undefined : Number(file_size),
    }));
  }

  /** The bytes of one proxied artifact. */
  async download(path: string, what: string): Promise<AsyncIterable<Buffer>> {
    const parts = path.split('/').map(encodeURIComponent).join('/');
    const { body } = await this.request(`mlflow-artifacts/artifacts/${parts}`, {}, what);
    return readSafely(body, what);
  }

  async close(): Promise<void> {
    await this.pool.destroy();
  }

  private get<S extends TSchema>(schema: S, call: string, query: Record<string, string>, what: string) {
    return this.json(schema, `mlflow/${call}`, query, what);
  }

  private async json<S extends TSchema>(
    schema: S,
    call: string,
    query: Record<string, string>,
    what: string,
  ): Promise<Static<S>> {
    const { body } = await this.request(call, query, what);
    const text = (await readBounded(readSafely(body, what), what)).toString('utf8');
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch {
      throw invalidAnswer(what, `${call} answered no JSON: ${show(text)}`);
    }
    if (!Value.Check(schema, answer)) throw invalidAnswer(what, `${call} answered something else: ${show(answer)}`);
    return answer as Static<S>;
  }

  private async request(
    call: string,
    query: Record<string, string>,
    what: string,
  ): Promise<Dispatcher.ResponseData<unknown>> {
    const path = `${this.base.pathname.replace(/\/$/, '')}/api/2.0/${call}`;
    let response: Dispatcher.ResponseData<unknown>;
    try {
      response = await this.pool.request({ method: 'GET', path, query, headers: this.headers });
    } catch (error) {
      throw unreachable(what, error);
    }
    const { statusCode: status, body } = response;
    if (status === 200) return response;
    const text = (await readBounded(readSafely(body, what), what)).toString('utf8').slice(0, 300);
    if (status >= 500 || status === 429) throw unreachable(what, new Error(`status ${status}: ${text}`));
    const cure = status === 401 || status === 403 ? '; set mlflow_token, or mlflow_username and mlflow_password' : '';
    throw new BelfryError('BELFRY_MLFLOW_REFUSED', `MLflow, ${what}: status ${status}: ${messageOf(text)}${cure}`, {
      field: what,
    });
  }
}

function readyVersion({ version, status }: Static<typeof Version>, what: string): string {
  if (status === undefined || status === 'READY') return version;
  throw new BelfryError('BELFRY_MLFLOW_REFUSED', `MLflow, ${what}: version ${version} is ${status}, not READY`, {
    field: what,
  });
}

async function* readSafely(body: AsyncIterable<unknown>, what: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) yield chunk as Buffer;
  } catch (error) {
    throw unreachable(what, error);
  }
}

async function readBounded(body: AsyncIterable<Buffer>, what: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES) throw invalidAnswer(what, `an answer is larger than ${ANSWER_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** MLflow's own words, where it says some. */
function messageOf(text: string): string {
  const message = /"message":\s*"((?:[^"\\]|\\.)*)"/.exec(text)?.[1];
  return message ?? text;
}

function unreachable(what: string, cause: unknown): BelfryError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const reason = message === '' || message === undefined ? code : message;
  return new BelfryError('BELFRY_MLFLOW_UNREACHABLE', `MLflow, ${what}: ${reason}`, { field: 'mlflow_url', cause });
}

export function invalidAnswer(what: string, reason: string): BelfryError {
  return new BelfryError('BELFRY_MLFLOW_INVALID', `MLflow, ${what}: ${reason}`, { field: what });
}
