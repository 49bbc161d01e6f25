/** When the process is too busy to take a request at all: refused unread, but for those who look after it. */
import type underPressure from '@fastify/under-pressure';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { OverloadSettings } from '../config/overload.js';
import { BelfryError } from '../errors.js';

const SAMPLE_MS = 500;
/** Health, metrics and administration go before everything else. */
const ALWAYS = /^\/(healthz|readyz|metrics|admin)(\/|\?|$)/;

export function pressureLimits({
  loop_delay_max_ms,
}: Pick<OverloadSettings, 'loop_delay_max_ms'>): underPressure.FastifyUnderPressureOptions {
  return {
    maxEventLoopDelay: loop_delay_max_ms,
    sampleInterval: SAMPLE_MS,
    pressureHandler: (request: FastifyRequest, _reply: FastifyReply, _type: string, value: number | undefined) => {
      // Infinity is what the package makes of a sample without a single look: unknown, not late.
      if (ALWAYS.test(request.url) || value === Number.POSITIVE_INFINITY) return;
      throw new BelfryError(
        'BELFRY_OVERLOADED',
        `the event loop is behind by ${Math.round(value ?? 0)} ms; try again in a second`,
        { limit: loop_delay_max_ms },
      );
    },
  };
}
