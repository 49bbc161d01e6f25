/**
 * Who is on this machine: the caller of a loopback address. A page in a browser on this machine, and a proxy on it that
 * passes on the requests of others, are not.
 */
import type { FastifyRequest } from 'fastify';
import { isLoopback } from '../config/addresses.js';

const LOCAL_HOST = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/i;
const PROXY_HEADERS = ['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'];

export function isOfThisMachine({ socket, headers }: Pick<FastifyRequest, 'socket' | 'headers'>): boolean {
  return (
    isLoopback(socket.remoteAddress ?? '') &&
    // A name that resolves to 127.0.0.1 may be that of a page that somebody was led to.
    LOCAL_HOST.test(headers.host ?? '') &&
    PROXY_HEADERS.every((name) => headers[name] === undefined) &&
    (headers['sec-fetch-site'] === undefined || ['same-origin', 'none'].includes(String(headers['sec-fetch-site']))) &&
    (headers.origin === undefined || /^https?:\/\/(.*)$/.exec(headers.origin)?.[1] === headers.host)
  );
}
