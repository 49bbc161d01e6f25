/**
 * What a caller must have to ask a route: the one list. A route that is not in it is for administrators; a test fails until
 * somebody has decided.
 */
import type { RouteOptions } from 'fastify';
import { SCOPES, type Scope } from '../access/keys.js';

/** A scope; or nothing: `open` tells nothing of the data, a `page` is for people who operate the server. */
export type Decision = Scope | 'open' | 'page';

const ROUTES: Readonly<Record<string, Decision>> = {
  '/retrieve': 'retrieve',
  '/retrieve/batch': 'retrieve',
  '/similar/items': 'retrieve',
  '/similar/users': 'retrieve',
  '/items/:id': 'write',
  '/models': 'metrics',
  '/metrics': 'metrics',
  '/healthz': 'open',
  '/readyz': 'open',
  '/openapi.json': 'open',
  '/': 'page',
  '/docs': 'page',
  '*': 'open', // preflights, which carry no key by definition
};
const PREFIXES: readonly (readonly [string, Decision])[] = [
  ['/admin/', 'admin'],
  ['/console/', 'retrieve'],
  ['/docs/', 'page'],
];
/** Files of the page. */
const PAGE_FILE = /^\/[\w.-]+\.(html|js|css|svg)$/;

export function decisionOf(url: string): Decision | undefined {
  const known = Object.hasOwn(ROUTES, url) ? ROUTES[url] : undefined;
  return (
    known ?? PREFIXES.find(([prefix]) => url.startsWith(prefix))?.[1] ?? (PAGE_FILE.test(url) ? 'page' : undefined)
  );
}

/** Requests of these answer with ids of users, or are about all of them: not for a key that is bound to some. */
export const ABOUT_ALL_USERS: ReadonlySet<string> = new Set(['/similar/users', '/console/users', '/console/info']);

export const isScope = (decision: Decision): decision is Scope => (SCOPES as readonly string[]).includes(decision);

/** How the OpenAPI document says what is needed. */
export const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: 'A key of `belfry keys`, where the server has any.' },
  header: { type: 'apiKey', in: 'header', name: 'x-api-key', description: 'The same key in a header of its own.' },
} as const;

export function withSecurity(schema: RouteOptions['schema'], decision: Decision): RouteOptions['schema'] {
  if (!isScope(decision) || (schema as { hide?: boolean } | undefined)?.hide === true) return schema;
  return { ...schema, security: [{ bearer: [decision] }, { header: [decision] }] } as RouteOptions['schema'];
}
