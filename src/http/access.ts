/**
 * Who may ask what. One guard a route, made when the route is added: where no keys are configured, the routes of requests
 * have none and cost nothing.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { FailedKeys } from '../access/failures.js';
import type { Caller, KeyRing } from '../access/key-ring.js';
import { digestOf, isSameSecret, KEY_PATTERN, SCOPES, type Scope } from '../access/keys.js';
import { isLoopback } from '../config/addresses.js';
import type { Settings } from '../config/schema.js';
import { BelfryError } from '../errors.js';
import { isOfThisMachine } from './admin-access.js';
import type { AdminDoor } from './admin-door.js';
import { ABOUT_ALL_USERS, type Decision, decisionOf, isScope, withSecurity } from './decisions.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Whose key came with the request; null without keys. */
    caller: Caller | null;
  }
}

export interface AccessParts {
  readonly settings: Pick<Settings, 'host' | 'admin_key'>;
  readonly keys?: KeyRing | undefined;
  readonly adminDoor?: AdminDoor | undefined;
}

type Guard = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void;

/** Parameters by which keys are sent to other services. */
const KEY_PARAMETERS = /[?&](api[-_]?key|key|access[-_]?token|token|authorization|auth)=/i;

/** To be called before any route is added. */
export function installAccess(app: FastifyInstance, parts: AccessParts): void {
  const access = new Access(parts);
  app.decorateRequest('caller', null);
  app.addHook('preClose', async () => parts.adminDoor?.close());
  app.addHook('onRequest', (request, _reply, done) => {
    done(holdsKey(request.raw.url as string) ? keyInAddress() : undefined);
  });
  app.addHook('onRoute', (route) => {
    const decision = decisionOf(route.url) ?? 'admin';
    const schema = withSecurity(route.schema, decision);
    if (schema !== undefined) route.schema = schema;
    route.onRequest = [...access.guards(decision), ...listOf(route.onRequest)];
    if (parts.keys !== undefined && isScope(decision)) route.preHandler = [afterBody, ...listOf(route.preHandler)];
  });
}

class Access {
  readonly #failed = new FailedKeys();
  readonly #adminDigest: Buffer | undefined;
  readonly #admin: Caller = {
    id: 'admin_key',
    name: 'admin_key',
    scopes: new Set(SCOPES),
    userPrefix: undefined,
    allowance: undefined,
  };
  readonly #isLocal: boolean;

  constructor(private readonly parts: AccessParts) {
    const { admin_key, host } = parts.settings;
    this.#adminDigest = admin_key === undefined ? undefined : digestOf(admin_key);
    this.#isLocal = isLoopback(host);
  }

  guards(decision: Decision): Guard[] {
    const guards: Guard[] = [];
    const door = this.parts.adminDoor;
    if (door !== undefined && (decision === 'admin' || decision === 'page')) guards.push(doorGuard(door, decision));
    const isAsked = decision === 'admin' || (decision === 'write' && !this.#isLocal) || this.parts.keys !== undefined;
    if (isScope(decision) && isAsked) {
      guards.push((request, _reply, done) => {
        try {
          request.caller = this.#authorize(request, decision);
        } catch (error) {
          return done(error as Error);
        }
        done();
      });
    }
    return guards;
  }

  /** Errors: BELFRY_UNAUTHORIZED, BELFRY_FORBIDDEN, BELFRY_RATE_LIMITED, BELFRY_QUOTA_EXCEEDED. */
  #authorize(request: FastifyRequest, scope: Scope): Caller | null {
    const { keys } = this.parts;
    const hasKeys = keys !== undefined || this.#adminDigest !== undefined;
    const sent = hasKeys ? sentKey(request) : undefined;
    if (sent === undefined && keys === undefined && isOfThisMachine(request)) return null;
    if (!hasKeys) throw new BelfryError('BELFRY_FORBIDDEN', withoutKeys(scope));
    const caller = sent === undefined ? undefined : this.#callerOf(sent);
    if (caller === undefined) throw this.#refuse(request, sent);
    if (!caller.scopes.has(scope)) {
      throw new BelfryError(
        'BELFRY_FORBIDDEN',
        `this key has the scopes ${[...caller.scopes].join(', ')}; ${request.method} ${request.routeOptions.url} needs ${scope}`,
      );
    }
    caller.allowance?.take(1);
    return caller;
  }

  #callerOf(sent: string): Caller | undefined {
    const isAdmin = this.#adminDigest !== undefined && isSameSecret(sent, this.#adminDigest);
    return this.parts.keys?.find(sent) ?? (isAdmin ? this.#admin : undefined);
  }

  /** The same words whether a key is missing, unknown, wrong or expired. */
  #refuse(request: FastifyRequest, sent: string | undefined): BelfryError {
    const wait = sent === undefined ? undefined : this.#failed.count(request.ip);
    if (wait !== undefined) {
      return new BelfryError('BELFRY_RATE_LIMITED', 'too many wrong keys from this address', {
        retryAfterSeconds: wait,
      });
    }
    if (sent !== undefined)
      request.log.warn({ address: request.ip, url: request.routeOptions.url }, 'a key was refused');
    return new BelfryError(
      'BELFRY_UNAUTHORIZED',
      'a key of this server is needed: "authorization: Bearer <key>", or "x-api-key: <key>"',
      { field: 'authorization' },
    );
  }
}

