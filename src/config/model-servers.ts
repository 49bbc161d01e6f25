/** The settings `model_server` and `model_servers`: where scorers run that do not run in process (docs/model-server.md). */
import { type Static, Type } from 'typebox';
import { BelfryError } from '../errors.js';
import { serviceAddress } from './addresses.js';

/** What `model_server` is called, and what a registry row without a server's name means. */
export const DEFAULT_SERVER = 'default';

const Timeout = Type.Integer({ minimum: 10, maximum: 10_000, description: 'most time of one call to a model server' });

export const ModelServersSchema = Type.Record(
  Type.String({ pattern: '^[a-z0-9][a-z0-9_-]{0,31}$' }),
  Type.Object(
    {
      url: Type.String({ minLength: 1, description: 'http://host:port or https://, perhaps with a path' }),
      authorization: Type.Optional(
        Type.String({
          minLength: 1,
          maxLength: 4096,
          description: 'header of that name, for example "Bearer …"; $NAME is the environment variable NAME',
        }),
      ),
      timeout_ms: Type.Optional(Timeout),
      connections: Type.Optional(Type.Integer({ minimum: 1, maximum: 1024 })),
      max_response_bytes: Type.Optional(Type.Integer({ minimum: 1024, maximum: 1 << 30 })),
      tensors: Type.Optional(
        Type.Union([Type.Literal('auto'), Type.Literal('binary'), Type.Literal('json')], {
          description: 'how tensors travel; auto: binary where the server says that it takes it',
        }),
      ),
    },
    { additionalProperties: false },
  ),
  { maxProperties: 32, description: 'KServe v2 servers (Triton, KServe, MLServer) by name; settings file' },
);

/** A server with its address checked and its secret read. */
export interface ModelServerSettings {
  readonly name: string;
  readonly url: string;
  readonly authorization?: string | undefined;
  readonly timeoutMs?: number | undefined;
  readonly connections?: number | undefined;
  readonly maxResponseBytes?: number | undefined;
  readonly tensors?: 'auto' | 'binary' | 'json' | undefined;
  readonly allowLinkLocal?: boolean | undefined;
}

interface Written {
  readonly model_server?: string | undefined;
  readonly model_servers?: Static<typeof ModelServersSchema> | undefined;
  readonly allow_link_local?: boolean | undefined;
}

/** Error: BELFRY_CONFIG_INVALID, which never shows a secret. */
export function readModelServers(
  { model_server, model_servers = {}, allow_link_local }: Written,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ModelServerSettings[] {
  const refuse = (field: string, message: string) =>
    new BelfryError('BELFRY_CONFIG_INVALID', `${field}: ${message}`, { field });
  const addressOf = (text: string, field: string): string => {
    const url = serviceAddress(text, field, { allowLinkLocal: allow_link_local });
    if (url.username !== '' || url.password !== '')
      throw refuse(field, 'has a user name or password; set `authorization` of the server in model_servers');
    if (url.search !== '' || url.hash !== '') throw refuse(field, 'has a query or a fragment; name the server alone');
    return url.href;
  };
  const servers = Object.entries(model_servers).map(([name, server]): ModelServerSettings => {
    const field = `model_servers.${name}`;
    const { authorization } = server;
    const secret = authorization?.startsWith('$') === true ? environment[authorization.slice(1)] : authorization;
    if (authorization !== undefined && secret === undefined)
      throw refuse(`${field}.authorization`, `the environment has no ${authorization.slice(1)}`);
    if (secret !== undefined && !/^[\x20-\x7e\t]+$/.test(secret))
      throw refuse(`${field}.authorization`, 'has characters that a header cannot hold');
    return {
      name,
      url: addressOf(server.url, `${field}.url`),
      authorization: secret,
      timeoutMs: server.timeout_ms,
      connections: server.connections,
      maxResponseBytes: server.max_response_bytes,
      tensors: server.tensors,
      allowLinkLocal: allow_link_local,
    };
  });
  if (model_server === undefined) return servers;
  if (servers.some(({ name }) => name === DEFAULT_SERVER))
    throw refuse('model_server', `model_servers has a server ${DEFAULT_SERVER}, too; set one of them`);
  return [
    { name: DEFAULT_SERVER, url: addressOf(model_server, 'model_server'), allowLinkLocal: allow_link_local },
    ...servers,
  ];
}
