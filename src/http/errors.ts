/** Whatever goes wrong in a request becomes one envelope: `{code, message, field?, limit?, request_id}`. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { explain, type SchemaError } from '../config/explain.js';
import { BelfryError } from '../errors.js';
import type { Metrics } from '../telemetry/metrics.js';

export interface ErrorEnvelope {
  code: string;
  message: string;
  field?: string;
  limit?: number | string;
  request_id: string;
}

const METHODS: HTTPMethods[] = ['GET', 'POST', 'PUT', 'DELETE'];

export function installErrorHandlers(app: FastifyInstance, metrics: Metrics): void {
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const known = toBelfryError(error, request);
    if (known.statusCode === 0 || known.statusCode >= 500)
      request.log.error({ err: error, code: known.code }, 'request failed');
    metrics.errors.inc({ code: known.code });
    return send(reply, known, request);
  });
  app.setNotFoundHandler((request, reply) => {
    const url = request.url.split('?')[0] as string;
    const others = METHODS.filter((method) => app.hasRoute({ url, method }));
    const error =
      others.length > 0
        ? new BelfryError('BELFRY_METHOD_NOT_ALLOWED', `${request.method} ${url}: use ${others.join(' or ')}`)
        : new BelfryError('BELFRY_NOT_FOUND', `${request.method} ${url}: no such route; see /docs`);
    metrics.errors.inc({ code: error.code });
    if (others.length > 0) reply.header('allow', others.join(', '));
    return send(reply, error, request);
  });
}

function send(reply: FastifyReply, error: BelfryError, request: FastifyRequest): FastifyReply {
  const status = error.statusCode || 500;
  if (status === 503) reply.header('retry-after', '1');
  return reply.code(status).type('application/json').send(envelope(error, request.id));
}

/** Text of a 5xx stays in the log: it may name files and models. 503 and 504 say what the caller can do. */
export function envelope(error: BelfryError, requestId: string): ErrorEnvelope {
  const status = error.statusCode || 500;
  const isShown = status < 500 || status === 503 || status === 504;
  return {
    code: error.code,
    message: isShown
      ? error.message
      : 'the request failed inside the service; its log has the reason under this request id',
    ...(isShown && error.field !== undefined ? { field: error.field } : {}),
    ...(isShown && error.limit !== undefined ? { limit: error.limit } : {}),
    request_id: requestId,
  };
}

function toBelfryError(error: FastifyError, request: FastifyRequest): BelfryError {
  if (error instanceof BelfryError) return error;
  if (error.validation !== undefined) {
    const { field, message, limit } = explain(error.validation as unknown as SchemaError[], request.body);
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
    case 'FST_UNDER_PRESSURE':
      return new BelfryError('BELFRY_OVERLOADED', 'the service is overloaded; try again in a second');
  }
  if (error.statusCode === 400) return new BelfryError('BELFRY_INVALID_JSON', `body: not JSON (${error.message})`);
  if (error.statusCode === 408) return new BelfryError('BELFRY_REQUEST_TIMEOUT', 'the request did not arrive in time');
  return new BelfryError('BELFRY_INTERNAL', error.message, { cause: error });
}