/** What is not for everybody has an address of its own; people on this machine are shown the way to the page. */
function doorGuard(door: AdminDoor, decision: 'admin' | 'page'): Guard {
  return (request, reply, done) => {
    if (door.isThrough(request.raw)) return done();
    const isLocal = isOfThisMachine(request);
    if (decision === 'page' && isLocal) {
      void reply.header('cache-control', 'no-store').redirect(`${door.address}${request.raw.url}`, 307);
      return;
    }
    const path = (request.raw.url as string).split('?')[0]?.slice(0, 80);
    const where = isLocal ? `: ${door.address}${path}` : ', which by default only its own machine reaches';
    done(
      new BelfryError(
        'BELFRY_NOT_FOUND',
        `${request.method} ${path}: no such route here; ${decision === 'admin' ? 'administration has' : 'pages have'} an address of ${decision === 'admin' ? 'its' : 'their'} own${where}`,
      ),
    );
  };
}

function sentKey({ headers }: FastifyRequest): string | undefined {
  const own = headers['x-api-key'];
  if (own !== undefined) return String(own);
  const { authorization } = headers;
  if (authorization === undefined) return undefined;
  return /^bearer /i.test(authorization) ? authorization.slice('bearer '.length) : authorization;
}

function holdsKey(url: string): boolean {
  return (url.includes('?') && KEY_PARAMETERS.test(url)) || (url.includes('belfry_') && KEY_PATTERN.test(url));
}

function keyInAddress(): BelfryError {
  return new BelfryError(
    'BELFRY_UNAUTHORIZED',
    'keys are taken from a header only ("authorization: Bearer <key>"): addresses end up in logs. If this was a real key, rotate it: belfry keys rotate',
    { field: 'authorization' },
  );
}

/** What is known only with the body: how many requests a batch holds, and which users are named. */
const afterBody: Guard = ({ caller, body, routeOptions }, _reply, done) => {
  if (caller === null || (caller.userPrefix === undefined && caller.allowance === undefined)) return done();
  const requests = (body as { requests?: unknown[] } | undefined)?.requests;
  try {
    if (requests !== undefined && requests.length > 1) caller.allowance?.take(requests.length - 1, true);
    if (caller.userPrefix !== undefined) {
      if (ABOUT_ALL_USERS.has(routeOptions.url as string)) throw onlyUsers(caller.userPrefix);
      for (const one of requests ?? [body]) assertUser(caller.userPrefix, one);
    }
  } catch (error) {
    return done(error as Error);
  }
  done();
};

/** Decided by the id alone: whether such a user exists is not told. */
function assertUser(prefix: string, request: unknown): void {
  const id = (request as { user_id?: unknown } | undefined)?.user_id;
  if (id !== undefined && !(typeof id === 'string' && id.startsWith(prefix))) throw onlyUsers(prefix);
}

function onlyUsers(prefix: string): BelfryError {
  return new BelfryError(
    'BELFRY_FORBIDDEN',
    `user_id: this key is for users whose ids begin with ${JSON.stringify(prefix)}`,
    { field: 'user_id' },
  );
}

function withoutKeys(scope: Scope): string {
  if (scope === 'admin')
    return 'administration: only from this machine (127.0.0.1), and not through a proxy or from another site; to allow more, make a key with belfry keys add --scopes admin (setting keys), or set admin_key, and send it as "authorization: Bearer <key>"';
  return `${scope}: only from this machine (127.0.0.1) while the server has no keys; make one with belfry keys add --scopes ${scope} (setting keys), and send it as "authorization: Bearer <key>"`;
}

function listOf<T>(hooks: T | T[] | undefined): T[] {
  return hooks === undefined ? [] : Array.isArray(hooks) ? hooks : [hooks];
}
