/** Error tests assert code and message. */
import { expect } from 'vitest';
import { BelfryError, type ErrorCode } from '../../src/errors.js';

/** A string must be part of the message, a pattern must match it. Resolves to the error, for its field and limit. */
export async function expectError(
  work: (() => unknown) | Promise<unknown>,
  code: ErrorCode,
  message: string | RegExp,
): Promise<BelfryError> {
  let caught: unknown;
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    caught = error;
  }
  expect(caught, `expected ${code}`).toBeInstanceOf(BelfryError);
  const error = caught as BelfryError;
  expect({ code: error.code, message: error.message }).toEqual({
    code,
    message: typeof message === 'string' ? expect.stringContaining(message) : expect.stringMatching(message),
  });
  return error;
}
