/**
 * Refuses requests that search before they are parsed, for less than half of what an answer costs, while a turn of the event loop is
 * longer than a share of their deadline: so the time goes into those that were read first.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { loadAddon } from '../ann/addon.js';
import { BelfryError } from '../errors.js';
import { loopTurn, type Turn } from '../retrieval/loop-turn.js';
import type { Metrics } from '../telemetry/metrics.js';
import { envelope } from './errors.js';

const SEARCHES = /^\/(retrieve|similar)/;
/** Of the deadline. The rest of the time is for the turns that a request still needs, and for those that are refused. */
const TURN_SHARE = 0.25;
/** The same for a turn without another long one in the second before: that is an accident, such as a collection of garbage. */
const LONE_TURN_SHARE = 0.5;
const LONE_MS = 1000;
/** A turn of fewer requests is long because the process did not get the processor, and refusing the rest would not shorten it. */
const REQUESTS_LEAST = 16;
/** The system counts ages in ticks of 1 to 10 ms, and one that has just begun counts as a whole one. */
const TICK_MS = 10;

/** Milliseconds that the request which is being read has waited in its socket; 0 where the system does not say. */
function waitOf(socket: Socket): number {
  const { fd = -1 } = (socket as { _handle?: { fd?: number } })._handle ?? {};
  const age = fd < 0 ? 0 : loadAddon().socketAge(fd);
  return age <= TICK_MS ? 0 : age;
}

export function shedEarly(app: FastifyInstance, timeoutMs: number, metrics: Metrics): void {
  const { server } = app;
  const [handle] = server.listeners('request') as ((request: IncomingMessage, reply: ServerResponse) => void)[];
  const error = new BelfryError('BELFRY_OVERLOADED', 'the service is overloaded; try again in a second');
  const errors = metrics.errors.labels({ code: error.code });
  let turn: Turn | undefined;
  let count = 0;
  let lastLong: Turn | undefined;
  let isLone = true;

  const isTooLong = (turn: Turn): boolean => {
    if (count <= REQUESTS_LEAST) return false;
    const age = performance.now() - turn.readAt;
    if (age <= TURN_SHARE * timeoutMs) return false;
    if (turn !== lastLong) {
      isLone = lastLong === undefined || turn.readAt - lastLong.readAt > LONE_MS;
      lastLong = turn;
    }
    return !isLone || age > LONE_TURN_SHARE * timeoutMs;
  };

  server.removeAllListeners('request');
  server.on('request', (request: IncomingMessage, reply: ServerResponse) => {
    const { socket, url = '' } = request;
    const before = turn;
    turn = loopTurn(() => waitOf(socket));
    count = turn === before ? count + 1 : 1;
    const isShed = request.method === 'POST' && SEARCHES.test(url) && isTooLong(turn);
    if (!isShed) return handle!.call(server, request, reply);
    errors.inc();
    metrics.overload.shed.inc({ priority: url.startsWith('/retrieve/batch') ? 'batch' : 'online', reason: 'turn' });
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
