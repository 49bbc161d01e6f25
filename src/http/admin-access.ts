/**
 * Who may administer: callers on this machine, and callers with the admin key. A page in a browser on this machine, and a
 * proxy on it that passes on the requests of others, are not "on this machine".
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { BelfryError } from '../errors.js';

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+)$/;
const LOCAL_HOST = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/i;
const PROXY_HEADERS = ['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'];

/** Errors: BELFRY_UNAUTHORIZED, BELFRY_FORBIDDEN. */
export function assertMayAdminister(request: FastifyRequest, adminKey: string | undefined): void {
  const sent = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (sent !== undefined && adminKey !== undefined) {
    if (isSame(sent, adminKey)) return;
    throw new BelfryError('BELFRY_UNAUTHORIZED', 'authorization: the admin key is wrong', { field: 'authorization' });
  }
  if (isOfThisMachine(request)) return;
  if (adminKey !== undefined) {
    throw new BelfryError('BELFRY_UNAUTHORIZED', 'authorization: expected "Bearer <admin key>"', {
      field: 'authorization',
    });
  }
  throw new BelfryError(
    'BELFRY_FORBIDDEN',
    'administration: only from this machine (127.0.0.1), and not through a proxy or from another site; to allow more, set admin_key and send it as "authorization: Bearer <admin key>"',
  );
}

function isOfThisMachine({ socket, headers }: FastifyRequest): boolean {
  return (
    LOOPBACK.test(socket.remoteAddress ?? '') &&
    // A name that resolves to 127.0.0.1 may be that of a page that somebody was led to.
    LOCAL_HOST.test(headers.host ?? '') &&
    PROXY_HEADERS.every((name) => headers[name] === undefined) &&
    (headers['sec-fetch-site'] === undefined || ['same-origin', 'none'].includes(String(headers['sec-fetch-site']))) &&
    (headers.origin === undefined || headers.origin === `http://${headers.host}`)
  );
}

/** In the same time wherever they differ, and whatever their lengths. */
function isSame(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
