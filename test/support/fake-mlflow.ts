/**
 * An MLflow server that a test holds in its hand: as much of its REST interface as finds the files of a version, in the
 * form that `mlflow server` 3.17 gives them (test/interop/mlflow.test.ts asks the real one). Strict about paths and keys.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeMlflow {
  readonly url: string;
  /** name → version → file → content. */
  models: Record<string, Record<string, Record<string, Uint8Array>>>;
  /** name → alias → version. */
  aliases: Record<string, Record<string, string>>;
  /** name/version → where its artifacts are, instead of proxied. */
  uris: Record<string, string>;
  /** Answers in its place where it returns true. */
  fault: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined;
  token: string | undefined;
  readonly asked: string[];
  close(): Promise<void>;
}

const API = '/api/2.0/mlflow/';
const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';

export async function startFakeMlflow(): Promise<FakeMlflow> {
  const fake: Omit<FakeMlflow, 'url' | 'close'> = {
    models: {},
    aliases: {},
    uris: {},
    fault: undefined,
    token: undefined,
    asked: [],
  };
  const server = createServer((request, response) => {
    fake.asked.push(request.url!);
    if (fake.fault?.(request, response) === true) return;
    if (fake.token !== undefined && request.headers.authorization !== `Bearer ${fake.token}`)
      return void send(response, 401, { error_code: 'UNAUTHENTICATED', message: 'not you' });
    const { pathname, searchParams } = new URL(request.url!, 'http://x');
    if (pathname.startsWith(API)) return answer(fake, pathname.slice(API.length), searchParams, response);
    if (pathname === ARTIFACTS) return list(fake, searchParams.get('path')!, response);
    const content = fileAt(fake, decodeURIComponent(pathname.slice(ARTIFACTS.length + 1)));
    if (content === undefined) return void send(response, 404, { error_code: 'RESOURCE_DOES_NOT_EXIST', message: '' });
    response.writeHead(200, { 'content-type': 'application/octet-stream' }).end(content);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(fake, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
}

type State = Omit<FakeMlflow, 'url' | 'close'>;

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function answer(fake: State, call: string, query: URLSearchParams, response: ServerResponse): void {
  const name = query.get('name')!;
  const known = fake.models[name];
  const missing = (message: string) => send(response, 404, { error_code: 'RESOURCE_DOES_NOT_EXIST', message });
  if (known === undefined) return missing(`Registered Model with name=${name} not found`);
  const described = (version: string) => ({ name, version, current_stage: 'None', status: 'READY' });
  if (call === 'registered-models/alias') {
    const version = fake.aliases[name]?.[query.get('alias')!];
    if (version !== undefined) return send(response, 200, { model_version: described(version) });
    return send(response, 400, {
      error_code: 'INVALID_PARAMETER_VALUE',
      message: `Registered model alias ${query.get('alias')} not found.`,
    });
  }
  if (call === 'registered-models/get-latest-versions') {
    const version = fake.aliases[name]?.[query.get('stages')!];
    return send(response, 200, version === undefined ? {} : { model_versions: [described(version)] });
  }
  const version = query.get('version')!;
  if (known[version] === undefined) return missing(`Model Version (name=${name}, version=${version}) not found`);
  if (call === 'model-versions/get') return send(response, 200, { model_version: described(version) });
  if (call === 'model-versions/get-download-uri')
    return send(response, 200, {
      artifact_uri: fake.uris[`${name}/${version}`] ?? `mlflow-artifacts:/0/models/${name}/${version}/artifacts`,
    });
  send(response, 404, { error_code: 'ENDPOINT_NOT_FOUND', message: call });
}

function filesOf(fake: State, path: string): [files: Record<string, Uint8Array>, rest: string] | undefined {
  const match = /^0\/models\/([^/]+)\/(\d+)\/artifacts\/?(.*)$/.exec(path);
  const files = match === null ? undefined : fake.models[match[1]!]?.[match[2]!];
  return files === undefined ? undefined : [files, match![3]!];
}

function fileAt(fake: State, path: string): Uint8Array | undefined {
  const [files, rest] = filesOf(fake, path) ?? [{}, ''];
  return files[rest];
}

function list(fake: State, path: string, response: ServerResponse): void {
  const [files, folder] = filesOf(fake, path) ?? [{}, ''];
  const below = folder === '' ? '' : `${folder}/`;
  const entries = new Map<string, object>();
  for (const [file, content] of Object.entries(files)) {
    if (!file.startsWith(below)) continue;
    const [first, ...more] = file.slice(below.length).split('/');
    entries.set(
      first!,
      more.length > 0 ? { path: first, is_dir: true } : { path: first, is_dir: false, file_size: content.length },
    );
  }
  send(response, 200, { files: [...entries.values()] });
}
