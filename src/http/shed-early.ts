/**
 * Refuses requests that search while a turn of the event loop is longer than a share of their deadline: before they are
 * parsed, for a tenth of what an answer costs, so that the time goes into those that were read first.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyInstance } from 'fastify';
import { BelfryError } from '../errors.js';
import { turnStart } from '../retrieval/loop-turn.js';
import type { Metrics } from '../telemetry/metrics.js';
import { envelope } from './errors.js';

const SEARCHES = /^\/(retrieve|similar)/;
/** The rest of the time is for the turns that a request still needs, and for those that are refused. */
const TURN_SHARE = 0.25;
/** A turn of fewer requests is long because the process did not get the processor; refusing the rest would not shorten it. */
const REQUESTS_LEAST = 16;

export function shedEarly(app: FastifyInstance, timeoutMs: number, metrics: Metrics): void {
  const { server } = app;
  const [handle] = server.listeners('request') as ((request: IncomingMessage, reply: ServerResponse) => void)[];
  const turnMax = TURN_SHARE * timeoutMs;
  const error = new BelfryError('BELFRY_OVERLOADED', 'the service is overloaded; try again in a second');
  const errors = metrics.errors.labels({ code: error.code });
  let turn = 0;
  let count = 0;
  server.removeAllListeners('request');
  server.on('request', (request: IncomingMessage, reply: ServerResponse) => {
    const started = turnStart();
    count = started === turn ? count + 1 : 1;
    turn = started;
    const isShed =
      count > REQUESTS_LEAST &&
      performance.now() - started > turnMax &&
      request.method === 'POST' &&
      SEARCHES.test(request.url ?? '');
    if (!isShed) return handle!.call(server, request, reply);
    errors.inc();
    metrics.overload.shed.inc({
      priority: request.url!.startsWith('/retrieve/batch') ? 'batch' : 'online',
      reason: 'turn',
    });
    const id = randomUUID();
    const body = JSON.stringify(envelope(error, id));
    reply.writeHead(error.statusCode, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'retry-after': '1',
      'x-request-id': id,
    });
    reply.end(body);
  });
}
