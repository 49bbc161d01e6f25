/** What the log says of requests: the slow ones with their stages, and a share of all where that is asked for. */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Settings } from '../config/schema.js';

/** As ids of requests look; a longer or stranger one is no id, and could forge lines of a log. */
const WELL_FORMED = /^[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}$/;

/** The caller's own id, so that his log and ours name a request alike; otherwise a new one. */
export function requestIdOf(headers: IncomingHttpHeaders): string {
  const sent = headers['x-request-id'];
  return typeof sent === 'string' && WELL_FORMED.test(sent) ? sent : randomUUID();
}

export type RequestLogSettings = Pick<Settings, 'slow_request_ms' | 'access_log_share'>;

/** Nothing is added to requests where both are off. */
export function installRequestLog(
  app: FastifyInstance,
  { slow_request_ms: slowMs, access_log_share: share }: RequestLogSettings,
  random: () => number = Math.random,
): void {
  if (slowMs === 0 && share === 0) return;
  app.addHook('onResponse', (request, reply, done) => {
    if (slowMs > 0 && reply.elapsedTime >= slowMs) request.log.warn(lineOf(request, reply), 'slow request');
    else if (share > 0 && random() < share) request.log.info(lineOf(request, reply), 'request');
    done();
  });
}

/** The route, not the address: ids of users and items stay out of the log. */
function lineOf(request: FastifyRequest, reply: FastifyReply): Record<string, unknown> {
  const timing = reply.getHeader('server-timing');
  return {
    route: `${request.method} ${request.routeOptions.url ?? 'none'}`,
    status: reply.statusCode,
    ms: Math.round(reply.elapsedTime * 1000) / 1000,
    ...(typeof timing === 'string' ? { stages_ms: stagesOf(timing) } : {}),
  };
}

/** `query;dur=0.1, search;dur=0.2` as an object. */
function stagesOf(timing: string): Record<string, number> {
  const stages = timing.split(', ').map((one): [string, number] => {
    const [name = '', ms = ''] = one.split(';dur=');
    return [name, Number(ms)];
  });
  return Object.fromEntries(stages);
}
