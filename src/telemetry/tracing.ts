/**
 * OpenTelemetry traces, optional: Belfry speaks to the API package only, and whoever runs it brings SDK and exporter
 * (`node --import ./telemetry.mjs`). Off, a request pays for one look at a variable.
 */
import type * as Otel from '@opentelemetry/api';
import { BelfryError } from '../errors.js';
import { VERSION } from '../version.js';

let api: typeof Otel | undefined;

/** A stage of a request as it ran; times in milliseconds of performance.now(). */
export interface StageSpan {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** From now on, for the whole process. Error: BELFRY_CONFIG_INVALID with the command that installs the package. */
export async function enableTracing(): Promise<void> {
  try {
    api = await import('@opentelemetry/api');
  } catch (error) {
    throw new BelfryError(
      'BELFRY_CONFIG_INVALID',
      'traces: the package @opentelemetry/api cannot be loaded; install it with: npm install @opentelemetry/api, beside the SDK of your choice',
      { field: 'traces', cause: error },
    );
  }
}

export function disableTracing(): void {
  api = undefined;
}

export function isTracing(): boolean {
  return api !== undefined;
}

/** A request in the trace of its caller (W3C traceparent), or in one of its own. */
export class ServerSpan {
  private readonly span: Otel.Span;
  private readonly context: Otel.Context;

  private constructor(
    private readonly otel: typeof Otel,
    name: string,
    headers: Readonly<Record<string, unknown>>,
    attributes: Otel.Attributes,
  ) {
    const parent = otel.propagation.extract(otel.context.active(), headers);
    this.span = tracerOf(otel).startSpan(name, { kind: otel.SpanKind.SERVER, attributes }, parent);
    this.context = otel.trace.setSpan(parent, this.span);
  }

  /** Undefined when traces are off. */
  static start(
    name: string,
    headers: Readonly<Record<string, unknown>>,
    attributes: Otel.Attributes,
  ): ServerSpan | undefined {
    return api === undefined ? undefined : new ServerSpan(api, name, headers, attributes);
  }

  /** What `work` begins, and all that follows from it, belongs to this request. */
  run(work: () => void): void {
    this.otel.context.with(this.context, work);
  }

  end(status: number): void {
    this.span.setAttribute('http.response.status_code', status);
    if (status >= 500) this.span.setStatus({ code: this.otel.SpanStatusCode.ERROR });
    this.span.end();
  }
}

/** The stages of the request that runs, below its span, which gets the attributes. */
export function traceStages(stages: readonly StageSpan[], attributes: Otel.Attributes): void {
  if (api === undefined) return;
  const context = api.context.active();
  const request = api.trace.getSpan(context);
  if (request === undefined || !request.isRecording()) return;
  request.setAttributes(attributes);
  const tracer = tracerOf(api);
  for (const { name, startMs, endMs } of stages) {
    const startTime = performance.timeOrigin + startMs;
    tracer.startSpan(`belfry.${name}`, { startTime }, context).end(performance.timeOrigin + endMs);
  }
}

/** Headers that put a call to another service into the trace of the request that makes it. */
export function traceHeaders(): Readonly<Record<string, string>> {
  if (api === undefined) return NO_HEADERS;
  const headers: Record<string, string> = {};
  api.propagation.inject(api.context.active(), headers);
  return headers;
}

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});

function tracerOf(otel: typeof Otel): Otel.Tracer {
  return otel.trace.getTracer('belfry', VERSION);
}
