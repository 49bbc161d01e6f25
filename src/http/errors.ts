/** Whatever goes wrong in a request becomes one envelope: `{code, message, field?, limit?, request_id}`. */
import { randomUUID } from 'node:crypto';
import { maxHeaderSize, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { explain, type SchemaError } from '../config/explain.js';
import { BelfryError } from '../errors.js';
import type { Metrics } from '../telemetry/metrics.js';
import { closeLate } from './late-clients.js';

export interface ErrorEnvelope {
  code: string;
  message: string;
  field?: string;
  limit?: number | string;
  request_id: string;
}

const METHODS: HTTPMethods[] = ['GET', 'POST', 'PUT', 'DELETE'];

export function installErrorHandlers(app: FastifyInstance, metrics: Metrics): void {
  app.setErrorHandler((error: FastifyError, request, reply) => sendError(error, request, reply, metrics));
  app.setNotFoundHandler((request, reply) => {
    const url = request.url.split('?')[0] as string;
    const others = METHODS.filter((method) => app.hasRoute({ url, method }));
    const asked = `${request.method} ${url.length > 80 ? `${url.slice(0, 77)}...` : url}`;
    const error =
      others.length > 0
        ? new BelfryError('BELFRY_METHOD_NOT_ALLOWED', `${asked}: use ${others.join(' or ')}`)
        : new BelfryError('BELFRY_NOT_FOUND', `${asked}: no such route; see /docs`);
    metrics.errors.inc({ code: error.code });
    if (others.length > 0) reply.header('allow', others.join(', '));
    return send(reply, error, request);
  });
}

/** For what never becomes a request: the answer is written to the socket by hand. */
export function answerBrokenClient(error: Error & { code?: string }, socket: Socket, metrics: Metrics): void {
  if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') closeLate(socket, () => endBroken(error, socket, metrics));
  else endBroken(error, socket, metrics);
}

function endBroken(error: Error & { code?: string }, socket: Socket, metrics: Metrics): void {
  if (error.code !== 'ECONNRESET' && socket.writable) {
    const known = toSocketError(error.code);
    metrics.errors.inc({ code: known.code });
    const body = JSON.stringify(envelope(known, randomUUID()));
    const head = `HTTP/1.1 ${known.statusCode} ${STATUS_CODES[known.statusCode]}`;
    socket.write(
      `${head}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
  }
  socket.destroy(error);
}

function toSocketError(code: string | undefined): BelfryError {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return late();
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new BelfryError(
      'BELFRY_HEADERS_TOO_LARGE',
      `headers: expected at most ${maxHeaderSize} bytes with the address; ids and vectors belong into a body`,
      { limit: maxHeaderSize },
    );
  }
  return new BelfryError('BELFRY_MALFORMED_REQUEST', 'request: not well-formed HTTP/1.1');
}

function late(): BelfryError {
  return new BelfryError('BELFRY_REQUEST_TIMEOUT', 'the request did not arrive in time');
}

/** `refusal` is the status of errors that have none of their own: those of builds and generations. */
export function sendError(
  error: FastifyError,
  request: FastifyRequest,
  reply: FastifyReply,
  metrics: Metrics,
  refusal = 500,
) {
  const known = toBelfryError(error, request);
  if (!isShown(known, refusal)) request.log.error({ err: error, code: known.code }, 'request failed');
  metrics.errors.inc({ code: known.code });
  return send(reply, known, request, refusal);
}

function send(reply: FastifyReply, error: BelfryError, request: FastifyRequest, refusal = 500): FastifyReply {
  const status = error.statusCode || refusal;
  const { retryAfterSeconds = status === 503 ? 1 : undefined } = error;
  if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds));
  if (status === 401) reply.header('www-authenticate', 'Bearer realm="belfry"');
  reply.header('x-request-id', request.id);
  return reply
    .code(status)
    .type('application/json')
    .send(envelope(error, request.id, refusal));
}

/** Text of a 5xx stays in the log: it may name files and models. 503 and 504 say what the caller can do. */
export function isShown({ statusCode }: BelfryError, refusal = 500): boolean {
  const status = statusCode || refusal;
  return status === 503 || status === 504 || status < 500;
}

export function envelope(error: BelfryError, requestId: string, refusal = 500): ErrorEnvelope {
  const shown = isShown(error, refusal);
  return {
    code: error.code,
    message: shown
      ? error.message
      : 'the request failed inside the service; its log has the reason under this request id',
    ...(shown && error.field !== undefined ? { field: error.field } : {}),
    ...(shown && error.limit !== undefined ? { limit: error.limit } : {}),
    request_id: requestId,
  };
}

function toBelfryError(error: FastifyError, request: FastifyRequest): BelfryError {
  if (error instanceof BelfryError) return error;
  if (error.validation !== undefined) {
    const { field, message, limit } = explain(
      error.validation as unknown as SchemaError[],
      validated(error.validationContext, request),
    );
    const place =
      error.validationContext === 'body' || error.validationContext === undefined ? '' : `${error.validationContext}: `;
    return new BelfryError(
      'BELFRY_INVALID_ARGUMENT',
      `${place}${field === '' ? message.replace(/^value/, 'body') : message}`,
      {
        ...(field === '' ? {} : { field }),
        ...(limit === undefined ? {} : { limit }),
      },
    );
  }
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE': {
      const limit = request.routeOptions.bodyLimit ?? 0;
      return new BelfryError(
        'BELFRY_BODY_TOO_LARGE',
        `body: expected at most ${limit} bytes; send fewer ids or requests at once`,
        { limit },
      );
    }
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new BelfryError(
        'BELFRY_UNSUPPORTED_MEDIA_TYPE',
        `content-type: expected application/json, received ${JSON.stringify(request.headers['content-type'] ?? '')}`,
        { field: 'content-type' },
      );
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new BelfryError('BELFRY_INVALID_JSON', 'body: expected a JSON object, received nothing');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new BelfryError('BELFRY_INVALID_JSON', 'body: its length differs from the content-length header');
    case 'FST_ERR_BAD_URL':
      return new BelfryError('BELFRY_MALFORMED_REQUEST', 'address: a percent sign must begin two hexadecimal digits');
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new BelfryError('BELFRY_MALFORMED_REQUEST', 'address: an id in it is too long');
    case 'FST_UNDER_PRESSURE':
      return new BelfryError('BELFRY_OVERLOADED', 'the service is overloaded; try again in a second');
  }
  if (error.statusCode === 400) return new BelfryError('BELFRY_INVALID_JSON', `body: not JSON (${error.message})`);
  if (error.statusCode === 408) return late();
  // Of a plugin, for example a precondition that a file of the page does not fulfil.
  if (error.statusCode !== undefined && error.statusCode > 400 && error.statusCode < 500)
    return new BelfryError('BELFRY_MALFORMED_REQUEST', `request: ${error.message}`);
  return new BelfryError('BELFRY_INTERNAL', error.message, { cause: error });
}

function validated(part: FastifyError['validationContext'], { query, params, body }: FastifyRequest): unknown {
  if (part === 'querystring') return query;
  return part === 'params' ? params : body;
}
